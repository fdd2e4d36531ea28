//go:build torture

package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// addresses are the local parts that mail of the tortures goes to, with the mailboxes behind them.
func addresses() map[string][]string {
	return map[string][]string{
		"anna": {"anna"}, "bert": {"bert"}, "carl": {"carl"}, "desk": {"anna"}, "pair": {"bert", "carl"}, tenantName: {tenantName}, "team": {"anna", "bert", "carl"},
	}
}

// mailboxes are those of addresses.
func mailboxes() []string { return []string{"anna", "bert", "carl"} }

// lineLen is the length of most lines of a letter, with CRLF.
const lineLen = 76

// appendLine adds line i of a letter's body: what it is depends on the token and the number, so nothing can be exchanged unnoticed.
func appendLine(b []byte, token string, i int) []byte {
	if i%31 == 30 {
		return append(b, "\r\n"...)
	}
	start := len(b)
	if i%50 == 7 {
		b = append(b, '.')
	}
	b = append(b, token...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(i), 10)
	b = append(b, ' ')
	for len(b)-start < lineLen-2 {
		b = append(b, 'a'+byte((i+len(b)-start)%26))
	}
	return append(b, "\r\n"...)
}

// appendLetter adds the octets of a message of about so many octets. fields are further ones of its header.
func appendLetter(b []byte, token string, size int, fields string) []byte {
	lines := max(1, (size-100)/lineLen)
	b = fmt.Appendf(b, "%sX-Token: %s\r\nX-Lines: %d\r\n\r\n", fields, token, lines)
	for i := range lines {
		b = appendLine(b, token, i)
	}
	return b
}

// stuffed doubles dots at the beginning of lines and adds the final one (RFC 5321 §4.5.2).
func stuffed(text []byte) []byte {
	if bytes.HasPrefix(text, []byte(".")) {
		text = append([]byte("."), text...)
	}
	return append(bytes.ReplaceAll(text, []byte("\r\n."), []byte("\r\n..")), ".\r\n"...)
}

// letterCheck reads a message line by line, without dot-stuffing and with CRLF, and compares it with what its token says it is.
type letterCheck struct {
	token      string
	lines, got int
	body       bool
	want       []byte
	err        error
}

func (c *letterCheck) line(b []byte) {
	switch {
	case c.err != nil:
	case !c.body && len(b) == 2:
		if c.body = true; c.token == "" || c.lines == 0 {
			c.err = errors.New("the header is not one of a letter")
		}
	case !c.body:
		if v, ok := bytes.CutPrefix(b, []byte("X-Token: ")); ok {
			c.token = string(bytes.TrimSpace(v))
		}
		if v, ok := bytes.CutPrefix(b, []byte("X-Lines: ")); ok {
			c.lines, c.err = strconv.Atoi(string(bytes.TrimSpace(v)))
		}
	default:
		c.want = appendLine(c.want[:0], c.token, c.got)
		if !bytes.Equal(b, c.want) || c.got >= c.lines {
			c.err = fmt.Errorf("line %d of %d is %.100q, want %.100q", c.got, c.lines, b, c.want)
		}
		c.got++
	}
}

// end says whether the whole message was right.
func (c *letterCheck) end() error {
	if c.err == nil && (!c.body || c.got != c.lines) {
		c.err = fmt.Errorf("%d lines of %d", c.got, c.lines)
	}
	return c.err
}

// letterSize is the size of the next letter: mostly small, some around a block of checksums, some around what is kept in memory.
func letterSize(dice *rand.Rand) int {
	switch n := dice.IntN(100); {
	case n < 68:
		return 200 + dice.IntN(2500)
	case n < 86:
		return 3000 + dice.IntN(40_000)
	case n < 91:
		return 64<<10 - 800 + dice.IntN(1600)
	case n < 95:
		return 128<<10 - 800 + dice.IntN(1600)
	default:
		return 132<<10 + dice.IntN(400<<10)
	}
}

// errRefused is an answer that says no.
type errRefused struct{ command, line string }

func (e *errRefused) Error() string { return fmt.Sprintf("%.20q: got %q", e.command, e.line) }

// isRefused reports whether a client was told no, rather than cut off.
func isRefused(err error) bool {
	var refused *errRefused
	return errors.As(err, &refused)
}

// isTimeout reports whether nobody answered in time.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// mailClient speaks SMTP.
type mailClient struct {
	conn net.Conn
	r    *bufio.Reader
}

