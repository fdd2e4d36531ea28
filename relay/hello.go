package relay

import (
	"bufio"
	"net/textproto"
	"strconv"
	"strings"

	gosmtp "github.com/emersion/go-smtp"
)

const (
	// maxCapabilities bounds the lines of an EHLO reply that are looked at.
	maxCapabilities = 100
	// defaultRecipients are sent in one transaction to a host that announces no limit: each must take as many (RFC 5321 §4.5.3.1.8).
	defaultRecipients = 100
)

// capabilities are what a host announced (RFC 5321 §4.1.1.1) of what we can use.
type capabilities struct {
	startTLS, eightBit, utf8, dsn, requireTLS bool
	// pipelining is RFC 2920, chunking RFC 3030.
	pipelining, chunking bool
	// sized is set for SIZE (RFC 1870); size is the limit, 0 for none.
	sized bool
	size  int64
	// recipients is the limit of one transaction (RFC 9422), or our own; domains that of their domains, messages that of the transactions
	// of one connection, 0 for none.
	recipients, domains, messages int
	// auth are the SASL mechanisms, in capitals.
	auth []string
}

// parseCapabilities reads the text of an EHLO reply, its lines separated by LF. Keywords are case-blind. What cannot be read counts as
// not announced.
func parseCapabilities(text string) capabilities {
	c := capabilities{recipients: defaultRecipients}
	_, lines, _ := strings.Cut(text, "\n")
	for i, line := range strings.SplitN(lines, "\n", maxCapabilities+1) {
		if i == maxCapabilities {
			break
		}
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch args := words[1:]; strings.ToUpper(words[0]) {
		case "STARTTLS":
			c.startTLS = true
		case "8BITMIME":
			c.eightBit = true
		case "SMTPUTF8":
			c.utf8 = true
		case "REQUIRETLS":
			c.requireTLS = true
		case "DSN":
			c.dsn = true
		case "PIPELINING":
			c.pipelining = true
		case "CHUNKING":
			c.chunking = true
		case "SIZE":
			c.sized = true
			if len(args) > 0 {
				if n, err := strconv.ParseInt(args[0], 10, 64); err == nil && n > 0 {
					c.size = n
				}
			}
		case "LIMITS":
			c.limits(args)
		case "AUTH":
			for _, arg := range args {
				c.auth = append(c.auth, strings.ToUpper(arg))
			}
		}
	}
	return c
}

// limits reads the parameters of LIMITS (RFC 9422 §4). What is no number above 0 is no limit.
func (c *capabilities) limits(args []string) {
	for _, arg := range args {
		name, value, _ := strings.Cut(strings.ToUpper(arg), "=")
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 {
			continue
		}
		switch name {
		case "MAILMAX":
			c.messages = n
		case "RCPTMAX":
			c.recipients = min(n, defaultRecipients)
		case "RCPTDOMAINMAX":
			c.domains = n
		}
	}
}

// reply is the EHLO reply that go-smtp is given for them: of what it can use and in the letters that it knows.
func (c capabilities) reply() []byte {
	var b strings.Builder
	b.WriteString("250-host\r\n")
	for _, k := range []struct {
		on      bool
		keyword string
	}{{c.eightBit, "8BITMIME"}, {c.utf8, "SMTPUTF8"}, {c.dsn, "DSN"}, {c.requireTLS, "REQUIRETLS"}, {c.sized, "SIZE"}} {
		if k.on {
			b.WriteString("250-" + k.keyword + "\r\n")
		}
	}
	b.WriteString("250 HELP\r\n")
	return []byte(b.String())
}

// talk is the conversation before go-smtp's client takes over.
type talk struct {
	w    *wire
	buf  *bufio.Reader
	text *textproto.Reader
}

func newTalk(w *wire) *talk {
	buf := bufio.NewReader(w)
	return &talk{w: w, buf: buf, text: textproto.NewReader(buf)}
}

// read waits for one reply with the wanted code; another reply is a *gosmtp.SMTPError. Input behind it is an error: whoever sends it
// answers what was not asked yet, or puts words into another's mouth before TLS begins (RFC 3207 §5).
func (t *talk) read(want int) (string, error) {
	code, text, err := t.text.ReadResponse(0)
	switch {
	case err != nil:
		return "", err
	case t.buf.Buffered() > 0:
		return "", errUnasked
	case code != want:
		return "", toReply(code, text)
	}
	return text, nil
}

// ask sends one command line and waits for its reply.
func (t *talk) ask(want int, line string) (string, error) {
	if t.buf.Buffered() > 0 {
		return "", errUnasked
	}
	if _, err := t.w.Write([]byte(line + "\r\n")); err != nil {
		return "", err
	}
	return t.read(want)
}

// hello says EHLO, or HELO to a host that is too old for it (RFC 5321 §3.2).
func (t *talk) hello(hostname string) (capabilities, error) {
	text, err := t.ask(250, "EHLO "+hostname)
	if err == nil {
		return parseCapabilities(text), nil
	}
	if reply, ok := err.(*gosmtp.SMTPError); !ok || reply.Code < 500 || reply.Code > 599 { //nolint:errorlint // made by read, never wrapped
		return capabilities{}, err
	}
	_, err = t.ask(250, "HELO "+hostname)
	return capabilities{recipients: defaultRecipients}, err
}

// toReply reads a reply's enhanced code (RFC 2034 §4), which stands at the beginning of each of its lines.
func toReply(code int, text string) *gosmtp.SMTPError {
	reply := &gosmtp.SMTPError{Code: code, Message: text}
	first, rest, _ := strings.Cut(text, " ")
	parts := strings.Split(first, ".")
	if len(parts) != 3 {
		return reply
	}
	var e gosmtp.EnhancedCode
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 999 {
			return reply
		}
		e[i] = n
	}
	reply.EnhancedCode, reply.Message = e, strings.ReplaceAll(rest, "\n"+first+" ", "\n")
	return reply
}
