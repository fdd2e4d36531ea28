package relay

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"latchkey/internal/resolver"
)

// network is a world of hosts over net.Pipe. An address that nobody has refuses connections.
type network struct {
	mu     sync.Mutex // protects what follows
	hosts  map[string]func(net.Conn)
	dials  []string
	from   []string        // the dials from an address of our choice
	silent map[string]bool // connections to these never come about
	served sync.WaitGroup
}

func newNetwork(t *testing.T) *network {
	n := &network{hosts: map[string]func(net.Conn){}, silent: map[string]bool{}}
	t.Cleanup(n.served.Wait)
	return n
}

func (n *network) listen(addr string, serve func(net.Conn)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[addr] = serve
}

func (n *network) dial(ctx context.Context, from netip.Addr, addr string) (net.Conn, error) {
	n.mu.Lock()
	serve, silent := n.hosts[addr], n.silent[addr]
	n.dials = append(n.dials, addr)
	if from.IsValid() {
		n.from = append(n.from, from.String()+" to "+addr)
	}
	n.mu.Unlock()
	switch {
	case silent:
		<-ctx.Done()
		return nil, ctx.Err()
	case serve == nil:
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	b := &buffered{Conn: theirs, out: make(chan []byte, 1000)}
	n.served.Go(b.pump)
	n.served.Go(func() {
		defer close(b.out)
		serve(b)
	})
	return ours, nil
}

// buffered is the server's end of a pipe, with a buffer as the network has one: whoever writes does not wait for whoever reads.
type buffered struct {
	net.Conn
	out chan []byte
}

func (b *buffered) Write(p []byte) (int, error) {
	b.out <- append([]byte(nil), p...)
	return len(p), nil
}

// pump sends what was written, and closes after the last of it.
func (b *buffered) pump() {
	defer func() { _ = b.Conn.Close() }()
	for p := range b.out {
		_, _ = b.Conn.Write(p) // the other end may be gone
	}
}

// Close is the pump's matter.
func (b *buffered) Close() error { return nil }

// dialled returns how often an address was connected to.
func (n *network) dialled(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, d := range n.dials {
		if d == addr {
			count++
		}
	}
	return count
}

// dns is a resolver that knows what it was told.
type dns struct {
	mu    sync.Mutex // protects what follows
	mx    map[string][]resolver.MX
	hosts map[string][]netip.Addr
	tlsa  map[string]resolver.TLSASet // by _PORT._tcp.HOST
	txt   map[string][]string
	fails map[string]error
}

func newDNS() *dns {
	return &dns{
		mx: map[string][]resolver.MX{}, hosts: map[string][]netip.Addr{}, tlsa: map[string]resolver.TLSASet{}, txt: map[string][]string{},
		fails: map[string]error{},
	}
}

func (d *dns) MX(_ context.Context, domain string) ([]resolver.MX, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fails[domain]; err != nil {
		return nil, err
	}
	if mx, ok := d.mx[domain]; ok {
		return mx, nil
	}
	if _, ok := d.hosts[domain]; ok {
		return []resolver.MX{{Host: domain, Implicit: true}}, nil
	}
	return nil, &resolver.Error{Class: resolver.ErrNotFound, Text: domain + " does not exist in the DNS"}
}

func (d *dns) Addrs(_ context.Context, host string) ([]netip.Addr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fails[host]; err != nil {
		return nil, err
	}
	if addrs := d.hosts[host]; len(addrs) > 0 {
		return addrs, nil
	}
	return nil, &resolver.Error{Class: resolver.ErrNotFound, Text: host + " has no address"}
}

func (d *dns) TLSA(_ context.Context, host string, port uint16) (resolver.TLSASet, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := fmt.Sprintf("_%d._tcp.%s", port, host)
	return d.tlsa[name], d.fails[name]
}

func (d *dns) TXT(_ context.Context, name string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fails[name]; err != nil {
		return nil, err
	}
	if txt, ok := d.txt[name]; ok {
		return txt, nil
	}
	return nil, &resolver.Error{Class: resolver.ErrNotFound, Text: name + " has no TXT record"}
}

// set changes what the DNS says, as the test wants.
func (d *dns) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *dns) host(name string, addrs ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hosts[name] = nil
	for _, a := range addrs {
		d.hosts[name] = append(d.hosts[name], netip.MustParseAddr(a))
	}
}

