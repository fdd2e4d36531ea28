package relay

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"latchkey/internal/mtasts"
	"latchkey/internal/resolver"
	"latchkey/store"
)

// TLSMode says how a connection is protected.
type TLSMode string

// The modes. The certificate is looked at in TLSVerify and TLSImplicit only.
const (
	// TLSNone speaks in the clear.
	TLSNone TLSMode = "none"
	// TLSOpportunistic takes STARTTLS where it is offered and works, and the clear otherwise. It keeps out those who only listen.
	TLSOpportunistic TLSMode = "opportunistic"
	// TLSRequired sends nothing without STARTTLS, to whoever answers.
	TLSRequired TLSMode = "required"
	// TLSVerify sends nothing without STARTTLS and a certificate that holds for the host's name.
	TLSVerify TLSMode = "verify"
	// TLSImplicit begins with the handshake (RFC 8314 §3.3), and wants a certificate that holds for the host's name.
	TLSImplicit TLSMode = "implicit"
)

// door is how a host is to be entered.
type door struct {
	mode TLSMode
	// policy is the recipients' domain, "" for a smarthost. wantedBy is what makes mode more than opportunistic there.
	policy   string
	wantedBy Proof
	// dane is what the certificate is compared with, nil for no DANE; tlsa are all records that were found.
	dane *daneProof
	tlsa []resolver.TLSA
	// sts is the domain's MTA-STS policy; observed is set where it is only tried out. rua is where the domain wants to hear of all this.
	sts      *mtasts.Policy
	observed bool
	rua      []string
	// promise is set where the host has to understand REQUIRETLS (RFC 8689).
	promise bool
	// user and password log in, unless user is "". clearLogin allows that without TLS.
	user       string
	password   func() (string, error)
	clearLogin bool
	// patience bounds the making of the connection, if it is not 0.
	patience time.Duration
}

// link is an open connection to a host that waits for MAIL.
type link struct {
	client *gosmtp.Client
	// replies reads those that go-smtp does not wait for.
	replies *talk
	wire    *wire
	raw     net.Conn
	peer    peer
	caps    capabilities
	limits  Limits
	host    string // our name
	// observed is the verdict on a certificate that does not decide.
	observed error
	// sent counts the transactions begun; dead is set when the connection is of no more use, closed when the host said so at MAIL.
	sent   int
	dead   bool
	closed bool
	// at is the host, whose slot the connection has; door is how it was entered.
	at   *host
	door door
}

// opener makes links.
type opener struct {
	hostname string
	limits   Limits
	dial     func(ctx context.Context, from netip.Addr, address string) (net.Conn, error)
	tls      *tls.Config
	// hurry knows the attempts under way, and ends slow ones under pressure.
	hurry *hurry
	// plain are hosts whose STARTTLS did not work lately.
	plain *memory
	// sources are the addresses of this host to choose from.
	sources []Source
	// note is told what became of the TLS of each connection that came about; nil is its success.
	note func(door, peer, error)
}

// errHandshake is wrapped by the error of a TLS handshake.
var errHandshake = errors.New("relay: TLS handshake failed")

// open connects to one address of a host. A verdict says why there is no link.
func (o *opener) open(ctx context.Context, name string, at netip.AddrPort, d door) (*link, *verdict) {
	secure := d.mode != TLSNone && (d.mode != TLSOpportunistic || !o.speaksPlain(at))
	l, stage, err := o.try(ctx, name, at, d, secure)
	o.noteTLS(ctx, name, at, d, secure, l, err)
	if d.mode == TLSOpportunistic && secure && errors.Is(err, errHandshake) && ctx.Err() == nil {
		// RFC 3207 §4.1 leaves it to the client; mail that would have gone in the clear anyway need not wait for others to mend theirs.
		o.plain.put(at.String(), remembered{until: time.Now().Add(plainTime)}, time.Now())
		l, stage, err = o.try(ctx, name, at, d, false)
	}
	if err == nil {
		return l, nil
	}
	who := peer{host: name, addr: at.Addr()}
	var v verdict
	if own := (*refusal)(nil); errors.As(err, &own) {
		v = own.verdict
	} else {
		v = classify(stage, 0, err)
	}
	if errors.Is(err, errHandshake) {
		v.status, v.words = "4.7.5", "TLS handshake failed: "+handshakeReason(err)
		if d.wantedBy != ProofNone {
			v.words += "; " + d.demandOf() + ", so nothing is sent"
		}
	}
	v.alarm = v.alarm || stage == atAuth
	v.peer, v.at = who, stage
	return nil, &v
}

