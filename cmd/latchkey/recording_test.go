//go:build interop

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"latchkey/store"
)

// Real programs talk to the server through a proxy that keeps what is said. The dialogues of pop3/maildrop/testdata/clients that say
// "recorded" are made by it (-update), and what the program sends today must be what is in them.

// recorder is a proxy on loopback for one connection at a time.
type recorder struct {
	mu    sync.Mutex // protects lines
	lines []string
	gate  *gate // may be nil
}

// recordProxy returns the port of a proxy to a server, with a gate or without.
func recordProxy(t *testing.T, server string, g *gate) (r *recorder, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r = &recorder{gate: g}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			r.serve(client, server)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close() // ends the proxy
		<-done
	})
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return r, port
}

func (r *recorder) serve(client net.Conn, server string) {
	defer func() { _ = client.Close() }() // the other side may have closed
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer func() { _ = upstream.Close() }()
	var both sync.WaitGroup
	both.Go(func() { r.pass("S: ", upstream, client) })
	both.Go(func() { r.pass("C: ", client, upstream) })
	both.Wait()
}

// pass hands lines on, and notes each before anybody can answer it.
func (r *recorder) pass(who string, from, to net.Conn) {
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			r.mu.Lock()
			r.lines = append(r.lines, who+strings.TrimSuffix(line, "\r\n"))
			r.mu.Unlock()
			switch {
			case r.gate == nil:
			case who == "C: ":
				r.gate.heard(line)
			default:
				r.gate.wait()
			}
			if _, err := to.Write([]byte(line)); err != nil {
				return
			}
		}
		if err != nil {
			_ = to.Close() // what one side has ended is over
			return
		}
	}
}