func (d *dns) exchangers(domain string, list ...resolver.MX) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mx[domain] = list
}

// letter is a message that a server took.
type letter struct {
	mail string   // the whole MAIL command
	to   []string // the whole RCPT commands
	data string
	tls  bool
	user string
}

// server is an SMTP server that does as it is told. Its zero value takes everything.
type server struct {
	greeting string // instead of "220 ..."
	// caps are the lines of its EHLO reply; nil are the usual ones.
	caps []string
	// answer, if it is set and returns one, replaces the reply to a command; "drop" closes instead. The command "." is the end of a message.
	answer func(command string) string
	cert   *tls.Certificate
	// implicit begins with TLS.
	implicit bool
	user     string // whose password is "secret"
	// room, if it is not 0, is how many connections it takes at once; the others are told so with 421.
	room int

	mu      sync.Mutex // protects what follows
	tls     *tls.Config
	shown   *tls.Certificate // of that
	letters []letter
	log     []string
	sni     []string // the names that were asked for in handshakes
	conns   int
	// open is how many connections there are, most how many there were at once that it took, refused how many it did not.
	open, most, refused int
	// resumed counts short TLS handshakes.
	resumed int
	// groups are, for each command of log, how many had come with it so far in one piece.
	groups []int
}

func (s *server) taken() []letter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]letter(nil), s.letters...)
}

func (s *server) commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.log...)
}

// askedFor are the names in handshakes.
func (s *server) askedFor() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.sni...)
}

