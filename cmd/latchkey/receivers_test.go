//go:build interop

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// receiver is a real mail server of the laboratory that puts mail for its domain into maildirs.
type receiver struct {
	t      *testing.T
	name   string
	domain string
	dir    string // holds all that is its own
	port   int
	// reply is a pattern of how its answer to a message begins, which came by DATA or BDAT.
	reply string
	// utf8 is set if it offers SMTPUTF8, tls if its STARTTLS works. OpenSMTPD of Debian 12 breaks each handshake off, whatever the key (its log
	// has "EVP lib"): a half TLS from life.
	utf8, tls bool
}

// receiverLimit is the size of a message that a receiver takes, in octets.
const receiverLimit = 1_000_000

// receiverBoxes are the mailboxes that each of them has.
func receiverBoxes() (names []string) {
	names = []string{"attached", "utf8", "large"}
	for i := range 25 {
		names = append(names, fmt.Sprintf("box%02d", i))
	}
	return names
}

// newReceiver makes the folder of one.
func newReceiver(t *testing.T, name, reply string, modern bool) *receiver {
	t.Helper()
	// Its processes run as other users, so the folder must be open to them: the test's own is not.
	dir, err := os.MkdirTemp("", "latchkey-"+name)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return &receiver{t: t, name: name, domain: name + ".example", dir: dir, port: freePort(t), reply: reply, utf8: modern, tls: modern}
}

// peers is where the packages are unpacked that cannot be installed beside Postfix (.ci/interop-peers).
func peers() string {
	if dir := os.Getenv("LATCHKEY_PEERS"); dir != "" {
		return dir
	}
	return "/opt/latchkey-peers"
}

// needPeer is need for a program of [peers].
func needPeer(t *testing.T, program string) string {
	t.Helper()
	needRoot(t, "unshare", "mount")
	path := filepath.Join(peers(), program)
	need(t, path)
	return path
}

// write puts a file into the receiver's folder.
func (r *receiver) write(name, form string, more ...string) string {
	r.t.Helper()
	more = append(more, "DIR", r.dir, "PEERS", peers(), "DOMAIN", r.domain, "PORT", strconv.Itoa(r.port), "LIMIT", strconv.Itoa(receiverLimit))
	path := filepath.Join(r.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.NewReplacer(more...).Replace(form)), 0o644)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return path
}

