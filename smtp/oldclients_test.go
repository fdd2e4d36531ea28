package smtp

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"

	"latchkey/auth"
	"latchkey/store"
)

// onlyFor is a rule for old clients.
type onlyFor struct {
	mu      sync.Mutex // protects what follows
	account store.AccountID
	fail    error
	asked   []netip.Addr
}

func (o *onlyFor) Allowed(_ context.Context, remote netip.Addr, account store.AccountID) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, remote)
	return account == o.account, o.fail
}

// cramMD5 is a mechanism beside PLAIN and LOGIN (RFC 2195); its secrets are those of fakeAuth.
type cramMD5 struct {
	auth   *fakeAuth
	begin  error
	answer error // of an exchange, instead of a look at the digest
}

func (c *cramMD5) Mechanisms(context.Context, auth.Attempt, *tls.ConnectionState) []string {
	return []string{"CRAM-MD5"}
}

func (c *cramMD5) Begin(ctx context.Context, at auth.Attempt, _ *tls.ConnectionState, proved func(auth.Identity) error) (sasl.Server, error) {
	if at.Mechanism != "CRAM-MD5" || at.Service != "smtp" || !at.Remote.IsLoopback() {
		return nil, errors.New("not what was asked for")
	}
	if c.begin != nil {
		return nil, c.begin
	}
	return &cramExchange{cramMD5: c, ctx: ctx, at: at, proved: proved}, nil
}

type cramExchange struct {
	*cramMD5
	ctx    context.Context
	at     auth.Attempt
	proved func(auth.Identity) error
	asked  bool
}

const cramChallenge = "<1896.697170952@mail.example.com>"

func cramAnswer(name string) string {
	h := hmac.New(md5.New, []byte(name+"-pw"))
	h.Write([]byte(cramChallenge))
	return name + " " + hex.EncodeToString(h.Sum(nil))
}

func (e *cramExchange) Next(response []byte) (challenge []byte, done bool, err error) {
	name, _, ok := strings.Cut(string(response), " ")
	switch {
	case !e.asked:
		e.asked = true
		return []byte(cramChallenge), false, nil
	case !ok:
		return nil, true, sasl.ErrUnexpectedClientResponse
	case e.answer != nil:
		return nil, true, e.answer
	case string(response) != cramAnswer(name):
		return nil, true, auth.ErrCredentials
	}
	identity, err := e.auth.Login(e.ctx, e.at, name, name+"-pw")
	if err == nil {
		err = e.proved(identity)
	}
	return nil, true, err
}

// oldDoor makes a door for old clients, which is open for alice.
func oldDoor(t testing.TB, edit ...func(*Options)) (*fixture, *onlyFor) {
	t.Helper()
	rule := &onlyFor{}
	f := newFixture(t, Submission, append([]func(*Options){func(o *Options) { o.OldClients = rule }}, edit...)...)
	rule.account, f.auth.cleartext = f.ids["alice"], false
	return f, rule
}

// ehlo returns what is offered.
func (c *client) ehlo() (lines []string) {
	c.f.t.Helper()
	c.send("EHLO client.example\r\n")
	for {
		line, err := c.r.ReadLine()
		c.f.must(err)
		checkReply(c.f.t, line)
		lines = append(lines, line[4:])
		if line[3] == ' ' {
			return lines
		}
	}
}