// served counts commands that begin so.
func (s *server) served(prefix string) int {
	n := 0
	for _, c := range s.commands() {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// speech is one connection to a server.
type speech struct {
	*server
	conn   net.Conn
	r      *bufio.Reader
	tls    bool
	user   string
	letter *letter
}

func (s *server) serve(c net.Conn) {
	if !s.enter() {
		_, _ = io.WriteString(c, "421 4.7.0 too many connections from your address\r\n")
		return
	}
	defer s.leave()
	p := &speech{server: s, conn: c, r: bufio.NewReader(c)}
	if s.implicit && !p.startTLS() {
		return
	}
	greeting := s.greeting
	if greeting == "" {
		greeting = "220 peer ESMTP"
	}
	if !p.say(greeting) {
		return
	}
	together := 0
	for {
		waits := p.r.Buffered() == 0
		line, err := p.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		if together++; waits {
			together = 1
		}
		s.groups = append(s.groups, together)
		s.log = append(s.log, line)
		s.mu.Unlock()
		if !p.handle(line) {
			return
		}
	}
}

// enter counts a connection, and reports whether there is room for it.
func (s *server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns++
	if s.room > 0 && s.open >= s.room {
		s.refused++
		return false
	}
	s.open++
	s.most = max(s.most, s.open)
	return true
}

func (s *server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

// crowd returns the most connections at once, and how many were refused.
func (s *server) crowd() (most, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most, s.refused
}

func (p *speech) say(reply string) bool {
	_, err := io.WriteString(p.conn, strings.ReplaceAll(reply, "\n", "\r\n")+"\r\n")
	return err == nil
}

// told returns the reply that was set for a command.
func (p *speech) told(command, otherwise string) string {
	if p.answer != nil {
		if reply := p.answer(command); reply != "" {
			return reply
		}
	}
	return otherwise
}

func (p *speech) handle(line string) bool {
	verb := strings.ToUpper(strings.SplitN(line, " ", 2)[0])
	otherwise := "250 2.0.0 OK"
	switch verb {
	case "EHLO":
		caps := p.caps
		if caps == nil {
			caps = []string{"SIZE 10000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"}
		}
		lines := append([]string{"peer greets you"}, caps...)
		if p.cert != nil && !p.tls {
			lines = append(lines, "STARTTLS")
		}
		if p.server.user != "" {
			lines = append(lines, "AUTH PLAIN LOGIN")
		}
		otherwise = "250-" + strings.Join(lines[:len(lines)-1], "\n250-") + "\n250 " + lines[len(lines)-1]
		if len(lines) == 1 {
			otherwise = "250 " + lines[0]
		}
	case "STARTTLS", "AUTH":
		return p.secure(verb, line)
	case "RCPT":
		if p.letter == nil {
			otherwise = "503 5.5.1 MAIL first"
		}
	case "RSET":
		p.letter = nil
	case "DATA":
		if otherwise = "354 go on"; p.letter == nil || len(p.letter.to) == 0 {
			otherwise = "503 5.5.1 no recipients"
		}
	case "BDAT":
		return p.chunk(line)
	case "QUIT":
		otherwise = "221 2.0.0 bye"
	}
	reply := p.told(line, otherwise)
	if reply == "drop" {
		return false
	}
	good := reply[0] == '2' || reply[0] == '3'
	switch {
	case verb == "MAIL" && good:
		p.letter = &letter{mail: line, tls: p.tls, user: p.user}
	case verb == "MAIL":
		p.letter = nil
	case verb == "RCPT" && good && p.letter != nil:
		p.letter.to = append(p.letter.to, line)
	}
	if !p.say(reply) || verb == "QUIT" || strings.HasPrefix(reply, "421") {
		return false
	}
	return verb != "DATA" || !good || p.receive()
}

// chunk takes a message in that comes as one chunk, whatever it says of it.
func (p *speech) chunk(line string) bool {
	var n int
	if _, err := fmt.Sscanf(line, "BDAT %d LAST", &n); err != nil {
		return p.say("501 5.5.4 what")
	}
	octets := make([]byte, n)
	if _, err := io.ReadFull(p.r, octets); err != nil {
		return false
	}
	otherwise := "250 2.0.0 queued as 17"
	if p.letter == nil || len(p.letter.to) == 0 {
		otherwise = "503 5.5.1 no recipients"
	}
	reply := p.told(line, p.told(".", otherwise))
	if reply == "drop" {
		return false
	}
	if reply[0] == '2' {
		p.letter.data = string(octets)
		p.mu.Lock()
		p.letters = append(p.letters, *p.letter)
		p.mu.Unlock()
	}
	return p.say(reply) && !strings.HasPrefix(reply, "421")
}

// receive takes a message in, dots unstuffed.
func (p *speech) receive() bool {
	var b strings.Builder
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	if p.letter == nil { // one to nobody
		p.letter = &letter{}
	}
	p.letter.data = b.String()
	reply := p.told(".", "250 2.0.0 queued as 17")
	if reply == "drop" {
		return false
	}
	if reply[0] == '2' && len(p.letter.to) > 0 {
		p.mu.Lock()
		p.letters = append(p.letters, *p.letter)
		p.mu.Unlock()
	}
	return p.say(reply) && !strings.HasPrefix(reply, "421")
}

func (p *speech) secure(verb, line string) bool {
	if verb == "STARTTLS" {
		reply := p.told(line, "220 go ahead")
		return reply != "drop" && p.say(reply) && (!strings.HasPrefix(reply, "220") || p.startTLS())
	}
	words := strings.Fields(line)
	switch {
	case len(words) == 3 && words[1] == "PLAIN":
		if words[2] != encode("\x00"+p.server.user+"\x00secret") {
			return p.say("535 5.7.8 no")
		}
	case len(words) == 3 && words[1] == "LOGIN":
		if !p.say("334 " + encode("Password:")) {
			return false
		}
		if got, err := p.r.ReadString('\n'); err != nil || strings.TrimSpace(got) != encode("secret") || words[2] != encode(p.server.user) {
			return p.say("535 5.7.8 no")
		}
	default:
		return p.say("504 5.5.4 what")
	}
	p.user = p.server.user
	return p.say("235 2.7.0 welcome")
}

// config is the same for all connections, so that sessions can be resumed.
func (s *server) config() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tls == nil || s.shown != s.cert {
		s.shown = s.cert
		s.tls = &tls.Config{
			Certificates: []tls.Certificate{*s.cert},
			GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.sni = append(s.sni, hello.ServerName)
				return nil, nil
			},
		}
	}
	return s.tls
}

func (p *speech) startTLS() bool {
	c := tls.Server(p.conn, p.config())
	if c.Handshake() != nil {
		return false
	}
	p.conn, p.r, p.tls = c, bufio.NewReader(c), true
	if c.ConnectionState().DidResume {
		p.mu.Lock()
		p.resumed++
		p.mu.Unlock()
	}
	return true
}

// certificate makes one for host names, and the pool that trusts it.
func certificate(t testing.TB, names ...string) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "peer"}, DNSNames: names, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addrOf(i int) string { return fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250) }
