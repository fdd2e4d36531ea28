package smtp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// Bounds of DSN parameters, in octets once decoded (RFC 3461 §4.2, §4.4).
const (
	maxOriginal   = 500
	maxEnvelopeID = 100
)

// session is one client between a greeting and the next STARTTLS or the end.
type session struct {
	srv    *Server
	conn   *gosmtp.Conn
	wire   *wire
	ctx    context.Context
	log    *slog.Logger
	remote netip.Addr
	// at is where the client stands.
	at guard.Place
	// tls is nil in the clear; helo is set when the client greeted with HELO.
	tls  *tls.ConnectionState
	helo bool

	// tx is the open transaction, nil between transactions. Data has a pointer of its own.
	tx atomic.Pointer[transaction]

	// What follows belongs to the goroutine of the commands.
	who                                            sender
	authFailures, authAttempts, unknown, relayings int
	dead                                           bool
}

// transaction is one mail transaction (RFC 5321 §3.3), from an accepted MAIL on.
type transaction struct {
	// id names it in the Received line and the log.
	id          string
	who         sender
	hello, with string
	reversePath mailaddr.Address
	settings    store.Settings
	size        int64
	eightBit    bool
	utf8        bool
	tls         store.TLSDemand
	ret         store.Return
	envelopeID  string

	// addresses are what the accepted RCPT commands named, wishes what was asked for about each.
	addresses []mailaddr.Address
	wishes    []wish
	// onward are copies to be sent on, until the end of the message: see sendOn.
	onward []onward
	// recipients are what the addresses lead to, each account and each remote address once; of[i] is the index in addresses.
	recipients []store.Recipient
	of         []int
	accounts   map[store.AccountID]bool
	remotes    map[mailaddr.Address]bool

	mu sync.Mutex // protects what follows; never held during I/O
	// reserved is how many recipients were taken from the sender's budgets. It is kept or given back once: see phase.
	reserved int
	// deviceSpent is how many recipients were taken from the budget of the sender's device, likewise.
	deviceSpent int
	// rooms are what is reserved in maildrops, given back or handed to the commit once: see phase.
	rooms map[store.AccountID]store.ReservationID
	phase phase
}

// wish is what a sender wants to be told of one address that it named (RFC 3461 §4.1, §4.2), and where the address leads.
type wish struct {
	notify   store.Notify
	original string
	accounts []store.AccountID
	// outside is how many addresses outside an alias leads to by itself. sentOn is set if a copy is sent on.
	outside int
	sentOn  bool
	// away is set if the address is that of one mailbox alone, which has vacation answers.
	away bool
}

// newSession is called by go-smtp at the first HELO or EHLO, and at the first one under STARTTLS.
func (s *Server) newSession(c *gosmtp.Conn) (gosmtp.Session, error) {
	w, _ := wireOf(c.Conn())
	if w == nil {
		return nil, replyFor(errors.New("smtp: connection without a wire"))
	}
	n := &session{srv: s, conn: c, wire: w, ctx: w.ctx, remote: guard.RemoteAddr(c.Conn()), who: anonymous{}}
	n.at = guard.PlaceOf(c.Conn().RemoteAddr(), s.opts.Loopback)
	n.log = s.log.With(slog.Uint64("conn", s.conns.Add(1)), slog.String("remote", n.remote.String()))
	if guard.EarlyTalker(w) {
		n.log = n.log.With(slog.Bool("early_talker", true))
	}
	if state, ok := c.TLSConnectionState(); ok {
		n.tls = &state
		if octets := w.injected(); octets > 0 {
			n.log.Warn("data sent before the TLS handshake dropped", "octets", octets)
		}
	}
	n.helo = w.greetedBy()
	return n, nil
}

// answer turns an error into a reply, notes it, and ends the connection after a 421.
func (s *session) answer(command string, err error) error {
	if err == nil {
		s.wire.earned()
		return nil
	}
	r := replyFor(err)
	verdict, ours := verdictOn(err)
	logReject(s.ctx, s.log, command, verdict, ours, err)
	s.remember(command, verdict)
	if r.Code == 421 {
		// What was pipelined behind it must not complete a transaction that nobody hears of.
		s.dead = true
		s.forget()
		s.wire.lastReply()
	}
	return r
}

// remember keeps a refusal for whoever asks what it was about. It may be called from any goroutine of the session.
func (s *session) remember(command string, r *refused) {
	if s.srv.opts.Refusals == nil {
		return
	}
	e := refusal.Event{
		Time: s.srv.opts.Now(), Name: r.name, Door: cmp.Or(s.srv.opts.Name, string(s.srv.opts.Door)), Command: command, Remote: s.remote, Text: r.text(),
	}
	if !r.facts.Mailbox.IsZero() {
		e.Mailbox = r.facts.Mailbox.String()
	} else if tx := s.tx.Load(); tx != nil && tx.who.account() != 0 {
		e.Mailbox = tx.who.mailbox().String()
	}
	if r.cause != nil {
		e.Why = r.cause.Error()
	}
	s.srv.opts.Refusals.Note(e)
}