// refusal is an error that is a verdict of our own on a host.
type refusal struct{ verdict verdict }

func (r *refusal) Error() string { return r.verdict.words }

// refuse makes one: the host is not used. alarm is set where the operator has to act.
func refuse(status, words string, alarm bool) error {
	v := ours(store.Deferred, aboutHost, status, words)
	v.alarm = alarm
	return &refusal{v}
}

// handshakeReason tells a certificate that does not hold from a handshake that broke.
func handshakeReason(err error) string {
	if isCertificate(err) {
		return certificateWords(err)
	}
	return reason(err)
}

// noteTLS tells of the TLS of one attempt, if it came as far as that.
func (o *opener) noteTLS(ctx context.Context, name string, at netip.AddrPort, d door, secure bool, l *link, err error) {
	p := peer{host: name, addr: at.Addr()}
	if l != nil {
		p = l.peer
	}
	switch {
	case d.policy == "" || !secure || ctx.Err() != nil:
	case err == nil && p.facts.Encrypted():
		o.note(d, p, l.observed)
	case err == nil:
		o.note(d, p, errNoStartTLS)
	case errors.Is(err, errHandshake) || errors.Is(err, errNoStartTLS):
		o.note(d, p, err)
	}
}

// try makes one connection as far as MAIL.
func (o *opener) try(ctx context.Context, name string, at netip.AddrPort, d door, secure bool) (_ *link, _ stage, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	mark := o.hurry.begin(cancel, o.limits.DialPressed)
	defer o.hurry.end(mark)
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause // whatever the connection said when it was cut off
		}
	}()
	wait := o.limits.Dial
	if d.patience > 0 {
		wait = min(wait, d.patience)
	}
	source := o.source(name, at.Addr())
	dialling, done := context.WithTimeout(ctx, wait)
	raw, err := o.dial(dialling, source.Addr, at.String())
	done()
	if err != nil {
		return nil, atDial, err
	}
	o.hurry.mark(mark, o.limits.GreetingPressed)
	cut := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer func() {
		if !cut() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			_ = raw.Close() // it is given up
		}
	}()
	l := &link{raw: raw, limits: o.limits, host: cmp.Or(source.Hostname, o.hostname), peer: peer{host: name, addr: at.Addr()}, door: d}
	if own, ok := raw.LocalAddr().(*net.TCPAddr); ok {
		l.peer.from, _ = netip.AddrFromSlice(own.IP)
	}
	stage, err := o.enter(ctx, l, d, secure)
	return l, stage, err
}

// enter greets, goes over to TLS, logs in, and hands over to go-smtp's client.
func (o *opener) enter(ctx context.Context, l *link, d door, secure bool) (stage, error) {
	var err error
	conn := l.raw
	if d.mode == TLSImplicit {
		if conn, err = o.handshake(ctx, l, d); err != nil {
			return atTLS, err
		}
	}
	t := newTalk(newWire(conn, o.limits.Greeting, o.limits.Hello))
	if _, err := t.read(220); err != nil {
		return atGreeting, err
	}
	t.w.read = o.limits.Hello
	if l.caps, err = t.hello(l.host); err != nil {
		return atHello, err
	}
	if secure && d.mode != TLSImplicit {
		if t, err = o.startTLS(ctx, l, t, d); err != nil {
			return atTLS, err
		}
	}
	l.wire, l.replies = t.w, t
	if d.promise && !l.understands() {
		v := ours(store.Failed, aboutHost, "5.7.30", "the host does not promise to use TLS all the way (REQUIRETLS), which the sender requires")
		return atHello, &refusal{v}
	}
	if stage, err := l.begin(); err != nil {
		return stage, err
	}
	return atAuth, l.login(d)
}

