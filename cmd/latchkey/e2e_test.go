package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey/config"
	"latchkey/internal/mailaddr"
	"latchkey/store"
	"latchkey/webmanager"
)

// message is a small one that can be told apart by its subject.
func message(subject string) string {
	return "Subject: " + subject + "\r\n\r\nbody of " + subject + "\r\n"
}

// holds checks that the messages are those with the given subjects, in order.
func holds(t *testing.T, messages []string, subjects ...string) {
	t.Helper()
	if len(messages) != len(subjects) {
		t.Errorf("got %d messages, want %d", len(messages), len(subjects))
		return
	}
	for i, subject := range subjects {
		if !strings.Contains(messages[i], "\nSubject: "+subject+"\n") || !strings.HasSuffix(messages[i], "\n\nbody of "+subject+"\n") {
			t.Errorf("message %d: got %q, want that of %s", i+1, messages[i], subject)
		}
	}
}

// wantCode checks an SMTP refusal.
func wantCode(t *testing.T, what string, err error, code int) {
	t.Helper()
	var refusal *textproto.Error
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Errorf("%s: got %v, want %d", what, err, code)
	}
}

// wantAuthRefusal checks a POP3 refusal with the code [AUTH] (RFC 3206 §5).
func wantAuthRefusal(t *testing.T, what string, err error) {
	t.Helper()
	var refusal *errPOP
	if !errors.As(err, &refusal) || !strings.HasPrefix(refusal.line, "-ERR [AUTH] ") {
		t.Errorf("%s: got %v, want -ERR [AUTH]", what, err)
	}
}

// TestOneKeyOpensBothDoors: mail comes in, goes round, and leaves for other domains into the queue; all with one password.
func TestOneKeyOpensBothDoors(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	s.addAccount("bert", "password of bert")
	s.deliver("stranger@other.example", []string{"anna@example.com"}, message("inbound"))
	s.send("anna", "password of anna", []string{"bert@example.com", "x@other.example"}, message("submitted"))
	holds(t, s.fetch("anna@example.com", "password of anna"), "inbound")
	holds(t, s.fetch("bert", "password of bert"), "submitted")
	if jobs := s.queue(); len(jobs) != 1 || jobs[0].Recipient.String() != "x@other.example" || jobs[0].ReversePath.String() != "anna@example.com" {
		t.Errorf("queue: got %+v", jobs)
	}
	for _, role := range webmanager.RoleNames() {
		s.deliver("stranger@other.example", []string{role + "@example.com"}, message(role))
	}
	holds(t, s.fetch("postmaster", "password of postmaster"), "postmaster", "abuse")
	s.stop()
	s.start()
	holds(t, s.fetch("anna", "password of anna"), "inbound")
}

func TestPasswordChangeChangesBothDoorsAtOnce(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "first password")
	s.send("anna", "first password", []string{"anna@example.com"}, message("before"))
	open := s.submission("anna", "first password")
	holds(t, s.fetch("anna", "first password"), "before")

	s.setPassword("anna", "second password")

	wantCode(t, "open session with the old password", open.Mail("anna@example.com"), 421)
	wantCode(t, "old password at SMTP", s.trySend("anna", "first password", []string{"anna@example.com"}, message("no")), 535)
	wantAuthRefusal(t, "old password at POP3", s.pop("pop3s").login("anna", "first password"))
	s.send("anna", "second password", []string{"anna@example.com"}, message("after"))
	holds(t, s.fetch("anna", "second password"), "before", "after")
}

func TestSuspensionClosesBothDoors(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	s.deliver("x@other.example", []string{"anna@example.com"}, message("before"))
	open := s.submission("anna", "password of anna")
	s.setSuspended("anna", true)
	if err := open.Mail("anna@example.com"); err == nil {
		t.Error("an open session of a suspended mailbox may still send")
	}
	wantAuthRefusal(t, "POP3", s.pop("pop3s").login("anna", "password of anna"))
	if err := s.trySend("anna", "password of anna", []string{"postmaster@example.com"}, message("no")); err == nil {
		t.Error("SMTP: a suspended mailbox may send")
	}
	wantCode(t, "incoming mail", s.tryDeliver("x@other.example", []string{"anna@example.com"}, message("waits")), 450)
	s.setSuspended("anna", false)
	s.deliver("x@other.example", []string{"anna@example.com"}, message("waits"))
	holds(t, s.fetch("anna", "password of anna"), "before", "waits")
	s.send("anna", "password of anna", []string{"postmaster@example.com"}, message("out"))
}