// dialMail connects to a door and says EHLO.
func (v *victim) dialMail(door string) (*mailClient, error) {
	conn, err := net.DialTimeout("tcp", v.doors[door], patience)
	if err != nil {
		return nil, err
	}
	c := &mailClient{conn: conn, r: bufio.NewReaderSize(conn, 512)}
	err = conn.SetDeadline(time.Now().Add(2 * patience))
	if err == nil {
		err = c.ask("", "220")
	}
	if err == nil {
		err = c.ask("EHLO torture.example\r\n", "250")
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// dialSubmission connects to the submission door and logs in.
func (v *victim) dialSubmission(account string) (*mailClient, error) {
	c, err := v.dialMail("submission")
	if err != nil {
		return nil, err
	}
	login := base64.StdEncoding.EncodeToString([]byte("\x00" + account + "\x00" + victimPassword))
	if err := c.ask("AUTH PLAIN "+login+"\r\n", "235"); err != nil {
		return nil, errors.Join(err, c.conn.Close())
	}
	return c, nil
}

// ask sends commands and wants a reply that begins in a certain way to each; an empty text is no command, and its reply is read only.
func (c *mailClient) ask(text string, want ...string) error {
	if text != "" {
		if _, err := io.WriteString(c.conn, text); err != nil {
			return err
		}
	}
	var refused error
	for _, w := range want {
		line, err := c.reply()
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, w) && refused == nil {
			refused = &errRefused{text, line}
		}
	}
	return refused
}

func (c *mailClient) reply() (string, error) {
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimRight(line, "\r\n"), nil
		}
	}
}

// envelope begins a message, up to the 354.
func (c *mailClient) envelope(from string, rcpts ...string) error {
	text, want := "MAIL FROM:<"+from+">\r\n", []string{"250"}
	for _, rcpt := range rcpts {
		text += "RCPT TO:<" + rcpt + ">\r\n"
		want = append(want, "250")
	}
	return c.ask(text+"DATA\r\n", append(want, "354")...)
}

// popClient speaks POP3.
type popClient struct {
	conn net.Conn
	r    *bufio.Reader
}

// dialPOP connects and logs in.
func (v *victim) dialPOP(account string) (*popClient, error) {
	conn, err := net.DialTimeout("tcp", v.doors["pop3"], patience)
	if err != nil {
		return nil, err
	}
	c := &popClient{conn: conn, r: bufio.NewReaderSize(conn, 32<<10)}
	err = conn.SetDeadline(time.Now().Add(2 * patience))
	for _, command := range []string{"", "USER " + account, "PASS " + victimPassword} {
		if err == nil {
			_, err = c.ask(command)
		}
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// ask sends a command, unless it is empty, and wants +OK.
func (c *popClient) ask(command string) (string, error) {
	if command != "" {
		if _, err := io.WriteString(c.conn, command+"\r\n"); err != nil {
			return "", err
		}
	}
	line, err := c.r.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "+OK") {
		err = &errRefused{command, strings.TrimSpace(line)}
	}
	return line, err
}

// lines reads the lines of an answer up to the dot; each is valid until the next.
func (c *popClient) lines(each func(line []byte)) error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line[0] == '.' {
			if line = line[1:]; len(line) == 2 {
				return nil
			}
		}
		each(line)
	}
}

// list is UIDL.
func (c *popClient) list() (list []entry, err error) {
	if _, err := c.ask("UIDL"); err != nil {
		return nil, err
	}
	var wrong error
	err = c.lines(func(line []byte) {
		var n int
		var e entry
		if _, err := fmt.Sscanf(string(line), "%d %s", &n, &e.uid); err != nil || n != len(list)+1 {
			wrong = &errWrong{fmt.Sprintf("line of UIDL %q, want that of message %d", line, len(list)+1)}
		}
		list = append(list, e)
	})
	return list, errors.Join(err, wrong)
}

// errWrong is a message that is not what was sent.
type errWrong struct{ what string }

func (e *errWrong) Error() string { return e.what }

// retrieve reads messages from their numbers, all asked for at once, and calls each with the token. They are compared with what was sent.
func (c *popClient) retrieve(numbers []int, each func(n int, token string)) error {
	for part := range slices.Chunk(numbers, 32) {
		var commands strings.Builder
		for _, n := range part {
			fmt.Fprintf(&commands, "RETR %d\r\n", n)
		}
		if _, err := io.WriteString(c.conn, commands.String()); err != nil {
			return err
		}
		for _, n := range part {
			if _, err := c.ask(""); err != nil {
				return fmt.Errorf("RETR %d: %w", n, err)
			}
			var check letterCheck
			if err := c.lines(check.line); err != nil {
				return err
			}
			if err := check.end(); err != nil {
				return &errWrong{fmt.Sprintf("message %d, token %q: %v", n, check.token, err)}
			}
			each(n, check.token)
		}
	}
	return nil
}

// delete marks messages.
func (c *popClient) delete(numbers []int) error {
	var commands strings.Builder
	for _, n := range numbers {
		fmt.Fprintf(&commands, "DELE %d\r\n", n)
	}
	if _, err := io.WriteString(c.conn, commands.String()); err != nil {
		return err
	}
	for range numbers {
		if _, err := c.ask(""); err != nil {
			return err
		}
	}
	return nil
}

// read fetches a whole maildrop, octet by octet, and leaves it as it is.
func (v *victim) read(account string) ([]entry, error) {
	c, err := v.dialPOP(account)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.conn.Close() }() // after QUIT, or after what is reported
	list, err := c.list()
	if err != nil {
		return nil, err
	}
	numbers := make([]int, len(list))
	for i := range numbers {
		numbers[i] = i + 1
	}
	if err := c.retrieve(numbers, func(n int, token string) { list[n-1].token = token }); err != nil {
		return nil, err
	}
	_, err = c.ask("QUIT")
	return list, err
}