// startTLS goes over to TLS (RFC 3207) and says hello again: what was said in the clear is forgotten.
func (o *opener) startTLS(ctx context.Context, l *link, t *talk, d door) (*talk, error) {
	must := d.mode != TLSOpportunistic
	if !l.caps.startTLS {
		if must {
			// The operator can see to a smarthost, not to other people's servers.
			return nil, errors.Join(errNoStartTLS, refuse("4.7.5", "the host offers no STARTTLS; "+d.demandOf(), d.wantedBy == ProofNone))
		}
		return t, nil
	}
	if _, err := t.ask(220, "STARTTLS"); err != nil {
		var reply *gosmtp.SMTPError
		if must || !errors.As(err, &reply) || reply.Code == 421 {
			return nil, err
		}
		return t, nil
	}
	conn, err := o.handshake(ctx, l, d)
	if err != nil {
		return nil, err
	}
	t = newTalk(newWire(conn, o.limits.Hello, o.limits.Hello))
	l.caps, err = t.hello(l.host)
	return t, err
}

// handshake makes TLS of the raw connection.
func (o *opener) handshake(ctx context.Context, l *link, d door) (net.Conn, error) {
	c, proof := o.tlsConfig(l.peer.host, d, &l.observed)
	ctx, cancel := context.WithTimeout(ctx, o.limits.Handshake)
	defer cancel()
	// The deadlines of the conversation so far end here; the context bounds the handshake.
	if err := l.raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	conn := tls.Client(l.raw, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(errHandshake, err)
	}
	l.peer.facts = factsOf(conn.ConnectionState(), proof)
	return conn, nil
}

// begin hands the connection to go-smtp's client, which hears the greeting and the EHLO reply from us.
func (l *link) begin() (stage, error) {
	l.peer.dsn = l.caps.dsn
	l.wire.read, l.wire.write = l.limits.Command, l.limits.Block
	l.wire.script = []byte("220 host\r\n")
	l.client = gosmtp.NewClient(l.wire)
	l.client.CommandTimeout = l.limits.Transaction // the wire has the real ones
	return atHello, l.rehello()
}

// rehello is go-smtp's EHLO, which goes nowhere.
func (l *link) rehello() error {
	l.wire.answer = l.caps.reply()
	return l.client.Hello(l.host)
}

// login is AUTH (RFC 4954), where there is something to log in with.
func (l *link) login(d door) error {
	if d.user == "" {
		return nil
	}
	if !l.peer.facts.Encrypted() && !d.clearLogin {
		return refuse("4.7.11", "the password of the smarthost is not sent without TLS", true)
	}
	password, err := d.password()
	if err != nil {
		return refuse("4.7.8", "the password of the smarthost cannot be read", true)
	}
	var mechanism sasl.Client
	switch {
	case slices.Contains(l.caps.auth, sasl.Plain):
		mechanism = sasl.NewPlainClient("", d.user, password)
	case slices.Contains(l.caps.auth, sasl.Login):
		mechanism = sasl.NewLoginClient(d.user, password)
	default:
		return refuse("4.7.8", "the smarthost offers neither AUTH PLAIN nor AUTH LOGIN", true)
	}
	return l.client.Auth(mechanism)
}

// serves reports whether the connection is as good as a new one to a host of that name that is entered so. What proved the host to be the
// right one for one domain proves nothing to another one that wants something else, or the same by other records.
func (l *link) serves(name string, d door) bool {
	was := &l.door
	return l.peer.host == name && was.mode == d.mode && was.user == d.user && was.clearLogin == d.clearLogin &&
		was.wantedBy == d.wantedBy && was.dane.same(d.dane) && (!d.promise || l.understands())
}

// guard closes the connection when ctx ends, until the function that it returns is called.
func (l *link) guard(ctx context.Context) (release func() bool) {
	return context.AfterFunc(ctx, func() { _ = l.raw.Close() })
}

// close ends the connection, politely where there is somebody to be polite to.
func (l *link) close() {
	if !l.dead {
		l.wire.read, l.wire.write = l.limits.Quit, l.limits.Quit
		l.wire.end = time.Time{}
		_ = l.client.Quit() // nothing depends on the answer
	}
	_ = l.raw.Close() // twice after a QUIT that was answered
}

// speaksPlain reports whether a host's STARTTLS did not work lately.
func (o *opener) speaksPlain(at netip.AddrPort) bool {
	_, plain := o.plain.holds(at.String(), time.Now())
	return plain
}
