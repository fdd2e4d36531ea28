package pop3_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/pop3"
	"latchkey/pop3/pop3test"
)

// fuzzLines bounds the lines that are taken from one input.
const fuzzLines = 100

// scene is where a fuzzed session begins.
type scene struct {
	prologue []string
	tls      *tls.Config // from the first octet; nil: none
	set      func(b *pop3test.Backend)
	quits    bool // at the end
}

// rival talks to a server one line at a time, and knows what it must not hear. Time is fake.
type rival struct {
	t     *testing.T
	conn  net.Conn
	ended chan struct{} // closed when the server has ended the connection

	mu    sync.Mutex // protects heard
	heard []byte

	stamp     string // of the greeting
	challenge string // the last one
	asked     bool   // it is to be answered
	open      bool   // logged in
	marks     map[int]bool
	deleted   []int // by a QUIT that was answered +OK
}

// play plays an input in a scene. A client that stays waits for the server to end it; one that does not goes without the end of its last line.
func (sc scene) play(t *testing.T, input []byte, stays bool) {
	b := &pop3test.Backend{Mechanisms: []string{"PLAIN", "LOGIN", "CRAM-MD5", "TWO-STEP"}, Last: true}
	b.Add("alice", "secret", messageOne, messageDots, messageUTF8)
	if sc.set != nil {
		sc.set(b)
	}
	s, l := newServer(b.APOP()), newPipeListener()
	done := make(chan error, 1)
	go func() {
		if sc.tls != nil {
			done <- s.Serve(tls.NewListener(l, sc.tls))
			return
		}
		done <- s.Serve(l)
	}()
	ours, theirs := net.Pipe()
	l.conns <- theirs
	r := &rival{t: t, conn: ours, ended: make(chan struct{}), marks: map[int]bool{}}
	if sc.tls != nil {
		r.conn = tls.Client(ours, &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
	}
	go r.listen()
	synctest.Wait()
	r.greeted()
	lines := sc.prologue
	for i, line := range strings.Split(string(input), "\n") {
		if i < fuzzLines {
			lines = append(slices.Clip(lines), strings.TrimSuffix(line, "\r"))
		}
	}
	if sc.quits {
		lines = append(lines, "*", "QUIT")
	}
	for _, line := range lines {
		if !r.say(line) {
			break
		}
	}
	r.leave(stays)
	_ = ours.Close()
	if err := errors.Join(s.Close(), unlessClosed(<-done)); err != nil {
		t.Error(err)
	}
	if b.Logouts() != 1 {
		t.Errorf("%d logouts", b.Logouts())
	}
	left := slices.DeleteFunc([]int{1, 2, 3}, func(n int) bool { return slices.Contains(r.deleted, n) })
	want := []string{}
	for _, n := range left {
		want = append(want, "uid"+strconv.Itoa(n))
	}
	if got := b.UIDs("alice"); !slices.Equal(got, want) {
		t.Errorf("left in the maildrop: %v, want %v", got, want)
	}
}

func (r *rival) listen() {
	defer close(r.ended)
	piece := make([]byte, 4096)
	for {
		n, err := r.conn.Read(piece)
		r.mu.Lock()
		r.heard = append(r.heard, piece[:n]...)
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take returns what was heard since the last time, when the server waits for more.
func (r *rival) take() string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	got := string(r.heard)
	r.heard = nil
	return got
}

func (r *rival) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

func (r *rival) greeted() {
	greeting := r.take()
	open, end := strings.IndexByte(greeting, '<'), strings.IndexByte(greeting, '>')
	if !strings.HasPrefix(greeting, "+OK pop.test") || open < 0 || end < open {
		r.t.Fatalf("greeting %q", greeting)
	}
	r.stamp = greeting[open : end+1]
}

// proof puts the right proof in the place of a word that nobody can guess.
func (r *rival) proof(line string) string {
	switch line {
	case "!cram":
		mac := hmac.New(md5.New, []byte("secret"))
		mac.Write([]byte(r.challenge))
		return base64.StdEncoding.EncodeToString([]byte("alice " + hex.EncodeToString(mac.Sum(nil))))
	case "!apop":
		sum := md5.Sum([]byte(r.stamp + "secret"))
		return "APOP alice " + hex.EncodeToString(sum[:])
	}
	return line
}

// say says a line and reads its one answer. It is false when the connection has ended.
func (r *rival) say(line string) bool {
	line = r.proof(line)
	if _, err := io.WriteString(r.conn, line+"\r\n"); err != nil {
		if !r.over() {
			r.t.Errorf("%q could not be said: %v", line, err)
		}
		return false
	}
	answer := r.take()
	name, arg, _ := strings.Cut(strings.TrimSuffix(line, "\r"), " ")
	if r.asked {
		name, arg = "a response", ""
	}
	name, arg = strings.ToUpper(name), strings.Trim(arg, " \t")
	r.check(line, name, arg, answer)
	r.learn(name, arg, answer)
	return !r.over()
}

// check wants one answer in form.
func (r *rival) check(line, name, arg, answer string) {
	first, rest, _ := strings.Cut(answer, "\r\n")
	ok := strings.HasPrefix(first, "+OK")
	listing := slices.Contains([]string{"CAPA", "LIST", "UIDL", "AUTH", "LANG"}, name) && arg == "" || name == "RETR" || name == "TOP"
	switch {
	case !strings.HasSuffix(answer, "\r\n") || strings.ContainsAny(first, "\r\n\x00") || len(first) > 510:
		r.t.Errorf("%q: the answer %q is no line", line, answer)
	case strings.HasPrefix(first, "+ "):
		if name != "AUTH" && name != "A RESPONSE" || rest != "" {
			r.t.Errorf("%q: got a challenge %q", line, answer)
		}
	case !ok && !strings.HasPrefix(first, "-ERR"):
		r.t.Errorf("%q: got %q", line, answer)
	case ok && listing:
		if rest = "\r\n" + rest; !strings.HasSuffix(rest, "\r\n.\r\n") || strings.Count(rest, "\r\n.\r\n") != 1 {
			r.t.Errorf("%q: got %q, which does not end once", line, answer)
		}
	case rest != "":
		r.t.Errorf("%q: got two answers: %q", line, answer)
	}
}

// learn follows the session.
func (r *rival) learn(name, arg, answer string) {
	ok := strings.HasPrefix(answer, "+OK")
	r.asked = strings.HasPrefix(answer, "+ ")
	if r.asked {
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(answer[2:], "\r\n"))
		if err != nil {
			r.t.Errorf("challenge %q: %v", answer, err)
		}
		r.challenge = string(challenge)
	}
	n, _ := strconv.Atoi(arg)
	switch {
	case !ok:
	case name == "PASS", name == "APOP", name == "AUTH" && arg != "", name == "A RESPONSE":
		if r.open {
			r.t.Errorf("%s: logged in twice", name)
		}
		r.open = true
	case !r.open:
		if slices.Contains([]string{"STAT", "LIST", "RETR", "DELE", "NOOP", "RSET", "TOP", "UIDL", "LAST"}, name) {
			r.t.Errorf("%s before login: got %q", name, answer)
		}
	case name == "DELE":
		if r.marks[n] {
			r.t.Errorf("message %d is marked twice", n)
		}
		r.marks[n] = true
	case name == "RETR", name == "TOP":
		if n, _ := strconv.Atoi(strings.Fields(arg)[0]); r.marks[n] {
			r.t.Errorf("%s %d: it is marked", name, n)
		}
	case name == "RSET":
		clear(r.marks)
	case name == "QUIT":
		for n := range r.marks {
			r.deleted = append(r.deleted, n)
		}
	}
}

// leave goes, or waits for the server's end.
func (r *rival) leave(stays bool) {
	if !stays {
		if !r.over() {
			_, _ = io.WriteString(r.conn, "QUIT") // without its line end it is none
		}
		_ = r.conn.Close()
		<-r.ended
		return
	}
	limit := pop3.DefaultLoginTimeout
	if r.open {
		limit = pop3.DefaultIdleTimeout
	}
	if took := wait(r.ended); took > limit+5*time.Second {
		r.t.Errorf("the server ended it after %v, want %v", took, limit)
	}
	if more := r.take(); more != "" {
		r.t.Errorf("it said %q without being asked", more)
	}
}

// fuzz makes a target of scenes. Each input is seeded in each scene, with a client that stays and one that goes.
func fuzz(f *testing.F, scenes []scene, inputs ...string) {
	for _, input := range inputs {
		for i := range scenes {
			f.Add([]byte(input), uint8(i), i%2 == 0)
			f.Add([]byte(input), uint8(i), i%2 == 1)
		}
	}
	f.Fuzz(func(t *testing.T, input []byte, which uint8, stays bool) {
		synctest.Test(t, func(t *testing.T) { scenes[int(which)%len(scenes)].play(t, input, stays) })
	})
}

var loggedIn = []string{"USER alice", "PASS secret"}

// FuzzAuthorization is the AUTHORIZATION state, with every way to log in.
func FuzzAuthorization(f *testing.F) {
	policy := pop3.Policy{Expire: 5, ExpireByUser: true, LoginDelay: time.Minute, LoginDelayByUser: true, UTF8User: true}
	fuzz(f, []scene{
		{}, {prologue: []string{"UTF8", "LANG de"}},
		{set: func(b *pop3test.Backend) { b.BeforeLogin = policy }},
		{set: func(b *pop3test.Backend) { b.RefusePassword = &pop3.Error{Code: pop3.CodeAuth, Text: "TLS first"} }},
		{set: func(b *pop3test.Backend) { b.Opening = errors.New("disk on fire") }},
	},
		"USER alice\r\nPASS secret\r\nSTAT\r\nQUIT\r\n", "!apop\nSTAT\n", "APOP alice 00112233445566778899aabbccddeeff\nAPOP a b c\nAPOP x zz\n",
		"AUTH PLAIN AGFsaWNlAHNlY3JldA==\nLIST\n", "AUTH PLAIN\n*\nAUTH PLAIN =\n", "AUTH LOGIN YWxpY2U=\nc2VjcmV0\n", "AUTH CRAM-MD5\n!cram\nUIDL\n",
		"AUTH TWO-STEP\nYWxpY2U=\n=\n\n", "AUTH\nCAPA\nLANG\nLANG *\nUTF8\nSTLS\nQUIT x\nQUIT\n",
		"USER Gr\xfc\xdfe\nPASS \x00\nUSER \nPASS\nuser  alice\npass \n",
		strings.Repeat("x", 600)+"\nCAPA\n", "XTND XLST\nSTAT\n\n", "AUTH CRAM-MD5 YWxpY2U=\nAUTH X\nAUTH PLAIN a b c\n",
	)
}

// FuzzExchange is the middle of a SASL exchange, of each mechanism.
func FuzzExchange(f *testing.F) {
	var scenes []scene
	for _, auth := range []string{"PLAIN", "LOGIN", "LOGIN YWxpY2U=", "CRAM-MD5", "TWO-STEP", "TWO-STEP YWxpY2U="} {
		scenes = append(scenes, scene{prologue: []string{"AUTH " + auth}})
	}
	fuzz(f, scenes,
		"AGFsaWNlAHNlY3JldA==\nSTAT\n", "YWxpY2U=\nc2VjcmV0\nDELE 1\nQUIT\n", "!cram\nRETR 1\n", "*\n*\nCAPA\n", "=\n=\n", "\n\n", "QUIT\nQUIT\n",
		"AA\rAA\n", "AAAA\rAAAA\n",
		strings.Repeat("A", 12284)+"\nNOOP\n", strings.Repeat("A", 13000)+"\n", "\xff\x00\n", "YWxpY2U=\n\nSTAT\n", "YWxpY2UA\n",
	)
}

// FuzzTransaction is the TRANSACTION state.
func FuzzTransaction(f *testing.F) {
	fuzz(f, []scene{
		{prologue: loggedIn}, {prologue: []string{"UTF8", "LANG de", "USER alice", "PASS secret"}},
		{prologue: loggedIn, set: func(b *pop3test.Backend) { failListing(b, 2) }},
		{prologue: loggedIn, set: func(b *pop3test.Backend) { b.Last = false }},
		{prologue: loggedIn, set: func(b *pop3test.Backend) { setSurrogate(b, nil) }},
	},
		"STAT\nLIST\nUIDL\nNOOP\nRSET\nLAST\nCAPA\nQUIT\n", "RETR 1\nRETR 2\nRETR 3\nTOP 1 0\nTOP 2 1\nTOP 2 99999999\nTOP 3 1\n",
		"DELE 1\nDELE 1\nRETR 1\nLIST 1\nUIDL 1\nTOP 1 0\nSTAT\nLIST\nRSET\nDELE 01\nQUIT\n", "LIST \nLIST 1 \nUIDL  2\nSTAT \nNOOP x\nRSET x\nQUIT x\n",
		"DELE 99999999999999999999999\nDELE -1\nDELE 0\nDELE 4\nDELE\nDELE 1 2\nTOP 1\nTOP 1 x\nRETR\n", "LANG\nLANG de\nLANG *\nLAST\nRETR 2\nLAST\n",
		"USER a\nPASS b\nAUTH\nSTLS\nAPOP\nUTF8\nXTND\n", strings.Repeat("NONSENSE\n", 25), strings.Repeat("y", 513)+"\n",
	)
}

// FuzzUpdate is a session that ends with QUIT, so with the UPDATE state, which may fail: what was marked then, and nothing else, is gone.
func FuzzUpdate(f *testing.F) {
	fuzz(f, []scene{
		{prologue: append(loggedIn, "DELE 1", "DELE 3"), quits: true}, {prologue: loggedIn, quits: true},
		{prologue: append(loggedIn, "DELE 2"), quits: true, set: func(b *pop3test.Backend) { b.Updating = errors.New("disk on fire") }},
	}, "", "RSET\n", "DELE 2\nRETR 2\n", "RSET\nDELE 3\n", "LANG de\n", "QUIT\nDELE 2\nQUIT\n", "LIST\nUIDL\nLAST\nQUIT \n")
}

// FuzzTLS is a session that is TLS from its first octet.
func FuzzTLS(f *testing.F) {
	config := certificate(f)
	fuzz(f, []scene{{tls: config}, {tls: config, prologue: loggedIn}, {tls: config, prologue: []string{"AUTH CRAM-MD5"}}},
		"STLS\nCAPA\nUSER alice\nPASS secret\nRETR 1\nQUIT\n", "!cram\nDELE 1\nQUIT\n", "!apop\nLIST\n", strings.Repeat("z", 20_000)+"\n")
}

// FuzzBeforeTLS is what a client says where the server begins a handshake: behind STLS, with something in the same write, or on a port of TLS. No
// octet of it is run, nothing is said in the clear, and the connection ends in the time of a handshake.
func FuzzBeforeTLS(f *testing.F) {
	config := certificate(f)
	for _, said := range []string{
		"", "USER alice\r\nPASS secret\r\n", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "\x15\x03\x01\x00\x02\x02\x28", "\x80\x2e\x01\x00\x02",
	} {
		for _, implicit := range []bool{false, true} {
			f.Add([]byte("CAPA\r\n"), []byte(said), implicit)
			f.Add([]byte(said), []byte(said), implicit)
		}
	}
	f.Fuzz(func(t *testing.T, with, behind []byte, implicit bool) {
		synctest.Test(t, func(t *testing.T) { beforeTLS(t, config, with, behind, implicit) })
	})
}

func beforeTLS(t *testing.T, config *tls.Config, with, behind []byte, implicit bool) {
	b := newBackend()
	s, l := newServer(b), newPipeListener()
	s.TLSConfig = config
	done := make(chan error, 1)
	var from net.Listener = l
	if implicit {
		from = tls.NewListener(l, config)
	}
	go func() { done <- s.Serve(from) }()
	ours, theirs := net.Pipe()
	l.conns <- theirs
	r := &rival{t: t, conn: ours, ended: make(chan struct{})}
	go r.listen()
	if !implicit {
		r.take()
		_, _ = ours.Write(append([]byte("STLS\r\n"), with...)) // what is too much for one read may be cut off
		if got := r.take(); !strings.HasPrefix(got, "+OK begin TLS\r\n") || strings.Count(got, "+OK") != 1 {
			t.Errorf("STLS: got %q", got)
		}
	}
	_, _ = ours.Write(behind) // it may be cut off
	took := wait(r.ended)
	if got := r.take(); bytes.Contains([]byte(got), []byte("+OK")) || strings.Contains(got, "-ERR") {
		t.Errorf("in the clear: %q", got)
	}
	if took > pop3.DefaultHandshakeTimeout+2*time.Second {
		t.Errorf("ended after %v", took)
	}
	_ = ours.Close()
	if err := errors.Join(s.Close(), unlessClosed(<-done)); err != nil {
		t.Error(err)
	}
}