// safely makes 421 of a panic, so that no bug of ours ends the process or another session.
func (s *session) safely(command string, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in session", "command", command, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return do()
}

// Mail begins a transaction.
func (s *session) Mail(from string, opts *gosmtp.MailOptions) error {
	return s.answer("MAIL", s.safely("MAIL", func() error { return s.mail(from, opts) }))
}

func (s *session) mail(from string, opts *gosmtp.MailOptions) error {
	switch {
	case s.dead:
		return closing()
	case s.tx.Load() != nil:
		// RFC 5321 §4.1.4: MAIL must not be sent when a transaction is open.
		return refuse(refusal.TransactionOpen)
	}
	settings, err := s.srv.opts.Store.Settings(s.ctx)
	if err != nil {
		return err
	}
	var reversePath mailaddr.Address
	if from != "" {
		if reversePath, err = parsePath(from, opts.UTF8, refusal.SenderSyntax); err != nil {
			return err
		}
	}
	who, err := s.decide(reversePath, opts.Size, settings)
	if err != nil {
		return err
	}
	most, over := sizeLimit(who, settings)
	switch {
	case opts.Size > most:
		return over // RFC 1870 §6.1, §6.2: and what there is no room for is refused before it is sent as well
	case len(opts.EnvelopeID) > maxEnvelopeID:
		return refuse(refusal.EnvelopeIDTooLong)
	}
	demand := store.TLSUnset
	if opts.RequireTLS {
		// RFC 8689 §2: the session itself must be under TLS. go-smtp looks only whether the extension is there.
		if demand = store.TLSRequired; s.tls == nil {
			return refuse(refusal.RequireTLSClear)
		}
	}
	if err := s.srv.opts.Store.Room(s.ctx); err != nil {
		return err
	}
	hello := cleanHello(s.conn.Hostname())
	_, proved := who.(authenticated)
	s.tx.Store(&transaction{
		id: randomID(), who: who, hello: hello, with: keyword(s.helo, opts.UTF8, s.tls != nil, proved),
		reversePath: reversePath, settings: settings, size: opts.Size,
		eightBit: opts.Body == gosmtp.Body8BitMIME, utf8: opts.UTF8, tls: demand,
		ret: store.Return(opts.Return), envelopeID: opts.EnvelopeID,
		accounts: make(map[store.AccountID]bool), remotes: make(map[mailaddr.Address]bool),
	})
	s.wire.setBusy(true)
	return nil
}

// Rcpt adds a recipient.
func (s *session) Rcpt(to string, opts *gosmtp.RcptOptions) error {
	return s.answer("RCPT", s.safely("RCPT", func() error { return s.rcpt(to, opts) }))
}

func (s *session) rcpt(to string, opts *gosmtp.RcptOptions) error {
	tx := s.tx.Load()
	switch {
	case s.dead:
		return closing()
	case tx == nil:
		return refuse(refusal.TransactionMissing)
	case len(tx.addresses) >= tx.settings.Recipients:
		return tooManyRecipients()
	}
	if _, ok := tx.who.(waiting); ok && len(tx.addresses) >= maxWaitRecipients {
		return tooManyRecipients()
	}
	addr, err := parsePath(to, tx.utf8, refusal.RecipientSyntax)
	if err != nil {
		return err
	}
	notify, original, err := dsnParameters(opts)
	if err != nil {
		return err
	}
	if submits(tx.who) && tx.reversePath.IsZero() && len(tx.addresses) > 0 {
		return refuse(refusal.NullSenderRecipient)
	}
	route, returns, err := s.route(tx, addr)
	if err != nil {
		return err
	}
	if returns {
		return tx.addReturn(addr, route.Remote[0])
	}
	if err := s.authorizeRcpt(tx, addr, route); err != nil {
		return err
	}
	if err := s.onwardOpen(tx, route); err != nil {
		return err
	}
	if err := s.suppressed(tx, route); err != nil {
		return err
	}
	if !tx.fits(route) {
		return tooManyRecipients()
	}
	if err := s.admit(tx, route); err != nil {
		return err
	}
	tx.add(addr, route, notify, original)
	return nil
}

