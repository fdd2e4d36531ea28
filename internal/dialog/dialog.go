package dialog

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// Protocol says which form replies must have.
type Protocol int

// The protocols.
const (
	POP3 Protocol = iota
	SMTP
)

const (
	// maxReplyLine is the longest reply line of both protocols with its CRLF (RFC 2449 §4, RFC 5321 §4.5.3.1.5).
	maxReplyLine = 512
	// patience bounds a whole transcript.
	patience = 20 * time.Second
)

// Player plays transcripts. The zero Player plays POP3.
type Player struct {
	Protocol Protocol
	// Vars are the variables.
	Vars map[string]string
	// Answers are variables of what is sent that depend on what the server said: they are given the last line that was read.
	Answers map[string]func(line string) string
	// Dial makes the connections of NEW; it may be nil where there is none.
	Dial func() (net.Conn, error)
	// Split, if not 0, cuts what is sent into writes of that many octets: a server must not care.
	Split int
}

// Run plays one file over conn, which it closes. The first thing that differs ends the test.
func Run(t testing.TB, conn net.Conn, protocol Protocol, file string, vars map[string]string) {
	t.Helper()
	Player{Protocol: protocol, Vars: vars}.Run(t, conn, file)
}

// Run plays one file over conn, which it closes.
func (p Player) Run(t testing.TB, conn net.Conn, file string) {
	t.Helper()
	defer func() { _ = conn.Close() }() // the server may have been first
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.play(conn, string(text)); err != nil {
		t.Fatalf("%s:%v", file, err)
	}
}

// play is Run for a text; an error begins with the line's number.
func (p Player) play(conn net.Conn, text string) error {
	steps, err := p.parse(text)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	r := &run{Player: p, conn: conn, r: bufio.NewReader(conn)}
	defer func() { _ = r.conn.Close() }() // it may be another one by then
	for i, s := range steps {
		if s.joined {
			continue
		}
		for j := i + 1; j < len(steps) && steps[j].joined; j++ {
			s.text += steps[j].text
		}
		if err := r.step(s); err != nil {
			return fmt.Errorf("%d: %w", s.line, err)
		}
	}
	return nil
}

type kind int

const (
	send kind = iota
	closeOurs
	expect
	expectEOF
	startTLS
	connectAnew
)

type step struct {
	line   int
	kind   kind
	text   string
	joined bool
}

func (p Player) parse(text string) ([]step, error) {
	var steps []step
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s := step{line: i + 1}
		word, rest, _ := strings.Cut(line, " ")
		rest, err := p.expand(rest)
		if err == nil && strings.Contains(word, "!") {
			rest, err = unescape(rest)
		}
		if err != nil {
			return nil, fmt.Errorf("%d: %w", i+1, err)
		}
		s.text = rest
		switch word {
		case "C:", "C+:":
			s.text += "\r\n"
			if rest == "EOF" {
				s.kind = closeOurs
			}
		case "C!:", "C+!:":
		case "S:", "S!:":
			s.kind = expect
			if rest == "EOF" {
				s.kind = expectEOF
			}
		case "TLS":
			s.kind = startTLS
		case "NEW":
			s.kind = connectAnew
		default:
			return nil, fmt.Errorf("%d: unknown step %q", i+1, word)
		}
		s.joined = strings.HasPrefix(word, "C+")
		if s.joined && (s.kind != send || len(steps) == 0 || steps[len(steps)-1].kind != send) {
			return nil, fmt.Errorf("%d: nothing to join", i+1)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

var variable = regexp.MustCompile(`\{\{(\w+)\}\}`)

func (p Player) expand(s string) (string, error) {
	var missing error
	s = variable.ReplaceAllStringFunc(s, func(m string) string {
		name := m[2 : len(m)-2]
		v, ok := p.Vars[name]
		if p.Answers[name] != nil {
			return m // known when the line is sent
		}
		if !ok {
			missing = fmt.Errorf("no variable %s", m)
		}
		return v
	})
	return s, missing
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", errors.New("escape without an end")
		}
		switch s[i] {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if i+2 >= len(s) {
				return "", errors.New("\\x needs two hex digits")
			}
			v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", err
			}
			b.WriteByte(byte(v))
			i += 2
		default:
			return "", fmt.Errorf("unknown escape \\%c", s[i])
		}
	}
	return b.String(), nil
}

// run is a transcript being played.
type run struct {
	Player
	conn net.Conn
	r    *bufio.Reader
	last string // line that was read
	// positive is set after a POP3 status line with +OK, body inside a multi-line reply; code is the code of an SMTP reply that goes on.
	positive, body bool
	code           string
}

func (r *run) step(s step) error {
	switch s.kind {
	case send:
		return r.send(s.text)
	case closeOurs:
		if half, ok := r.conn.(interface{ CloseWrite() error }); ok {
			return half.CloseWrite()
		}
		return r.conn.Close()
	case expect:
		return r.expect(s.text)
	case expectEOF:
		b, err := r.r.ReadByte()
		if err == nil {
			return fmt.Errorf("got octet %q, want the end", b)
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return fmt.Errorf("connection not closed: %w", err)
		}
		return nil
	case connectAnew:
		return r.connectAnew()
	default:
		if r.r.Buffered() > 0 {
			return errors.New("server sent something before the TLS handshake")
		}
		conn := tls.Client(r.conn, &tls.Config{InsecureSkipVerify: true}) // a test's own certificate
		if err := conn.Handshake(); err != nil {
			return err
		}
		r.conn, r.r = conn, bufio.NewReader(conn)
		return nil
	}
}