func (r *recorder) dialogue() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// recordedPrograms fetch alice's two messages from a port and delete them.
var recordedPrograms = []struct {
	name    string
	program string
	version []string
	fetch   func(t *testing.T, port string)
}{
	{"curl", "curl", []string{"curl", "--version"}, func(t *testing.T, port string) {
		run(t, "", "curl", "-sS", "-u", "alice:open sesame", "pop3://127.0.0.1:"+port+"/2")
	}},
	{"mpop", "mpop", []string{"mpop", "--version"}, func(t *testing.T, port string) {
		run(t, "", "mpop", "--host=127.0.0.1", "--port="+port, "--auth=user", "--user=alice", "--passwordeval=echo 'open sesame'", "--tls=off",
			"--delivery=mbox,"+filepath.Join(t.TempDir(), "mbox"), "--uidls-file="+filepath.Join(t.TempDir(), "uidls"), "--keep=off")
	}},
	{"fetchmail", "fetchmail", []string{"fetchmail", "-V"}, func(t *testing.T, port string) {
		dir := t.TempDir()
		runFetchmail(t, file(t, "fetchmailrc", fmt.Sprintf("set no bouncemail\npoll localhost protocol pop3 port %s auth password\n"+
			"  user \"alice\" password \"open sesame\" sslproto \"\" fetchall nokeep\n  mda \"cat >>%s\"\n", port, filepath.Join(dir, "mail"))), dir)
	}},
	{"fetchmail_keep", "fetchmail", []string{"fetchmail", "-V"}, func(t *testing.T, port string) {
		dir := t.TempDir()
		runFetchmail(t, file(t, "fetchmailrc", fmt.Sprintf("set no bouncemail\npoll localhost protocol pop3 port %s uidl auth password\n"+
			"  user \"alice\" password \"open sesame\" sslproto \"\" keep\n  mda \"cat >>%s\"\n", port, filepath.Join(dir, "mail"))), dir)
	}},
	{"poplib", "python3", []string{"python3", "--version"}, func(t *testing.T, port string) {
		run(t, "", "python3", "-c", `import poplib, sys
p = poplib.POP3("127.0.0.1", int(sys.argv[1])); p.user("alice"); p.pass_("open sesame"); p.stat(); p.uidl()
for n in (1, 2): p.retr(n); p.dele(n)
p.quit()`, port)
	}},
	{"getmail", "getmail", []string{"getmail", "--version"}, func(t *testing.T, port string) {
		dir := t.TempDir()
		run(t, "", "getmail", "--getmaildir="+dir, "--rcfile="+file(t, "getmailrc", fmt.Sprintf("[retriever]\ntype = SimplePOP3Retriever\n"+
			"server = 127.0.0.1\nport = %s\nusername = alice\npassword = open sesame\n[destination]\ntype = MDA_external\npath = /bin/sh\n"+
			"arguments = (\"-c\", \"cat >>%s\")\nallow_root_commands = true\n[options]\ndelete = true\nverbose = 0\n", port, filepath.Join(dir, "mbox"))))
	}},
	{"s_nail", "s-nail", []string{"s-nail", "-:/", "-Xversion", "-Xxit"}, func(t *testing.T, port string) {
		run(t, "", "s-nail", "-:/", "-S", "v15-compat=yes", "-S", "pop3-auth=plain", "-S", "user=alice", "-S", "password=open sesame",
			"-Y", "copy * "+filepath.Join(t.TempDir(), "mbox"), "-Y", "delete *", "-Y", "quit", "-f", "pop3://127.0.0.1:"+port)
	}},
	{"mutt", "mutt", []string{"mutt", "-v"}, func(t *testing.T, port string) {
		dir := t.TempDir()
		rc := file(t, "muttrc", fmt.Sprintf(`set folder=%[1]s spoolfile=%[1]s/spool quit=yes move=no delete=yes pop_user="alice" pop_pass="open sesame"
set pop_authenticators=user ssl_starttls=no ssl_force_tls=no message_cachedir="" header_cache="" wait_key=no confirmappend=no
`, dir))
		run(t, "", "script", "-qec", "TERM=vt100 mutt -n -F "+rc+" -f pop://127.0.0.1:"+port+
			" -e 'push <display-message><exit><delete-message><next-undeleted><display-message><exit><delete-message><quit>'",
			filepath.Join(dir, "typescript"))
	}},
	{"thunderbird", "thunderbird", []string{"thunderbird", "--version"}, func(t *testing.T, port string) {
		startThunderbird(t, thunderbirdAccount{address: "alice", password: "open sesame", popPort: port, smtpPort: "1"}).getMail()
	}},
	{"ruby", "ruby", []string{"ruby", "--version"}, func(t *testing.T, port string) {
		run(t, "", "ruby", "-e", `require "net/pop"
Net::POP3.start("127.0.0.1", ARGV[0].to_i, "alice", "open sesame") { |p| p.each_mail { |m| m.unique_id; m.pop; m.delete } }`, port)
	}},
}

// TestInteropRecordings: what programs say is what their dialogues say they say.
func TestInteropRecordings(t *testing.T) {
	for _, p := range recordedPrograms {
		t.Run(p.name, func(t *testing.T) {
			need(t, p.program)
			s := newTestServer(t, "example.com")
			var st store.Store
			s.wrap = func(inner store.Store) store.Store { st = inner; return inner }
			s.start()
			s.addAccount("alice", "open sesame")
			uids := deliverToAlice(t, st)
			replacing := strings.NewReplacer(uids[0], "{{uid1}}", uids[1], "{{uid2}}")
			r, port := recordProxy(t, s.addr("pop3"), nil)
			p.fetch(t, port)
			said := r.dialogue()
			for i := range said {
				said[i] = replacing.Replace(said[i])
			}
			page := filepath.Join("..", "..", "pop3", "maildrop", "testdata", "clients", p.name+".txt")
			if *updateDifferences {
				version, _ := exec.Command(p.version[0], p.version[1:]...).Output() // some end with an error
				first, _, _ := strings.Cut(string(version), "\n")
				text := "# recorded from " + first + "\n# by TestInteropRecordings, which checks that it still says so\n" +
					strings.Join(said, "\n") + "\nS: EOF\n"
				if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := clientLines(said), clientLines(strings.Split(string(bytes.TrimSpace(text)), "\n")); !slices.Equal(got, want) {
				t.Errorf("%s says\n%s\nand its dialogue\n%s", p.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func clientLines(dialogue []string) []string {
	return slices.DeleteFunc(slices.Clone(dialogue), func(line string) bool { return !strings.HasPrefix(line, "C: ") })
}
