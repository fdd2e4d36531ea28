//go:build interop

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"latchkey/config"
)

// postfix is a real Postfix on loopback, with a configuration, a queue and a log of its own in a folder of the test.
type postfix struct {
	t    testing.TB
	dir  string
	port int
	// cert is what it shows under STARTTLS.
	cert string
}

// startPostfix runs a Postfix that takes mail for the domains of routes and hands it on to the servers (address:port) that they name.
// Clients on loopback may send anywhere, so that it can be a smarthost too. More lines for its main.cf may be given.
func startPostfix(t testing.TB, cert, key string, routes map[string]string, more ...string) *postfix {
	t.Helper()
	needRoot(t, "postfix")
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	// Its processes run as another user, so the folder must be open to it: the test's own is not.
	dir, err := os.MkdirTemp("", "latchkey-postfix")
	if err != nil {
		t.Fatal(err)
	}
	p := &postfix{t: t, dir: dir, port: freePort(t), cert: cert}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of Postfix:\n%s", p.log())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		t.Fatal(err)
	}
	p.must(os.Chmod(dir, 0o755))
	for _, sub := range []string{"etc", "spool", "data"} {
		p.must(os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	p.must(os.Chown(filepath.Join(dir, "data"), uid, -1))
	var transports, domains []string
	for domain, server := range routes {
		host, port, err := net.SplitHostPort(server)
		p.must(err)
		transports = append(transports, fmt.Sprintf("{ %s = smtp:[%s]:%s }", domain, host, port))
		domains = append(domains, domain)
	}
	p.write("etc/main.cf", strings.NewReplacer(
		"DIR", dir, "CERT", cert, "KEY", key, "DOMAINS", strings.Join(domains, " "), "TRANSPORTS", strings.Join(transports, " "),
	).Replace(postfixMain+strings.Join(more, "")))
	p.write("etc/master.cf", strings.ReplaceAll(postfixMaster, "PORT", strconv.Itoa(p.port)))
	p.control("start")
	t.Cleanup(func() { p.control("stop") })
	eventually(t, "Postfix to greet", func() bool {
		c, err := net.Dial("tcp", p.addr())
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return p
}

func (p *postfix) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

func (p *postfix) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *postfix) write(name, content string) {
	p.t.Helper()
	p.must(os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o644))
}

func (p *postfix) control(verb string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience) // its scripts look at every file of its own
	defer cancel()
	if out, err := exec.CommandContext(ctx, "postfix", "-c", filepath.Join(p.dir, "etc"), verb).CombinedOutput(); err != nil {
		p.t.Fatalf("postfix %s: %v\n%s%s", verb, err, out, p.log())
	}
}

func (p *postfix) log() string {
	text, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Mail goes out through a real Postfix and in at another server: by MX, as to any other domain, and as a smarthost.
func TestInteropThroughPostfix(t *testing.T) {
	away := startServer(t, "other.example")
	away.addAccount("otto", "password of otto")
	home := newTestServer(t, "example.com")
	p := startPostfix(t, home.config.TLS.Cert, home.config.TLS.Key, map[string]string{"other.example": away.addr("mx")})
	home.sendsTo(p.port, "other.example")
	home.start()
	home.addAccount("anna", "password of anna")
	through := func(n int, subject string) {
		t.Helper()
		home.send("anna", "password of anna", []string{"otto@other.example"}, message(subject))
		messages := away.arrived("otto", "password of otto", n)
		if got := messages[n-1]; !strings.Contains(got, "\nSubject: "+subject+"\n") || !strings.Contains(got, "by postfix.example (Postfix) with ") || !strings.Contains(got, "SMTPS id ") {
			t.Errorf("arrived as\n%s", got)
		}
	}
	through(1, "by MX")
	home.stop()
	home.config.Relay = config.Relay{Smarthost: p.addr(), SmarthostTLS: config.SmarthostRequired, Nameservers: home.config.Relay.Nameservers, Port: 25}
	home.start()
	through(2, "by smarthost")
}

const postfixMain = `compatibility_level = 3.6
queue_directory = DIR/spool
data_directory = DIR/data
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = DIR/log
maillog_file_prefixes = DIR
myhostname = postfix.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
relay_domains = DOMAINS
transport_maps = inline:{ TRANSPORTS }
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_cert_file = CERT
smtpd_tls_key_file = KEY
smtp_tls_security_level = may
`

const postfixMaster = `127.0.0.1:PORT inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
virtual   unix  - n n - - virtual
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
`