// route is where mail for an address goes. returns is set for a report that goes back to the sender of mail that was sent on, which needs no leave.
func (s *session) route(tx *transaction, addr mailaddr.Address) (route store.Route, returns bool, err error) {
	if s.srv.opts.SRS != nil && s.srv.opts.SRS.Claims(addr) {
		route, err = s.returning(tx, addr)
		if err != nil && !submits(tx.who) {
			err = s.unknownRecipient(tx, err) // whoever guesses at them searches
		}
		return route, len(route.Remote) > 0, err
	}
	route, err = s.srv.opts.Store.Resolve(s.ctx, addr)
	if errors.Is(err, store.ErrNotFound) {
		err = s.unknownRecipient(tx, err)
	}
	return route, false, err
}

// authorizeRcpt asks whether the sender may send there, and whether it still is who it was at MAIL.
func (s *session) authorizeRcpt(tx *transaction, addr mailaddr.Address, route store.Route) error {
	if r := authorizeRelay(tx.who, s.srv.opts.Door, addr, route, tx.settings); r != nil {
		return s.refusedRelay(tx, r.with(s.facts(tx.reversePath, tx.settings)))
	}
	if err := s.deviceRcpt(tx, addr); err != nil {
		return err
	}
	return s.still(tx, atRcpt)
}

// unknownRecipient slows down and then ends a search for addresses. Owners of mailboxes may mistype as often as they like; who is only
// near one, in a trusted network, is a stranger here.
func (s *session) unknownRecipient(tx *transaction, cause error) error {
	if way := tx.who.way(); way == store.SentAuth || way == store.SentGrant {
		if s.srv.opts.Conduct != nil {
			s.srv.opts.Conduct.Refused(s.ctx, tx.who.account())
		}
		return cause
	}
	s.unknown++
	ask := guard.AskAnswered
	if s.srv.opts.Strangers != nil {
		ask = s.srv.opts.Strangers.Asked(s.srv.opts.Now(), s.remote)
	}
	if ask == guard.AskEnded || s.unknown >= s.srv.limits.UnknownMax {
		return refuse(refusal.RecipientsUnknown).because(cause)
	}
	if ask == guard.AskSlow || s.unknown > s.srv.limits.UnknownFree {
		s.pause(s.srv.limits.Tarpit)
	}
	return cause
}

// refusedRelay ends the session of a stranger who tries to relay again and again.
func (s *session) refusedRelay(tx *transaction, r *refused) error {
	if submits(tx.who) {
		return r
	}
	s.relayings++
	end := s.srv.opts.Strangers != nil && s.srv.opts.Strangers.Relayed(s.srv.opts.Now(), s.remote)
	if end || s.relayings >= s.srv.limits.RelayTries {
		return refuse(refusal.RelayTries).because(r)
	}
	return r
}

// pause waits, unless the connection or the server ends first.
func (s *session) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// fits reports whether the envelope has room for an address that leads where route says.
func (tx *transaction) fits(route store.Route) bool {
	return len(tx.recipients)+len(tx.onward)+len(route.Local)+len(route.Remote)+len(route.Forwards) <= store.MaxRecipients
}

// news is how many addresses outside the domain a route brings that are not in the envelope yet.
func (tx *transaction) news(route store.Route) (n int) {
	for i, remote := range route.Remote {
		if !tx.remotes[remote] && !slices.Contains(route.Remote[:i], remote) {
			n++
		}
	}
	return n
}

// add takes a recipient that fits into the envelope. An account or a remote address that is in it already gets no second copy.
func (tx *transaction) add(addr mailaddr.Address, route store.Route, notify store.Notify, original string) {
	tx.addresses = append(tx.addresses, addr)
	w := wish{notify: notify, original: original, accounts: route.Local, away: len(route.Local) == 1 && len(route.Away) == 1 && !route.CatchAll}
	for _, f := range route.Forwards {
		if f.Account == 0 {
			w.outside++
		}
	}
	tx.wishes = append(tx.wishes, w)
	tx.leadsOnward(route)
	for _, id := range route.Local {
		if !tx.accounts[id] {
			tx.accounts[id] = true
			tx.put(store.Recipient{Address: addr, Account: id, Notify: notify, Original: original})
		}
	}
	for _, remote := range route.Remote {
		if !tx.remotes[remote] {
			tx.remotes[remote] = true
			tx.put(store.Recipient{Address: remote, Notify: notify, Original: original})
			continue
		}
		i := slices.IndexFunc(tx.recipients, func(r store.Recipient) bool { return r.Account == 0 && r.Address == remote })
		tx.recipients[i].Notify = bothNotify(tx.recipients[i].Notify, notify)
	}
}

// bothNotify is what somebody wants to be told who named an address twice: whatever either asked for.
func bothNotify(a, b store.Notify) store.Notify {
	if a == b {
		return a
	}
	asked := func(n store.Notify) store.Notify {
		switch n {
		case 0:
			return store.NotifyFailure | store.NotifyDelay // RFC 3461 §4.1: what is told unasked
		case store.NotifyNever:
			return 0
		}
		return n
	}
	return asked(a) | asked(b)
}