func TestRemovedAndAddedAgain(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "old password")
	s.do("PUT", "/v1/aliases/sales", webmanager.AliasTargets{Targets: []string{"anna", "postmaster"}}, nil)
	s.do("PATCH", "/v1/accounts/anna", webmanager.AccountChange{SendAs: &[]string{"boss@example.com"}}, nil)
	s.deliver("x@other.example", []string{"anna@example.com"}, message("old mail"))
	reading := s.pop("pop3s")
	if err := reading.login("anna", "old password"); err != nil {
		t.Fatal(err)
	}

	s.do("DELETE", "/v1/accounts/anna", nil, nil)
	wantCode(t, "mail for nobody", s.tryDeliver("x@other.example", []string{"anna@example.com"}, message("no")), 550)
	s.addAccount("anna", "new password")

	holds(t, s.fetch("anna", "new password"))
	wantAuthRefusal(t, "old password", s.pop("pop3s").login("anna", "old password"))
	s.deliver("x@other.example", []string{"sales@example.com"}, message("for sales"))
	holds(t, s.fetch("anna", "new password"))
	var anna webmanager.Account
	s.do("GET", "/v1/accounts/anna", nil, &anna)
	if len(anna.SendAs) != 0 {
		t.Errorf("the new mailbox may send as %v", anna.SendAs)
	}
	s.deliver("x@other.example", []string{"anna@example.com"}, message("new mail"))
	if line, err := reading.cmd("STAT"); err == nil && strings.HasPrefix(line, "+OK 2") {
		t.Errorf("the old session sees the new one's mail: %s", line)
	}
	holds(t, s.fetch("anna", "new password"), "new mail")
}

func TestTwoDomainsSideBySide(t *testing.T) {
	one, two := startServer(t, "one.example"), startServer(t, "two.example")
	one.addAccount("anna", "password at one")
	two.addAccount("anna", "password at two")
	one.deliver("x@other.example", []string{"anna@one.example"}, message("to one"))
	two.deliver("x@other.example", []string{"anna@two.example"}, message("to two"))
	holds(t, one.fetch("anna", "password at one"), "to one")
	holds(t, two.fetch("anna", "password at two"), "to two")
	wantAuthRefusal(t, "password of the other domain", one.pop("pop3s").login("anna", "password at two"))
	wantCode(t, "the other domain is foreign", one.tryDeliver("x@other.example", []string{"anna@two.example"}, message("no")), 550)
	one.send("anna", "password at one", []string{"anna@two.example"}, message("across"))
	if len(one.queue()) != 1 || len(two.queue()) != 0 {
		t.Errorf("queues: got %d and %d jobs", len(one.queue()), len(two.queue()))
	}
	one.stop()
	two.deliver("x@other.example", []string{"anna@two.example"}, message("still there"))
	holds(t, two.fetch("anna", "password at two"), "to two", "still there")
}