// TestChallenges: a further mechanism is listed behind the others, in both forms at a door for old clients, and leads to the same.
func TestChallenges(t *testing.T) {
	for _, old := range []bool{false, true} {
		f, rule := oldDoor(t)
		f.opts.Challenges = &cramMD5{auth: f.auth}
		want := []string{"AUTH LOGIN PLAIN CRAM-MD5", "AUTH=LOGIN PLAIN CRAM-MD5"}
		if !old {
			f.opts.OldClients, f.auth.cleartext = nil, true
			want = []string{"AUTH PLAIN LOGIN CRAM-MD5"}
		}
		f.serve()
		c := f.greeted()
		var got []string
		for _, line := range c.ehlo() {
			if strings.HasPrefix(line, "AUTH") {
				got = append(got, line)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("old door %v: offered %q", old, got)
		}
		challenge := "334 " + base64.StdEncoding.EncodeToString([]byte(cramChallenge))
		try := func(answer, want string) {
			t.Helper()
			c.ask("AUTH CRAM-MD5", challenge)
			c.ask(b64(answer), want)
		}
		try("no digest", "535 5.7.8")
		try("nothing", "501 5.5.2")
		try(strings.Replace(cramAnswer("alice"), "alice", "bob", 1), "535 5.7.8")
		if old {
			try(cramAnswer("bob"), "535 5.7.8") // he may not use it, and in the clear that is not told
		}
		c.ask("MAIL FROM:<alice@example.com>", "530 5.7.0")
		try(cramAnswer("alice"), "235 2.0.0")
		c.message("alice@example.com", "bob@example.com", "From: alice@example.com\r\n\r\nx\r\n")
		if n := len(rule.asked); old != (n == 2) || old && !rule.asked[0].IsLoopback() {
			t.Errorf("old door %v: the rule was asked about %v", old, rule.asked)
		}
	}
}

// TestChallengesThatFail: what is wrong with a mechanism is said as with a password.
func TestChallengesThatFail(t *testing.T) {
	for _, tt := range []struct {
		begin, answer error
		want          string
	}{
		{auth.ErrThrottled, nil, "454 4.7.0"},
		{errors.New("broken"), nil, "451 4.3.0"},
		{nil, auth.ErrBusy, "454 4.7.0"},
		{nil, errors.New("broken"), "451 4.3.0"},
		{nil, auth.ErrSuspended, "535 5.7.13"},
	} {
		f, _ := oldDoor(t)
		f.opts.Challenges = &cramMD5{auth: f.auth, begin: tt.begin, answer: tt.answer}
		c := f.serve().greeted()
		if tt.begin == nil {
			c.ask("AUTH CRAM-MD5", "334 ")
			c.send(b64(cramAnswer("alice")) + "\r\n")
		} else {
			c.send("AUTH CRAM-MD5\r\n")
		}
		c.expect(tt.want)
	}
}

// TestOldDoorRefusal: under TLS it says the cure and where there is help, does not count as a guess, and a rule that cannot be asked lets nobody in.
func TestOldDoorRefusal(t *testing.T) {
	f, rule := oldDoor(t)
	f.settings(func(s *store.Settings) { s.HelpURL = "https://help.example.com/" })
	c := f.serve().greeted()
	c.ehlo()
	c.starttls()
	c.ehlo()
	for range defaultLimits().AuthFailures + 1 {
		line := c.ask("AUTH PLAIN "+plain("bob", "bob-pw"), "534 5.7.9 Use port 465 with SSL/TLS")
		if !strings.HasSuffix(line, " - see https://help.example.com/") {
			t.Errorf("got %q", line)
		}
	}
	rule.mu.Lock()
	rule.fail = errors.New("broken")
	rule.mu.Unlock()
	c.ask("AUTH PLAIN "+plain("alice", "alice-pw"), "451 4.3.0")
	c.ask("MAIL FROM:<alice@example.com>", "530 5.7.0")
}

// TestSniffedClient is served as at a door that begins with TLS: no STARTTLS, AUTH although the door takes no password in the clear, and the
// trace says so (RFC 3848).
func TestSniffedClient(t *testing.T) {
	for _, door := range []Door{MX, Submission} {
		f := newFixture(t, door, func(o *Options) { o.Sniff = true })
		f.auth.cleartext = false
		f.serve()
		c := f.over(tls.Client(dialTCP(t, f.addr), &tls.Config{InsecureSkipVerify: true})) // the test's own certificate
		c.expect("220 ")
		offered := c.ehlo()
		if !slices.Contains(offered, "AUTH PLAIN LOGIN") || slices.Contains(offered, "STARTTLS") {
			t.Errorf("%s: offered %q", door, offered)
		}
		c.ask("STARTTLS", "502 5.5.1")
		c.login("alice")
		c.message("alice@example.com", "bob@example.com", "From: alice@example.com\r\n\r\nx\r\n")
		if got := f.oneMail("bob"); !strings.Contains(got, " with ESMTPSA tls TLS_") {
			t.Errorf("%s: got %q", door, got)
		}
		if offered := f.greeted().ehlo(); slices.Contains(offered, "AUTH PLAIN LOGIN") || !slices.Contains(offered, "STARTTLS") {
			t.Errorf("%s: in the clear offered %q", door, offered)
		}
	}
}

func dialTCP(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEarlyTalkerIsNoted: in every line of its session's log, under TLS too. One that is known is served like everybody.
func TestEarlyTalkerIsNoted(t *testing.T) {
	for _, early := range []bool{true, false} {
		known := func(netip.Addr) bool { return true }
		f := newFixture(t, MX, func(o *Options) { o.Sniff, o.Known = true, known }).serve()
		c := f.dial()
		if early {
			c.send("EHLO spam.example\r\n")
			c.expect("220 ")
			c.expect("250 ")
		} else {
			c.expect("220 ")
			c.ask("EHLO client.example", "250 ")
		}
		c.starttls()
		c.ask("EHLO client.example", "250 ")
		c.message("x@remote.example", "bob@example.com", "x: y\r\n\r\n")
		log := f.log.String()
		if strings.Contains(log, "spoke before it was greeted") != early || strings.Contains(log, "early_talker=true") != early {
			t.Errorf("early: %v: log %s", early, log)
		}
	}
}

// TestClearTextAtImplicitTLS: SMTP's words for it.
func TestClearTextAtImplicitTLS(t *testing.T) {
	f := newFixture(t, Submission, func(o *Options) { o.ImplicitTLS = true }).serve()
	c := dialTCP(t, f.addr)
	defer func() { _ = c.Close() }()
	_, err := io.WriteString(c, "EHLO PC\r\n")
	f.must(err)
	got, err := io.ReadAll(c)
	const want = "554 5.7.10 mail.example.com Turn on SSL/TLS for this port in your mail program, or use port 587 with STARTTLS (L-TC8)\r\n"
	if string(got) != want || err != nil {
		t.Errorf("got %q (%v)", got, err)
	}
}

// seenClients is an inventory.
type seenClients struct {
	mu   sync.Mutex // protects what follows
	seen []store.Client
}

func (s *seenClients) Note(c store.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, c)
}

// TestInventory: each login is told once, by whatever mechanism, and no refused one; names that clients give themselves are not told.
func TestInventory(t *testing.T) {
	noted := &seenClients{}
	f, _ := oldDoor(t, func(o *Options) { o.Inventory, o.Name = noted, "old_submission" })
	f.opts.Challenges = &cramMD5{auth: f.auth}
	f.serve()
	c := f.greeted()
	c.ehlo()
	c.ask("AUTH PLAIN "+b64("\x00bob\x00bob-pw"), "535 5.7.8") // not at this door
	c.ask("AUTH PLAIN "+b64("\x00alice\x00wrong"), "535 5.7.8")
	c.ask("AUTH PLAIN "+b64("\x00alice\x00alice-pw"), "235 2.0.0")
	c = f.greeted()
	c.ehlo()
	c.ask("AUTH CRAM-MD5", "334 ")
	c.ask(b64(cramAnswer("alice")), "235 2.0.0")
	c = f.greeted()
	c.ehlo()
	c.ask("STARTTLS", "220 2.0.0")
	secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}) // the test's own certificate
	c.conn, c.r = secure, textproto.NewReader(bufio.NewReader(secure))
	c.ehlo()
	c.ask("AUTH PLAIN "+b64("\x00alice\x00alice-pw"), "235 2.0.0")
	noted.mu.Lock()
	defer noted.mu.Unlock()
	want := store.Client{
		Account: f.ids["alice"], Program: "EHLO", Door: "old_submission", Mechanism: "PLAIN", Address: netip.MustParseAddr("127.0.0.1"), Sessions: 1,
	}
	cram, under := want, want
	cram.Mechanism, under.TLS = "CRAM-MD5", "TLS 1.2"
	for i, c := range noted.seen {
		if c.First.IsZero() || c.First != c.Last {
			t.Errorf("seen at %v, %v", c.First, c.Last)
		}
		noted.seen[i].First, noted.seen[i].Last = want.First, want.Last
	}
	if !slices.Equal(noted.seen, []store.Client{want, cram, under}) {
		t.Errorf("seen: %+v", noted.seen)
	}
}