// connectAnew closes the connection and makes another.
func (r *run) connectAnew() error {
	_ = r.conn.Close() // the server may have been first
	if r.Dial == nil {
		return errors.New("no way to connect anew")
	}
	conn, err := r.Dial()
	if err != nil {
		return err
	}
	*r = run{Player: r.Player, conn: conn, r: bufio.NewReader(conn)}
	return conn.SetDeadline(time.Now().Add(patience))
}

func (r *run) send(text string) error {
	text = variable.ReplaceAllStringFunc(text, func(m string) string {
		if answer := r.Answers[m[2:len(m)-2]]; answer != nil {
			return answer(r.last)
		}
		return m
	})
	size := len(text)
	if r.Split > 0 {
		size = r.Split
	}
	for len(text) > 0 {
		n := min(size, len(text))
		if _, err := io.WriteString(r.conn, text[:n]); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

func (r *run) expect(want string) error {
	line, err := r.r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("got %q (%w), want %q", line, err, want)
	}
	got, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return fmt.Errorf("got %q, a line without CRLF", line)
	}
	r.last = got
	if r.Protocol == SMTP {
		err = r.checkSMTP(got)
	} else {
		err = r.checkPOP3(got, want)
	}
	if err == nil && !matches(got, want) {
		err = fmt.Errorf("got %q, want %q", got, want)
	}
	return err
}

// matches compares a line with one that may hold {*}.
func matches(got, want string) bool {
	parts := strings.Split(want, "{*}")
	if len(parts) == 1 {
		return got == want
	}
	got, ok := strings.CutPrefix(got, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(got, part)
		if i < 0 {
			return false
		}
		got = got[i+len(part):]
	}
	return strings.HasSuffix(got, last)
}

var (
	// RFC 1939 §3, RFC 2449 §3 (text begins with "[" only for a response code) and §8, RFC 3206, RFC 5034 §4, RFC 6856 §2.
	positiveLine = regexp.MustCompile(`^\+OK( ([!-Z\\-~][ -~]*)?)?$`)
	negativeLine = regexp.MustCompile(`^-ERR( (\[(IN-USE|LOGIN-DELAY|SYS/TEMP|SYS/PERM|AUTH|UTF8)\]( [ -~]*)?|[!-Z\\-~][ -~]*)?)?$`)
	continuation = regexp.MustCompile(`^\+ ([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$`)
	// RFC 5321 §4.2, RFC 2034 §3.
	smtpLine     = regexp.MustCompile(`^([2-5][0-5][0-9])([ -][\t -~]*)?$`)
	enhancedCode = regexp.MustCompile(`^[ -]([245])\.[0-9]{1,3}\.[0-9]{1,3}( |$)`)
)

// checkPOP3 checks the form of a line. After a positive status line it is the transcript that says whether the reply goes on.
func (r *run) checkPOP3(got, want string) error {
	if r.positive && !r.body && !isStatus(want) {
		r.body = true
	}
	r.positive = false
	form := got
	if strings.IndexFunc(want, isForeign) >= 0 {
		form = strings.Map(asASCII, got) // for a client that asked for it (RFC 6856 §3.2)
	}
	switch {
	case r.body && got == ".":
		r.body = false
	case r.body && strings.HasPrefix(got, ".") && !strings.HasPrefix(got, ".."):
		return fmt.Errorf("got %q, a line that is not dot-stuffed", got)
	case r.body, continuation.MatchString(got):
	case len(got) > maxReplyLine-2:
		return fmt.Errorf("got %q, which is too long for a POP3 reply", got)
	case positiveLine.MatchString(form):
		r.positive = true
	case !negativeLine.MatchString(form):
		return fmt.Errorf("got %q, which is no POP3 reply", got)
	}
	return nil
}

func isForeign(r rune) bool { return r > '~' && r != utf8.RuneError && unicode.IsPrint(r) }

// asASCII puts a letter for what is printable but not ASCII.
func asASCII(r rune) rune {
	if isForeign(r) {
		return 'x'
	}
	return r
}

// isStatus reports whether a line of a transcript begins a reply.
func isStatus(line string) bool {
	return strings.HasPrefix(line, "+OK") || strings.HasPrefix(line, "+ ") || strings.HasPrefix(line, "-ERR") || line == "{*}"
}

func (r *run) checkSMTP(got string) error {
	m := smtpLine.FindStringSubmatch(got)
	if m == nil || len(got) > maxReplyLine-2 {
		return fmt.Errorf("got %q, which is no SMTP reply", got)
	}
	code, rest := m[1], m[2]
	if r.code != "" && code != r.code {
		return fmt.Errorf("got %q in a reply that began with %s", got, r.code)
	}
	r.code = ""
	if strings.HasPrefix(rest, "-") {
		r.code = code
	}
	if e := enhancedCode.FindStringSubmatch(rest); e != nil && e[1] != code[:1] {
		return fmt.Errorf("got %q, whose codes disagree", got)
	}
	return nil
}