// run starts a receiver that is not installed: in a mount namespace of its own, whose /etc has the users of it and whose other folders are its own.
func (r *receiver) run(users []string, binds map[string]string, args ...string) {
	r.t.Helper()
	if out, err := exec.Command("cp", "-a", "/etc", filepath.Join(r.dir, "etc")).CombinedOutput(); err != nil {
		r.t.Fatalf("cp: %v\n%s", err, out)
	}
	for i, name := range users {
		for file, line := range map[string]string{"passwd": "%s:x:%d:%d::/nonexistent:/bin/sh\n", "group": "%s:x:%d:\n"} {
			f, err := os.OpenFile(filepath.Join(r.dir, "etc", file), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				r.t.Fatal(err)
			}
			if file == "passwd" {
				_, err = fmt.Fprintf(f, line, name, receiverUser+i, receiverUser+i)
			} else {
				_, err = fmt.Fprintf(f, line, name, receiverUser+i)
			}
			if err != nil {
				r.t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	script := "set -e; mount --bind " + r.dir + "/etc /etc; "
	for at, of := range binds {
		script += "mount --bind " + of + " " + at + "; "
	}
	log, err := os.Create(filepath.Join(r.dir, "output"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := exec.Command("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c", script + `exec "$@"`, "sh"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // it may have ended by itself
		_ = cmd.Wait()                                      // its log says why
		if r.t.Failed() {
			r.t.Logf("log of %s:\n%s", r.name, r.log())
		}
	})
	r.awaitGreeting()
}

// receiverUser is the first id of the users that a receiver gets in its own /etc.
const receiverUser = 64900

func (r *receiver) awaitGreeting() {
	r.t.Helper()
	eventually(r.t, r.name+" to greet", func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)))
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

// log is what it says.
func (r *receiver) log() string {
	var all string
	for _, name := range []string{"output", "log/mainlog", "log/paniclog", "log"} {
		if text, err := os.ReadFile(filepath.Join(r.dir, name)); err == nil { // not each of them has each
			all += string(text)
		}
	}
	return all
}

// keys makes a certificate that a user can read.
func (r *receiver) keys(uid int) {
	r.t.Helper()
	cert, key := filepath.Join(r.dir, "cert.pem"), filepath.Join(r.dir, "key.pem")
	run(r.t, "", "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN="+r.domain, "-days", "9", "-keyout", key, "-out", cert)
	for _, file := range []string{cert, key} {
		if err := errors.Join(os.Chmod(file, 0o600), os.Chown(file, uid, uid)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// folder makes one that belongs to a user.
func (r *receiver) folder(name string, uid int, mode os.FileMode) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	err := os.MkdirAll(path, mode)
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err == nil {
		err = os.Chown(path, uid, uid)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return path
}

// messages are those in a mailbox, with CRLF.
func (r *receiver) messages(box string) (all []string) {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "boxes", box, "new", "*"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, strings.ReplaceAll(string(text), "\n", "\r\n"))
	}
	return all
}

// boxesOf lists the mailboxes in a form of two names each.
func boxesOf(form, separator string) string {
	var all []string
	for _, name := range receiverBoxes() {
		all = append(all, strings.ReplaceAll(form, "BOX", name))
	}
	return strings.Join(all, separator)
}

// postfixReceiver is a Postfix with mailboxes of its own.
func postfixReceiver(t *testing.T, home *testServer, back string) *receiver {
	t.Helper()
	needRoot(t, "postfix")
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	p := startPostfix(t, home.config.TLS.Cert, home.config.TLS.Key, map[string]string{home.domain: back}, strings.NewReplacer(
		"LIMIT", strconv.Itoa(receiverLimit), "UID", owner.Uid, "GID", owner.Gid, "BOXES", boxesOf("{ BOX@postfix.example = BOX/ }", " "),
	).Replace(postfixBoxes))
	r := &receiver{t: t, name: "postfix", domain: "postfix.example", dir: p.dir, port: p.port, reply: `250 2\.0\.0 Ok: (\d+ bytes )?queued as `, utf8: true, tls: true}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		t.Fatal(err)
	}
	r.folder("boxes", uid, 0o700)
	return r
}

const postfixBoxes = `message_size_limit = LIMIT
virtual_mailbox_limit = 0
virtual_mailbox_domains = postfix.example
virtual_mailbox_base = DIR/boxes
virtual_mailbox_maps = inline:{ BOXES }
virtual_uid_maps = static:UID
virtual_gid_maps = static:GID
virtual_minimum_uid = 1
`

// eximReceiver is an Exim, the light daemon of Debian.
func eximReceiver(t *testing.T, _ *testServer, back string) *receiver {
	t.Helper()
	program := needPeer(t, "usr/sbin/exim4")
	r := newReceiver(t, "exim", `250 (.* )?OK id=`, true)
	_, port, err := net.SplitHostPort(back)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"spool", "log", "boxes"} {
		r.folder(name, receiverUser, 0o700)
	}
	r.keys(receiverUser)
	r.write("names", boxesOf("BOX: BOX", "\n")+"\n")
	conf := r.write("exim4.conf", eximConf, "BACK", port)
	r.run([]string{"Debian-exim"}, nil, "sh", "-c", `mkdir -p /etc/exim4 && cp "$0" /etc/exim4/exim4.conf && exec "$@"`, conf, program, "-bdf")
	return r
}

const eximConf = `primary_hostname = exim.example
exim_path = PEERS/usr/sbin/exim4
spool_directory = DIR/spool
log_file_path = DIR/log/%slog
pid_file_path = DIR/spool/exim.pid
local_interfaces = 127.0.0.1
disable_ipv6 = true
daemon_smtp_ports = PORT
message_size_limit = LIMIT
tls_advertise_hosts = *
tls_certificate = DIR/cert.pem
tls_privatekey = DIR/key.pem
dsn_advertise_hosts = *
acl_smtp_rcpt = rcpt
rfc1413_query_timeout = 0s
begin acl
rcpt:
  require verify = recipient
  accept
begin routers
boxes:
  driver = accept
  domains = DOMAIN
  local_parts = lsearch;DIR/names
  transport = box
back:
  driver = manualroute
  domains = example.com
  route_list = * 127.0.0.1
  self = send
  transport = out
begin transports
box:
  driver = appendfile
  maildir_format
  directory = DIR/boxes/$local_part_data
  create_directory
  user = Debian-exim
out:
  driver = smtp
  port = BACK
`

// openSMTPDReceiver is an OpenSMTPD, whose folders are compiled in and so are mounted.
func openSMTPDReceiver(t *testing.T, _ *testServer, back string) *receiver {
	t.Helper()
	program := needPeer(t, "usr/sbin/smtpd")
	r := newReceiver(t, "opensmtpd", `250 2\.0\.0 .* Message accepted for delivery`, false)
	r.keys(0)
	r.folder("boxes", receiverUser+2, 0o700)
	r.folder("lib/opensmtpd/empty", 0, 0o755)
	r.folder("spool", 0, 0o755)
	r.folder("run", 0, 0o755)
	conf := r.write("smtpd.conf", openSMTPDConf, "BACK", back, "BOXES", boxesOf(`"BOX@opensmtpd.example" = "lkboxes"`, ", "))
	r.run([]string{"opensmtpd", "opensmtpq", "lkboxes"}, map[string]string{
		"/var/lib": r.dir + "/lib", "/var/spool": r.dir + "/spool", "/run": r.dir + "/run", "/usr/libexec": filepath.Join(peers(), "usr/libexec"),
	}, program, "-d", "-f", conf)
	return r
}

const openSMTPDConf = `pki lab cert "DIR/cert.pem"
pki lab key "DIR/key.pem"
table boxes { BOXES }
smtp max-message-size LIMIT
listen on 127.0.0.1 port PORT tls pki lab hostname opensmtpd.example
action "box" maildir "DIR/boxes/%{rcpt.user}" virtual <boxes>
action "out" relay host smtp://BACK
match from any for domain "DOMAIN" action "box"
match from any for domain "example.com" action "out"
`