// TestStopDuringDelivery: a stop lets a message that is being received finish, and tells idle sessions; what was acknowledged is there
// afterwards.
func TestStopDuringDelivery(t *testing.T) {
	s := startServer(t, "example.com")
	idleSMTP := textproto.NewConn(s.dial("mx"))
	if _, _, err := idleSMTP.ReadResponse(220); err != nil {
		t.Fatal(err)
	}
	idlePOP := s.pop("pop3")
	busy, err := smtp.NewClient(s.dial("mx"), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(busy.Mail("x@other.example"), busy.Rcpt("postmaster@example.com")); err != nil {
		t.Fatal(err)
	}
	w, err := busy.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("Subject: last\r\n\r\n")); err != nil {
		t.Fatal(err)
	}

	s.cancel()

	if code, text, err := idleSMTP.ReadResponse(421); err != nil {
		t.Errorf("idle SMTP session: got %d %q, %v; want 421", code, text, err)
	}
	var refusal *errPOP
	if _, err := idlePOP.reply(); !errors.As(err, &refusal) {
		t.Errorf("idle POP3 session: got %v, want -ERR", err)
	}
	if _, err := net.DialTimeout("tcp", s.addr("mx"), time.Second); err == nil {
		t.Error("the door is still open")
	}
	if _, err := w.Write([]byte("body of last\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("the message was cut off: %v", err)
	}
	s.wait()
	s.wantStored("last")
}

// wantStored checks in the store of a stopped server what postmaster has.
func (s *testServer) wantStored(subjects ...string) {
	s.t.Helper()
	s.inStore(func(st store.Store) {
		account, err := st.AccountByName(context.Background(), "postmaster")
		if err != nil {
			s.t.Fatal(err)
		}
		drop, err := st.OpenMaildrop(context.Background(), account.ID)
		if err != nil {
			s.t.Fatal(err)
		}
		defer func() { _ = drop.Close() }() // only read from
		if got := drop.Stat().Messages; got != int64(len(subjects)) {
			s.t.Errorf("got %d messages, want %q", got, subjects)
		}
	})
}

// TestSecondSignalCutsOff: abort does not wait for a sender that has fallen silent, and nothing half of a message is kept.
func TestSecondSignalCutsOff(t *testing.T) {
	s := startServer(t, "example.com")
	busy, err := smtp.NewClient(s.dial("mx"), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(busy.Mail("x@other.example"), busy.Rcpt("postmaster@example.com")); err != nil {
		t.Fatal(err)
	}
	w, err := busy.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(message("half"))); err != nil {
		t.Fatal(err)
	}
	reading := s.pop("pop3s")
	if err := reading.login("postmaster", "password of postmaster"); err != nil {
		t.Fatal(err)
	}
	s.kill()
	if err := w.Close(); err == nil {
		t.Error("half a message was acknowledged")
	}
	s.wantStored()
}

func TestServeSaysWhatIsInItsWay(t *testing.T) {
	s := newTestServer(t, "example.com")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }() // nobody connects
	serve := func(change func(*config.Config)) error {
		c := s.config
		change(&c)
		return serve(t.Context(), t.Context(), c, newLogger(s.log, c.Log))
	}
	for _, tt := range []struct {
		name   string
		change func(*config.Config)
		words  string
	}{
		{"port in use", func(c *config.Config) { c.Listen.SMTPS = []string{taken.Addr().String()} }, "listen.smtps: listen tcp " + taken.Addr().String() + ": bind: address already in use"},
		{"no certificate", func(c *config.Config) { c.TLS.Cert = filepath.Join(s.dir, "none.pem") }, "none.pem: no such file"},
		{"no domain", func(c *config.Config) { c.Data = t.TempDir() }, "holds no domain; make one: latchkey init --data "},
		{"no directory", func(c *config.Config) { c.Data = filepath.Join(s.dir, "none") }, "holds no domain; make one: latchkey init --data "},
	} {
		err := serve(tt.change)
		if err == nil || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.words)
		}
	}
	s.start()
	if err := serve(func(*config.Config) {}); err == nil || !strings.Contains(err.Error(), "is in use by another process: one server runs for each data directory") {
		t.Errorf("second server: got %v", err)
	}
	s.stop()

	half := filepath.Join(t.TempDir(), "half")
	if err := s.env.Init(t.Context(), half, "example.com"); err != nil {
		t.Fatal(err)
	}
	if err := serve(func(c *config.Config) { c.Data = half }); err == nil || !strings.Contains(err.Error(), "postmaster and abuse must lead to a mailbox: run latchkey init again") {
		t.Errorf("half an init: got %v", err)
	}
	if status, _, stderr := s.latchkey("init", "--domain", "example.com"); status != 1 || !strings.Contains(stderr, "the domain is there already") {
		t.Errorf("init again: got %d %q", status, stderr)
	}
}

// TestServeIsReadyWhenDoorsAccept: the log line and the service manager's message come when every door can be connected to.
func TestServeIsReadyWhenDoorsAccept(t *testing.T) {
	s := newTestServer(t, "example.com")
	socket := filepath.Join(s.dir, "notify.sock")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = manager.Close() }() // the test is over with it
	t.Setenv("NOTIFY_SOCKET", socket)
	stop, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(stop, stop, s.config, newLogger(s.log, config.Log{})) }()
	hear := func() string {
		if err := manager.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 100)
		n, err := manager.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		return string(buffer[:n])
	}
	if got := hear(); got != "READY=1" {
		t.Fatalf("the service manager hears %q", got)
	}
	log := s.log.String()
	if !strings.Contains(log, "msg=ready domain=example.com hostname=mail.example.com") || !strings.Contains(log, "fingerprint_sha256=") {
		t.Fatalf("log: %s", log)
	}
	for _, name := range []string{"pop3", "pop3s", "mx", "submission", "smtps"} {
		_, rest, _ := strings.Cut(log, " "+name+"=")
		conn, err := net.DialTimeout("tcp", strings.Fields(rest)[0], patience)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = conn.Close() // it was let in
	}
	cancel()
	if got := hear(); got != "STOPPING=1" {
		t.Errorf("the service manager hears %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, webmanager.ControlSocket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the management socket is left behind: %v", err)
	}
}