// judge compares all maildrops with the ledger.
func (v *victim) judge(l *ledger) {
	v.t.Helper()
	lists := map[string][]entry{}
	for account := range l.live {
		if account == tenantName && !v.tenant.touched {
			continue
		}
		if account == tenantName && !v.tenant.home {
			lists[account] = nil
			continue
		}
		list, err := v.read(account)
		if err != nil {
			v.t.Fatalf("%s: reading the maildrop of %s: %v\n%s", v.where, account, err, v.log.tail())
		}
		lists[account] = list
	}
	l.judge(lists)
}

// removeAll deletes all that the ledger's mailboxes hold, and waits for the answers.
func (v *victim) removeAll(l *ledger) {
	v.t.Helper()
	for account := range l.live {
		if err := v.removeFrom(l, account, func(int) bool { return true }); err != nil {
			v.t.Fatalf("deleting from %s: %v\n%s", account, err, v.log.tail())
		}
	}
}

// removeFrom deletes the messages of a mailbox whose number, from 0, is picked.
func (v *victim) removeFrom(l *ledger, account string, pick func(i int) bool) error {
	list, err := v.read(account)
	if err != nil {
		return err
	}
	c, err := v.dialPOP(account)
	if err != nil {
		return err
	}
	defer func() { _ = c.conn.Close() }() // after QUIT, or after what is reported
	var numbers []int
	var tokens []string
	for i, e := range list {
		if pick(i) {
			numbers, tokens = append(numbers, i+1), append(tokens, e.token)
		}
	}
	b := l.claim(account, tokens)
	if len(b.tokens) < len(tokens) {
		return fmt.Errorf("%d of %d messages of %s cannot be deleted: the ledger does not have them", len(tokens)-len(b.tokens), len(tokens), account)
	}
	if err := c.delete(numbers); err != nil {
		l.settle(b, false)
		return err
	}
	_, err = c.ask("QUIT")
	if err == nil || isRefused(err) {
		l.settle(b, err == nil)
	}
	return err
}

// deliver sends count messages of a size to bert until one is not taken. Every attempt has its own token.
func (v *victim) deliver(l *ledger, name string, count, size int) error {
	c, err := v.dialMail("mx")
	if err != nil {
		return err
	}
	defer func() { _ = c.conn.Close() }() // all is said
	for i := range count {
		if err := c.send(l, fmt.Sprintf("%s-%d", name, i), size, "bert"); err != nil {
			return err
		}
	}
	return nil
}

// send sends one letter to local parts of [addresses].
func (c *mailClient) send(l *ledger, token string, size int, to ...string) error {
	rcpts, accounts := expand(to)
	if err := c.envelope("torture@other.example", rcpts...); err != nil {
		return err
	}
	text := stuffed(appendLetter(nil, token, size, ""))
	const last = len("\r\n.\r\n")
	if _, err := c.conn.Write(text[:len(text)-last]); err != nil {
		return err
	}
	m := l.post(token, accounts)
	err := c.ask(string(text[len(text)-last:]), "250")
	switch {
	case err == nil:
		l.ack(m)
	case isRefused(err):
		l.refuse(m)
	}
	return err
}

// expand are the addresses of local parts, and the mailboxes that get one copy each.
func expand(to []string) (rcpts, accounts []string) {
	for _, name := range to {
		rcpts = append(rcpts, name+"@example.com")
		accounts = append(accounts, addresses()[name]...)
	}
	slices.Sort(accounts)
	return rcpts, slices.Compact(accounts)
}

// TestTortureLetter: a message that is not the one that was sent is noticed.
func TestTortureLetter(t *testing.T) {
	whole := appendLetter(nil, "t-1", 10_000, "Received: from here\r\n")
	check := func(text []byte) error {
		var c letterCheck
		for line := range bytes.Lines(text) {
			c.line(line)
		}
		return c.end()
	}
	if err := check(whole); err != nil {
		t.Errorf("the letter itself: %v", err)
	}
	other := appendLetter(nil, "t-2", 10_000, "Received: from here\r\n")
	for name, text := range map[string][]byte{
		"cut":      whole[:len(whole)-lineLen],
		"longer":   append(slices.Clone(whole), "more\r\n"...),
		"mixed":    append(slices.Clone(whole[:5000]), other[5000:]...),
		"turned":   append(slices.Clone(whole[:len(whole)-2*lineLen]), append(slices.Clone(whole[len(whole)-lineLen:]), whole[len(whole)-2*lineLen:len(whole)-lineLen]...)...),
		"zeros":    append(slices.Clone(whole[:4096]), append(make([]byte, 512), whole[4096+512:]...)...),
		"nothing":  nil,
		"one bit":  func() []byte { b := slices.Clone(whole); b[7000] ^= 1; return b }(),
		"no token": []byte("Subject: x\r\n\r\nbody\r\n"),
	} {
		if check(text) == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}
