package main

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"latchkey/store"
)

// challenged is a client that logs in at an SMTP door without sending its password.
type challenged struct {
	t     testing.TB
	conn  *textproto.Conn
	state *tls.ConnectionState
}

// challengeDoor connects to a door, with STARTTLS where there is any, and returns what is offered.
func (s *testServer) challengeDoor(door string, startTLS bool) (*challenged, []string) {
	s.t.Helper()
	raw := s.dial(door)
	c := &challenged{s.t, textproto.NewConn(raw), nil}
	c.read(220)
	offered := c.ehlo()
	if startTLS {
		c.ask("STARTTLS", 220)
		secure := tls.Client(raw, s.tls())
		if err := secure.Handshake(); err != nil {
			s.t.Fatal(err)
		}
		c.conn = textproto.NewConn(secure)
		raw = secure
		offered = c.ehlo()
	}
	if secure, ok := raw.(*tls.Conn); ok {
		state := secure.ConnectionState()
		c.state = &state
	}
	return c, offered
}

func (c *challenged) read(code int) string {
	c.t.Helper()
	_, text, err := c.conn.ReadResponse(code)
	if err != nil {
		c.t.Fatalf("want %d: %v", code, err)
	}
	return text
}

func (c *challenged) ask(line string, code int) string {
	c.t.Helper()
	if err := c.conn.PrintfLine("%s", line); err != nil {
		c.t.Fatal(err)
	}
	return c.read(code)
}

