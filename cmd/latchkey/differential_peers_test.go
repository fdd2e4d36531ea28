//go:build interop

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// differentialVerifier is of differentialPassword, by the cheapest hash that is taken at all: there are two thousand first logins.
const differentialVerifier store.Verifier = "$argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$xaW9jW1nqBjBzztRIhRyK5oGq6/azN5UkLyxA9sPeBo"

// latchkeyPeer is our own whole server. Its store is filled past SMTP, so that messages have no trace fields.
type latchkeyPeer struct {
	s        *testServer
	store    store.Store
	accounts []store.AccountID
	ids      map[store.MessageID]int
}

func newLatchkeyPeer(t *testing.T, messages []string) *latchkeyPeer {
	t.Helper()
	p := &latchkeyPeer{s: newTestServer(t, differentialDomain), accounts: make([]store.AccountID, differentialSequences), ids: map[store.MessageID]int{}}
	p.s.wrap = func(st store.Store) store.Store { p.store = st; return st }
	withoutWaits(t)
	p.s.start()
	recipients := make([]store.Recipient, differentialSequences)
	var adding sync.WaitGroup
	const together = 50
	for first := range together {
		adding.Go(func() {
			for n := first; n < differentialSequences; n += together {
				a, err := p.store.AddAccount(t.Context(), store.Account{Name: mailboxName(n), Verifier: differentialVerifier})
				if err != nil {
					t.Error(err)
					return
				}
				to, err := mailaddr.New(a.Name, differentialDomain)
				if err != nil {
					t.Error(err)
					return
				}
				p.accounts[n] = a.ID
				recipients[n] = store.Recipient{Address: to, Account: a.ID}
			}
		})
	}
	adding.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, m := range messages {
		p.ids[p.commit(t, m, recipients)] = i
	}
	return p
}

func (p *latchkeyPeer) commit(t *testing.T, message string, to []store.Recipient) store.MessageID {
	t.Helper()
	d, err := p.store.NewDraft(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write([]byte(message)); err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(message, "\r\n\r\n")
	r, err := d.Commit(t.Context(), store.Envelope{Received: time.Now(), HeaderLen: int64(len(header) + 4), Recipients: to})
	if err != nil {
		t.Fatal(err)
	}
	return r.Message
}

func (*latchkeyPeer) name() string { return "Latchkey" }

func (p *latchkeyPeer) addr() string { return p.s.addr("pop3") }

func (p *latchkeyPeer) left(sequence int) ([]int, error) {
	m, err := p.store.OpenMaildrop(context.Background(), p.accounts[sequence])
	if err != nil {
		return nil, err
	}
	list, err := m.Messages(context.Background())
	if err != nil {
		return nil, err
	}
	var left []int
	for message := range list {
		left = append(left, p.ids[message.Of])
	}
	slices.Sort(left)
	return left, m.Close()
}

func (*latchkeyPeer) normalise(body string) string { return body }

// maildirPeer is a server whose mailboxes are Maildirs with one owner, in a folder of the test.
type maildirPeer struct {
	t       testing.TB
	program string
	dir     string
	port    int
	// inbox is the Maildir below a mailbox's home.
	inbox string
}

// maildirOwner owns mailboxes that belong to nobody on this machine.
const maildirOwner = 5000

// newMaildirPeer fills the Maildirs: one file for each message, with as many names as there are mailboxes.
func newMaildirPeer(t testing.TB, program, inbox string, messages []string) *maildirPeer {
	t.Helper()
	// Its processes run as another user, to whom the test's own folder is not open; and nobody asks how durable these mailboxes are.
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "latchkey-peer")
	if err != nil {
		t.Fatal(err)
	}
	p := &maildirPeer{t: t, program: program, dir: dir, port: freePort(t), inbox: inbox}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log")) // there is none before the first line
			t.Logf("log of %s:\n%s", program, log[max(0, len(log)-4000):])
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	p.must(os.Chmod(dir, 0o755))
	for i, m := range messages {
		p.write(originalName(i), strings.ReplaceAll(m, "\r\n", "\n"))
	}
	for n := range differentialSequences {
		p.must(p.fill(n))
	}
	return p
}

// fill gives a mailbox its messages, in the place of what it has.
func (p *maildirPeer) fill(sequence int) error {
	inbox := filepath.Join(p.home(sequence), p.inbox)
	if err := os.RemoveAll(inbox); err != nil {
		return err
	}
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(inbox, sub), 0o755), os.Lchown(filepath.Join(inbox, sub), maildirOwner, maildirOwner)); err != nil {
			return err
		}
	}
	for i := range differentialMessages() {
		if err := os.Link(filepath.Join(p.dir, originalName(i)), filepath.Join(inbox, "new", originalName(i))); err != nil {
			return err
		}
	}
	return errors.Join(os.Lchown(inbox, maildirOwner, maildirOwner), os.Lchown(p.home(sequence), maildirOwner, maildirOwner))
}

func originalName(i int) string { return fmt.Sprintf("17000000%02d.M%dP1.host", i, i) }

