package pop3

import (
	"io"
	"strings"
)

// cmdCapa lists the capabilities (RFC 2449 §5). The list is the same before and after login: JavaMail asks once, before.
func cmdCapa(c *Conn, arg string) reply {
	if len(fields(arg)) > 0 {
		return bad("CAPA has no arguments")
	}
	lines := []string{"TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING"}
	if c.passwordRefusal() == nil {
		lines = append(lines, "USER")
	}
	if mechanisms := c.mechanisms(); len(mechanisms) > 0 {
		lines = append(lines, "SASL "+strings.Join(mechanisms, " "))
	}
	if _, secure := c.TLS(); !secure && c.server.TLSConfig != nil {
		lines = append(lines, "STLS")
	}
	if c.server.Expire != "" {
		lines = append(lines, "EXPIRE "+printable(c.server.Expire))
	}
	if c.server.Implementation != "" {
		lines = append(lines, "IMPLEMENTATION "+printable(c.server.Implementation))
	}
	return list("capabilities follow", func(w *dotWriter) error {
		_, err := io.WriteString(w, strings.Join(lines, "\r\n")+"\r\n")
		return err
	})
}