// ehlo returns the mechanisms that are offered, and the other form of the list behind "=".
func (c *challenged) ehlo() (mechanisms []string) {
	c.t.Helper()
	for line := range strings.Lines(c.ask("EHLO client.example", 250)) {
		line = strings.TrimSpace(line)
		if list, ok := strings.CutPrefix(line, "AUTH "); ok {
			mechanisms = append(mechanisms, strings.Fields(list)...)
		} else if strings.HasPrefix(line, "AUTH=") {
			mechanisms = append(mechanisms, line)
		}
	}
	return mechanisms
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// challenge reads a 334.
func (c *challenged) challenge(line string) string {
	c.t.Helper()
	text, err := base64.StdEncoding.DecodeString(c.ask(line, 334))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

func keyed(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// scram logs in as RFC 5802 §3 has it; the reply to the proof has the wanted code: 334 is the server's own proof, which is looked at.
func (c *challenged) scram(mechanism, user, password string, code int) {
	c.t.Helper()
	header, bound := "n,,", []byte(nil)
	if strings.HasSuffix(mechanism, "-PLUS") {
		var err error
		if bound, err = c.state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32); err != nil { // RFC 9266
			c.t.Fatal(err)
		}
		header = "p=tls-exporter,,"
	}
	first := "n=" + user + ",r=clientnonce"
	offer := c.challenge("AUTH " + mechanism + " " + b64(header+first))
	fields := strings.Split(offer, ",")
	if len(fields) != 3 || !strings.HasPrefix(fields[0], "r=clientnonce") || !strings.HasPrefix(fields[1], "s=") || fields[2] != "i=4096" {
		c.t.Fatalf("the server offers %q", offer)
	}
	salt, err := base64.StdEncoding.DecodeString(fields[1][2:])
	if err != nil {
		c.t.Fatal(err)
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, 4096, sha256.Size)
	if err != nil {
		c.t.Fatal(err)
	}
	final := "c=" + b64(header+string(bound)) + "," + fields[0]
	said := first + "," + offer + "," + final
	key := keyed(salted, "Client Key")
	stored := sha256.Sum256(key)
	proof := make([]byte, sha256.Size)
	subtle.XORBytes(proof, key, keyed(stored[:], said))
	line := b64(final + ",p=" + base64.StdEncoding.EncodeToString(proof))
	if code != 334 {
		c.ask(line, code)
		return
	}
	want := "v=" + base64.StdEncoding.EncodeToString(keyed(keyed(salted, "Server Key"), said))
	if got := c.challenge(line); got != want {
		c.t.Errorf("%s: the server's proof is %q, want %q", mechanism, got, want)
	}
	c.ask("", 235)
}

func (c *challenged) cram(user, password string, code int) {
	c.t.Helper()
	mac := hmac.New(md5.New, []byte(password))
	mac.Write([]byte(c.challenge("AUTH CRAM-MD5")))
	c.ask(b64(user+" "+hex.EncodeToString(mac.Sum(nil))), code)
}

// challengeServer has the doors for old clients, old-client login for everybody, and the password of anna sealed.
func challengeServer(t *testing.T) *testServer {
	t.Helper()
	const loopback = "127.0.0.1:0"
	s := newTestServer(t, "example.com")
	l := &s.config.Listen
	l.OldSubmission, l.OldSMTPS = []string{loopback}, []string{loopback}
	s.inStore(func(st store.Store) {
		settings, err := st.Settings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		settings.OldClientLogin, settings.CleartextLogin, settings.POPBeforeSMTP = true, false, false
		if _, err := st.UpdateSettings(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
	})
	s.start()
	s.addAccount("anna", "password of anna")
	if err := s.pop("pop3s").login("anna", "password of anna"); err != nil { // at which the password is sealed
		t.Fatal(err)
	}
	return s
}

// TestChallengesAtSMTPDoors: SCRAM-SHA-256 at every door, with channel binding under TLS, and CRAM-MD5 at those for old clients, as with POP3;
// who has logged in so sends. The lists are those of auth.
func TestChallengesAtSMTPDoors(t *testing.T) {
	s := challengeServer(t)
	tries := 0
	for _, tt := range []struct {
		door          string
		startTLS, old bool
	}{
		{"mx", true, false}, {"submission", true, false}, {"smtps", false, false},
		{"old_submission", false, true}, {"old_submission", true, true}, {"old_smtps", false, true},
	} {
		c, offered := s.challengeDoor(tt.door, tt.startTLS)
		secure := c.state != nil
		for _, want := range []struct {
			name string
			is   bool
		}{
			{"SCRAM-SHA-256", true}, {"SCRAM-SHA-256-PLUS", secure}, {"CRAM-MD5", tt.old}, {"PLAIN", true}, {"LOGIN", true}, {"NTLM", false},
			{"AUTH=" + strings.Join(offered[:max(0, len(offered)-1)], " "), tt.old},
		} {
			if slices.Contains(offered, want.name) != want.is {
				t.Errorf("%s, STARTTLS %t: offered %q, %s: want %t", tt.door, tt.startTLS, offered, want.name, want.is)
			}
		}
		mechanisms := []string{"SCRAM-SHA-256"}
		if secure {
			mechanisms = append(mechanisms, "SCRAM-SHA-256-PLUS")
		}
		for _, mechanism := range mechanisms {
			before := len(s.log.String())
			c, _ := s.challengeDoor(tt.door, tt.startTLS)
			c.scram(mechanism, "anna", "another password", 535)
			tries++
			c.scram(mechanism, fmt.Sprint("nobody", tries), "password of anna", 535)
			c.scram(mechanism, "anna", "password of anna", 334)
			c.ask("MAIL FROM:<anna@example.com>", 250)
			c.ask("RCPT TO:<x@other.example>", 250)
			c.ask("QUIT", 221)
			if log := s.log.String()[before:]; !strings.Contains(log, "mechanism="+mechanism+" ") {
				t.Errorf("%s, %s: log\n%s", tt.door, mechanism, log)
			}
		}
		if !tt.old {
			c.ask("AUTH CRAM-MD5", 504)
		} else {
			c.cram("anna", "another password", 535)
			c.cram("anna@example.com", "password of anna", 235)
			c.ask("MAIL FROM:<anna@example.com>", 250)
		}
		c.ask("QUIT", 221)
	}
}

// TestChallengeBindings: a client that could have bound its proof, and says that the server could not, was talked out of it on the way (RFC 5802
// §6); one that is bound to another connection is no better.
func TestChallengeBindings(t *testing.T) {
	s := challengeServer(t)
	c, _ := s.challengeDoor("submission", true)
	c.ask("AUTH SCRAM-SHA-256 "+b64("y,,n=anna,r=abcdefgh"), 501)
	c.ask("AUTH SCRAM-SHA-256-PLUS "+b64("n,,n=anna,r=abcdefgh"), 501)
	c.ask("AUTH SCRAM-SHA-256-PLUS "+b64("p=tls-unique,,n=anna,r=abcdefgh"), 501)
	other, _ := s.challengeDoor("submission", true)
	c.state, other.state = other.state, nil
	c.scram("SCRAM-SHA-256-PLUS", "anna", "password of anna", 501)
	c.ask("MAIL FROM:<anna@example.com>", 530)
	c.ask("QUIT", 221)
	other.ask("AUTH NTLM", 504)
	other.ask("QUIT", 221)
}

// TestAuthOnMX: the setting that takes AUTH from port 25 takes all of it, and gives it back, in the session that is open too.
func TestAuthOnMX(t *testing.T) {
	s := challengeServer(t)
	set := func(on string) { s.mustRun("settings", "set", "auth_on_mx="+on) }
	c, offered := s.challengeDoor("mx", true)
	if !slices.Contains(offered, "PLAIN") || !slices.Contains(offered, "SCRAM-SHA-256") {
		t.Errorf("offered %q", offered)
	}
	set("off")
	if got := c.ehlo(); len(got) != 0 {
		t.Errorf("offered %q", got)
	}
	for _, line := range []string{
		"AUTH PLAIN " + b64("\x00anna\x00password of anna"), "AUTH LOGIN", "AUTH NTLM", "AUTH SCRAM-SHA-256 " + b64("n,,n=anna,r=abcdefgh"),
	} {
		if text := c.ask(line, 502); !strings.Contains(text, "587") {
			t.Errorf("%s: %s", line, text)
		}
	}
	submission, offered := s.challengeDoor("submission", true)
	if !slices.Contains(offered, "PLAIN") {
		t.Errorf("submission: offered %q", offered)
	}
	submission.ask("QUIT", 221)
	set("on")
	if got := c.ehlo(); !slices.Contains(got, "PLAIN") {
		t.Errorf("offered %q", got)
	}
	c.scram("SCRAM-SHA-256", "anna", "password of anna", 334)
	c.ask("QUIT", 221)
}