func (tx *transaction) put(r store.Recipient) {
	tx.recipients = append(tx.recipients, r)
	tx.of = append(tx.of, len(tx.addresses)-1)
}

// Reset forgets the transaction. go-smtp calls it with its lock held, after RSET, EHLO and every message: it swaps a pointer, and gives
// back what the transaction had reserved.
func (s *session) Reset() {
	_ = s.safely("RSET", func() error { // a panic is logged, and there is nobody to answer
		s.forget()
		s.wire.rejoin()
		s.wire.endTransfer()
		s.wire.setBusy(false)
		return nil
	})
}

// Logout ends the session. go-smtp calls it with its lock held, and does not catch a panic in it: that would end the process.
func (s *session) Logout() error {
	s.Reset()
	return s.safely("QUIT", func() error {
		s.wire.unmute()
		return nil
	})
}

// Data receives a message by DATA or BDAT.
func (s *session) Data(r io.Reader) error {
	s.srv.reg.hold()
	defer s.srv.reg.release()
	r = s.source(r)
	if d, ok := r.(*dataReader); ok {
		defer d.finish()
	}
	var id store.MessageID
	err := s.safely("DATA", func() (err error) {
		id, err = s.take(r)
		return err
	})
	if err == nil {
		s.wire.proved()
		// The intended way to choose the text of a success in go-smtp.
		return &gosmtp.SMTPError{Code: 250, EnhancedCode: status{2, 0, 0}, Message: "queued as " + id.String()}
	}
	// A refused message is read to its end before the answer. If it is given up instead (RSET in the middle of BDAT), nobody waits for
	// this answer, and go-smtp would hand it to the next message: so this goroutine, which go-smtp began for this message alone, ends
	// without one.
	s.wire.refused()
	_, rest := io.Copy(io.Discard, r)
	if errors.Is(err, gosmtp.ErrDataReset) || errors.Is(rest, gosmtp.ErrDataReset) {
		runtime.Goexit()
	}
	return s.answerData(err)
}

// take receives the message of the open transaction.
func (s *session) take(r io.Reader) (store.MessageID, error) {
	tx := s.tx.Load()
	if tx == nil {
		return 0, refuse(refusal.TransactionEmpty)
	}
	s.wire.beginTransfer()
	if who, ok := tx.who.(waiting); ok {
		var err error
		if r, err = s.await(tx, who, r); err != nil {
			return 0, err
		}
	}
	return s.receive(tx, r)
}

// answerData is answer for the goroutine of a BDAT, which must not touch the state of the commands.
func (s *session) answerData(err error) error {
	r := replyFor(err)
	verdict, ours := verdictOn(err)
	logReject(s.ctx, s.log, "DATA", verdict, ours, err)
	s.remember("DATA", verdict)
	if r.Code == 421 {
		s.wire.lastReply()
	}
	return r
}

func closing() *refused {
	return refuse(refusal.ConnectionClosing)
}

func tooManyRecipients() *refused {
	return refuse(refusal.RecipientsTooMany)
}

// parsePath reads a path's address as go-smtp hands it over: brackets, source route and quotes are gone.
func parsePath(path string, utf8 bool, bad refusal.Name) (mailaddr.Address, error) {
	addr, err := mailaddr.FromUnquoted(path)
	if err != nil || len(path) > mailaddr.MaxLen {
		// go-smtp repeats an address that is accepted: what gets by here must fit a reply line and have no control characters.
		return mailaddr.Address{}, refuse(bad).because(err)
	}
	if !utf8 && strings.ContainsFunc(path, func(r rune) bool { return r > 0x7e }) {
		// RFC 6531 §3.5
		return mailaddr.Address{}, refuse(refusal.AddressUTF8)
	}
	return addr, nil
}

// dsnParameters takes over NOTIFY and ORCPT.
func dsnParameters(opts *gosmtp.RcptOptions) (store.Notify, string, error) {
	var notify store.Notify
	for _, n := range opts.Notify {
		switch n {
		case gosmtp.DSNNotifyNever:
			notify |= store.NotifyNever
		case gosmtp.DSNNotifySuccess:
			notify |= store.NotifySuccess
		case gosmtp.DSNNotifyFailure:
			notify |= store.NotifyFailure
		case gosmtp.DSNNotifyDelayed:
			notify |= store.NotifyDelay
		}
	}
	if opts.OriginalRecipient == "" {
		return notify, "", nil
	}
	original := strings.ToLower(string(opts.OriginalRecipientType)) + ";" + opts.OriginalRecipient
	if len(original) > maxOriginal || mailaddr.HasControl(original) {
		return 0, "", refuse(refusal.OriginalRecipient)
	}
	return notify, original, nil
}