func (p *maildirPeer) home(n int) string { return filepath.Join(p.dir, "mail", mailboxName(n)) }

func (p *maildirPeer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *maildirPeer) write(name, content string) {
	p.t.Helper()
	p.must(os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o644))
}

// passwd writes a line for every mailbox.
func (p *maildirPeer) passwd(name, user, hash, tail string) {
	p.t.Helper()
	var b strings.Builder
	for n := range differentialSequences {
		fmt.Fprintf(&b, "%s%s:%s:%d:%d::%s%s\n", mailboxName(n), user, hash, maildirOwner, maildirOwner, p.home(n), tail)
	}
	p.write(name, b.String())
}

// run starts the server in the foreground; it ends with the test.
func (p *maildirPeer) run(args ...string) {
	p.t.Helper()
	log, err := os.Create(filepath.Join(p.dir, "stderr"))
	p.must(err)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	p.must(cmd.Start())
	p.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may be gone
		dead := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // how it ends is its own matter
		dead.Stop()
		_ = log.Close()
	})
	eventually(p.t, p.program+" to greet", func() bool {
		c, err := net.Dial("tcp", p.addr())
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

func (p *maildirPeer) name() string { return p.program }

func (p *maildirPeer) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

func (p *maildirPeer) left(sequence int) ([]int, error) {
	var left []int
	for _, sub := range []string{"cur", "new"} {
		files, err := os.ReadDir(filepath.Join(p.home(sequence), p.inbox, sub))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			for i := range differentialMessages() {
				if strings.HasPrefix(f.Name(), originalName(i)) {
					left = append(left, i)
				}
			}
		}
	}
	slices.Sort(left)
	return slices.Compact(left), nil // one may have moved from new to cur meanwhile
}

func (*maildirPeer) normalise(body string) string { return body }

// newDovecotPeer is Dovecot, with a configuration of its own.
func newDovecotPeer(t testing.TB, messages []string) rival {
	t.Helper()
	needRoot(t, "dovecot")
	p := newMaildirPeer(t, "Dovecot", "Maildir", messages)
	p.passwd("users", "@"+differentialDomain, "{PLAIN}"+differentialPassword, "")
	p.write("dovecot.conf", strings.NewReplacer("DIR", p.dir, "PORT", strconv.Itoa(p.port), "OWNER", strconv.Itoa(maildirOwner)).Replace(dovecotConf))
	p.run("dovecot", "-F", "-c", filepath.Join(p.dir, "dovecot.conf"))
	return p
}

const dovecotConf = `base_dir = DIR/run
state_dir = DIR/state
instance_name = latchkey-test
listen = 127.0.0.1
protocols = pop3
log_path = DIR/log
mail_location = maildir:~/Maildir
mail_uid = OWNER
mail_gid = OWNER
first_valid_uid = OWNER
mail_max_userip_connections = 0
mail_fsync = never
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
ssl = no
default_vsz_limit = 1G
passdb {
  driver = passwd-file
  args = DIR/users
}
userdb {
  driver = passwd-file
  args = DIR/users
}
namespace inbox {
  inbox = yes
}
service pop3-login {
  service_count = 0
  process_min_avail = 2
  inet_listener pop3 {
    port = PORT
  }
  inet_listener pop3s {
    port = 0
  }
}
service pop3 {
  service_count = 1000
  process_min_avail = 4
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
`

// mailutilsPeer is pop3d of GNU Mailutils. It writes an X-UIDL field into what it sends.
type mailutilsPeer struct{ *maildirPeer }

func newMailutilsPeer(t testing.TB, messages []string) rival {
	t.Helper()
	needRoot(t, "pop3d", "openssl")
	p := newMaildirPeer(t, "Mailutils", "INBOX", messages)
	p.must(os.Mkdir(filepath.Join(p.dir, "passwd"), 0o755))
	hash := strings.TrimSpace(run(t.(*testing.T), differentialPassword, "openssl", "passwd", "-1", "-stdin"))
	p.passwd(filepath.Join("passwd", differentialDomain), "", hash, ":/bin/sh")
	p.write("pop3d.conf", strings.NewReplacer("DIR", p.dir, "PORT", strconv.Itoa(p.port)).Replace(mailutilsConf))
	p.run("pop3d", "--daemon=100", "--foreground", "--no-config", "--config-file="+filepath.Join(p.dir, "pop3d.conf"))
	return mailutilsPeer{p}
}

const mailutilsConf = `auth { authentication clear; authentication generic:virtdomain; authorization clear; authorization virtdomain; };
virtdomain { passwd-dir DIR/passwd; };
mailbox { mailbox-type maildir; };
logging { syslog no; };
mandatory-locking { enable no; };
pidfile DIR/pid;
server 127.0.0.1:PORT { };
`

func (mailutilsPeer) normalise(body string) string {
	at := strings.Index(body, "X-UIDL: ")
	if at < 0 {
		return body
	}
	_, rest, _ := strings.Cut(body[at:], "\r\n")
	return body[:at] + rest
}