// TestCommandsWithAndWithoutServer: the command line gives the same answers, and every change is audited, both ways.
func TestCommandsWithAndWithoutServer(t *testing.T) {
	s := newTestServer(t, "example.com")
	run := func(wantStatus int, args ...string) string {
		t.Helper()
		status, stdout, stderr := s.latchkey(args...)
		if status != wantStatus {
			t.Fatalf("%v: got %d %q %q", args, status, stdout, stderr)
		}
		return stdout
	}
	first := strings.TrimSpace(run(0, "account", "add", "anna", "--generate"))
	s.start()
	s.send("anna", first, []string{"anna@example.com"}, message("x"))
	second := strings.TrimSpace(run(0, "account", "set-password", "anna", "--generate"))
	holds(t, s.fetch("anna", second), "x")
	running := run(0, "account", "list") + run(0, "trail", "anna") + run(0, "audit") + run(0, "check")
	run(1, "account", "remove", "postmaster")
	s.stop()
	if stopped := run(0, "account", "list") + run(0, "trail", "anna") + run(0, "audit") + run(0, "check"); stopped != running {
		t.Errorf("stopped:\n%s\nrunning:\n%s", stopped, running)
	}
	if !strings.Contains(running, "account.password") || strings.Contains(running, first) || strings.Contains(running, second) {
		t.Errorf("audit:\n%s", running)
	}
}

// TestLogHoldsNoSecrets: passwords, right or wrong, are in no log line.
func TestLogHoldsNoSecrets(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "quite-a-secret")
	s.send("anna", "quite-a-secret", []string{"anna@example.com"}, message("private-subject"))
	holds(t, s.fetch("anna", "quite-a-secret"), "private-subject")
	_ = s.pop("pop3s").login("anna", "wrong-secret") // refused
	s.stop()
	for _, secret := range []string{"quite-a-secret", "wrong-secret", "private-subject", "argon2"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, s.log)
		}
	}
}

// TestRoleNamesAreKept: nothing that the commands can do makes postmaster or abuse lead nowhere.
func TestRoleNamesAreKept(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	for _, args := range [][]string{
		{"account", "remove", "postmaster"}, {"account", "change", "postmaster", "--rename", "chief"}, {"alias", "remove", "abuse"},
	} {
		if status, _, stderr := s.latchkey(args...); status != 1 || !strings.Contains(stderr, "must lead to a mailbox") {
			t.Errorf("%v: got %d %q", args, status, stderr)
		}
	}
	if status, _, stderr := s.latchkey("alias", "add", "abuse", "anna"); status != 0 {
		t.Error(stderr)
	}
	s.deliver("x@other.example", []string{"abuse@example.com"}, message("complaint"))
	holds(t, s.fetch("anna", "password of anna"), "complaint")
}

// TestHostname: the configured name, else the machine's, else the domain's.
func TestHostname(t *testing.T) {
	if got := hostname(config.Config{Hostname: "mail.example.com"}, "example.com"); got != "mail.example.com" {
		t.Errorf("configured: got %s", got)
	}
	got := hostname(config.Config{}, "example.com")
	if _, err := mailaddr.CanonicalDomain(got); err != nil {
		t.Errorf("not configured: got %q", got)
	}
}

func TestLogFormats(t *testing.T) {
	for _, tt := range []struct {
		log  config.Log
		want string
	}{
		{config.Log{Level: "debug", Format: "text"}, "level=DEBUG level=INFO level=WARN level=ERROR "},
		{config.Log{Level: "info", Format: "text"}, "level=INFO level=WARN level=ERROR "},
		{config.Log{Level: "warn", Format: "text"}, "level=WARN level=ERROR "},
		{config.Log{Level: "error", Format: "json"}, `"level":"ERROR" `},
	} {
		var b logBuffer
		log := newLogger(&b, tt.log)
		log.Debug("x")
		log.Info("x")
		log.Warn("x")
		log.Error("x")
		var got strings.Builder
		for line := range strings.Lines(b.String()) {
			for _, field := range strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ',' }) {
				if strings.Contains(field, "level") {
					fmt.Fprint(&got, field, " ")
				}
			}
		}
		if got.String() != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.log, got.String(), tt.want)
		}
	}
}
