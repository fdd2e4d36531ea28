package smtp

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/internal/refusal"
	"latchkey/store"
)

const (
	// maxReceived is the number of Received fields above which a message goes in circles (RFC 5321 §6.3: at least 100).
	maxReceived = 100
	// readBuffer is what a transfer holds of a message beside its header, in octets.
	readBuffer = 16 << 10
	// maxHello bounds the client's name in a Received line.
	maxHello = 255
	// dateForm is how a header writes a time (RFC 5322 §3.3).
	dateForm = "Mon, 2 Jan 2006 15:04:05 -0700"
)

// errTooLarge: the message has more octets than Settings.MessageSize.
var errTooLarge = errors.New("smtp: message too large")

// receive takes a message in and turns it into responsibility: when it returns nil the message survives a power cut.
func (s *session) receive(tx *transaction, r io.Reader) (store.MessageID, error) {
	draft, err := s.srv.opts.Store.NewDraft(s.ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = draft.Abort() }() // nothing to do after Commit
	in := s.srv.intake()
	defer s.srv.giveBack(in)
	lines, header := in.begin(tx, r), &in.header
	body, err := header.Read(in.buf)
	if err != nil {
		return 0, err
	}
	if err := s.edit(tx, header); err != nil {
		return 0, err
	}
	headerLen, err := header.WriteTo(draft)
	if err != nil {
		return 0, err
	}
	if err := in.copyBody(draft, headerLen, body); err != nil {
		return 0, err
	}
	if s.wire.wasCut() {
		return 0, io.ErrUnexpectedEOF
	}
	size := draft.Size()
	if err := s.fitsAll(tx, size); err != nil {
		return 0, err
	}
	if err := s.sendOn(tx, header); err != nil {
		return 0, err
	}
	e := s.envelope(tx, header, headerLen)
	receipt, err := s.commit(tx, draft, &e)
	if err != nil {
		return 0, err
	}
	s.count(tx)
	logAccept(s.ctx, s.log, tx, receipt.Message, size, lines.LongLines(), e.Hold)
	s.leftOut(tx, header, receipt)
	s.delivered(tx, header, receipt)
	s.answerVacation(tx, header, receipt)
	return receipt.Message, nil
}

// commit takes responsibility, if the sender still is who it was. Then what was reserved is spent; if not, it is given back. Mail of somebody
// who sends otherwise than usual is put on hold in the same moment.
func (s *session) commit(tx *transaction, draft store.Draft, e *store.Envelope) (store.Receipt, error) {
	if err := s.still(tx, atCommit); err != nil {
		return store.Receipt{}, err
	}
	giveBack, err := s.octets(tx, draft.Size())
	if err != nil {
		return store.Receipt{}, err
	}
	opinion, err := s.judged(tx)
	if err != nil {
		giveBack()
		return store.Receipt{}, err
	}
	if opinion != nil {
		e.Hold = string(opinion.Hold)
	}
	receipt, err := s.commitSealed(tx, draft, e)
	switch {
	case err != nil:
		giveBack()
		if opinion != nil {
			opinion.GaveUp(s.ctx)
		}
	case opinion != nil:
		opinion.Took(s.ctx)
	}
	return receipt, err
}

func (s *session) commitSealed(tx *transaction, draft store.Draft, e *store.Envelope) (store.Receipt, error) {
	rooms, ok := tx.seal()
	if !ok {
		return store.Receipt{}, gosmtp.ErrDataReset
	}
	defer s.srv.opts.Store.Unreserve(rooms...) // the commit did, unless it panicked
	e.Reserved = rooms
	receipt, err := draft.Commit(s.ctx, *e)
	if err == nil {
		tx.keepDevice()
	}
	if n, _ := tx.settle(sealed); err != nil {
		s.refund(tx, n)
	}
	return receipt, err
}

// count adds a message to the daily figures, who sent it out of the domain among them, and tells of one that a stranger brought. It was accepted,
// so a failure is for the log only.
func (s *session) count(tx *transaction) {
	figure := store.DailyReceived
	if submits(tx.who) {
		figure = store.DailySubmitted
	}
	s.srv.opts.Tally.Count(figure, 1)
	if s.srv.opts.Strangers != nil && !submits(tx.who) {
		mailboxes := slices.Collect(maps.Keys(tx.accounts))
		s.srv.opts.Strangers.Accepted(s.srv.opts.Now(), s.remote, len(tx.addresses), mailboxes...)
	}
	if len(tx.remotes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), refundTime)
	defer cancel()
	day, way := store.DayOf(s.srv.opts.Now()), tx.who.way()
	// One client of IPv6 has many addresses, and a day a bounded number of figures.
	figures := []string{store.SentFromAddress(way, guard.Prefix(s.remote).Addr())}
	if id := tx.who.account(); id != 0 {
		figures = append(figures, store.SentByMailbox(way, id))
	}
	for _, name := range figures {
		if err := s.srv.opts.Store.AddStat(ctx, day, name, 1); err != nil {
			s.log.Error("daily figure not kept", "figure", name, "err", err)
		}
	}
}

// onlyWriter keeps io.Copy to Write.
type onlyWriter struct{ io.Writer }

// intake is what receiving one message needs. A connection has one only for that long.
type intake struct {
	size   sizeReader
	strict message.StrictReader
	repair *message.RepairReader // nil until it is needed
	buf    *bufio.Reader
	header message.Header
}

func (s *Server) intake() *intake {
	if in, ok := s.intakes.Get().(*intake); ok {
		return in
	}
	return &intake{buf: bufio.NewReaderSize(nil, readBuffer)}
}

// giveBack keeps the memory, and nothing of the message.
func (s *Server) giveBack(in *intake) {
	in.size = sizeReader{}
	in.strict.Reset(nil)
	if in.repair != nil {
		in.repair.Reset(nil)
	}
	in.buf.Reset(nil)
	in.header.Reset()
	s.intakes.Put(in)
}

// copyBody writes the body behind the at octets of the header: in pieces of readBuffer that also begin at multiples of it, however the
// client cuts its packets. A large message is a file, and the kernel keeps one that was written in such pieces in large ones too: it is
// read at twice the speed.
func (in *intake) copyBody(w io.Writer, at int64, body io.Reader) error {
	if body != io.Reader(in.buf) { // a header that a line which is no field ended
		_, err := io.Copy(onlyWriter{w}, body)
		return err
	}
	for {
		piece, err := in.buf.Peek(readBuffer - int(at%readBuffer))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := w.Write(piece); err != nil || len(piece) == 0 {
			return err
		}
		at += int64(len(piece))
		if _, err := in.buf.Discard(len(piece)); err != nil {
			return err
		}
	}
}

// lineReader is the source of a message with CRLF line ends.
type lineReader interface {
	io.Reader
	LongLines() int64
}

// begin puts a message under in.buf. Bare CR and LF are refused in mail from others, and mended in mail of our own users, whose programs
// know no better.
func (in *intake) begin(tx *transaction, r io.Reader) lineReader {
	in.size = sizeReader{r: r}
	in.size.left, in.size.over = sizeLimit(tx.who, tx.settings)
	if !submits(tx.who) {
		in.strict.Reset(&in.size)
		in.buf.Reset(&in.strict)
		return &in.strict
	}
	if in.repair == nil {
		in.repair = message.NewRepairReader(nil)
	}
	in.repair.Reset(&in.size)
	in.buf.Reset(in.repair)
	return in.repair
}

// sizeReader enforces the exact size limit on the octets as the client sent them (RFC 1870 §3): not one more.
type sizeReader struct {
	r    io.Reader
	left int64
	over error
}

func (s *sizeReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.left -= int64(n); s.left < 0 {
		return 0, s.over
	}
	return n, err
}

// edit checks and completes the header. Mail from others gets its trace line, and loses what claims to be a verdict of this server; there is no
// other change.
func (s *session) edit(tx *transaction, h *message.Header) error {
	if h.Count("Received") > maxReceived {
		return refuse(refusal.MessageLoop)
	}
	h.RemoveIf("Authentication-Results", func(value string) bool { return s.claimsToBeOurs(value) })
	if submits(tx.who) {
		if err := s.fixUp(tx, h); err != nil {
			return err
		}
	}
	return h.Prepend("Received", s.received(tx)...)
}

// claimsToBeOurs reports whether an Authentication-Results field has this server's name for its authserv-id. Nobody else may write that, and
// readers would believe it (RFC 8601 §5).
func (s *session) claimsToBeOurs(value string) bool {
	for depth := 0; value != ""; value = value[1:] {
		switch c := value[0]; {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case depth > 0 && c == '\\' && len(value) > 1:
			value = value[1:]
		case depth <= 0 && !strings.ContainsRune(" \t\"", rune(c)):
			end := strings.IndexAny(value, " \t\";(")
			if end < 0 {
				end = len(value)
			}
			return strings.EqualFold(strings.TrimSuffix(value[:end], "."), s.srv.opts.Hostname)
		}
	}
	return false
}

// received is the value of the trace field (RFC 5321 §4.4), with the protocol by RFC 3848 and the cipher by RFC 8314 §4.3.
func (s *session) received(tx *transaction) []string {
	with := "with " + tx.with
	if s.tls != nil {
		with += " tls " + tls.CipherSuiteName(s.tls.CipherSuite)
	}
	parts := []string{
		"from " + tx.hello + " (" + literal(s.remote) + ")",
		"by " + s.srv.opts.Hostname + " " + with + " id " + tx.id,
	}
	if c := proofComment(tx.who); c != "" {
		parts = append(parts, c)
	}
	if len(tx.addresses) == 1 {
		parts = append(parts, "for "+tx.addresses[0].Path())
	}
	parts[len(parts)-1] += ";"
	return append(parts, s.srv.opts.Now().Format(dateForm))
}

// proofComment names what stood in for AUTH, as the keyword does not (RFC 3848 wants ESMTPA for AUTH only), and the device, if it was one.
func proofComment(who sender) string {
	switch who := who.(type) {
	case authenticated:
		if who.device != nil {
			return "(" + deviceComment(who.device) + ")"
		}
	case granted:
		of := ""
		if a := who.address.String(); who.address.IsASCII() && !strings.ContainsAny(a, `"()\\`) {
			of = " of " + a
		}
		if who.device != nil {
			of += " by " + deviceComment(who.device)
		}
		return "(POP-before-SMTP grant " + who.grant.ID.String() + of + ")"
	case trusted:
		return "(trusted network " + who.network.String() + ")"
	}
	return ""
}

// literal writes an address as RFC 5321 §4.1.3 does.
func literal(a netip.Addr) string {
	switch {
	case a.Is6():
		return "[IPv6:" + a.String() + "]"
	case a.Is4():
		return "[" + a.String() + "]"
	}
	return "local"
}

// keyword is the protocol of the Received line: ESMTPA only for a real AUTH (RFC 3848), UTF8SMTP when SMTPUTF8 was used (RFC 6531 §4.3).
func keyword(helo, utf8, secure, proved bool) string {
	if helo {
		return "SMTP"
	}
	k := "ESMTP"
	if utf8 {
		k = "UTF8SMTP"
	}
	if secure {
		k += "S"
	}
	if proved {
		k += "A"
	}
	return k
}

// cleanHello makes the client's name fit for a header: what no host name or literal has becomes a question mark.
func cleanHello(name string) string {
	clean := []byte(name[:min(len(name), maxHello)])
	for i, c := range clean {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._:[]", rune(c)) {
			clean[i] = '?'
		}
	}
	return string(clean)
}

// randomID returns 16 hex digits.
func randomID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// envelope is what the store is to know besides the octets.
func (s *session) envelope(tx *transaction, h *message.Header, headerLen int64) store.Envelope {
	e := store.Envelope{
		ReversePath: tx.reversePath,
		Recipients:  slices.Clone(tx.recipients),
		Submitter:   tx.who.account(),
		Received:    s.srv.opts.Now(),
		HeaderLen:   headerLen,
		Origin:      store.Origin{Door: string(s.srv.opts.Door), Remote: s.remote, Hello: tx.hello, With: tx.with},
		EightBit:    tx.eightBit,
		UTF8:        tx.utf8,
		Ours:        submits(tx.who),
		TLS:         tlsDemand(tx.tls, h),
		Return:      tx.ret,
		EnvelopeID:  tx.envelopeID,
	}
	if ids := h.Values("Message-ID"); len(ids) > 0 && len(ids[0]) <= store.MaxHeaderIDLen {
		e.HeaderID = ids[0]
	}
	if d := deviceOf(tx.who); d != nil {
		e.Origin.Device = d.ID
	}
	if s.tls != nil {
		e.Origin.TLS = tls.VersionName(s.tls.Version)
	}
	if subjects := h.Values("Subject"); len(subjects) > 0 {
		e.Subject = s.srv.opts.Subjects.Tokens(subjects[0])
	}
	for i := range e.Recipients {
		if e.Recipients[i].Account != 0 {
			e.Recipients[i].Prefix = prefix(tx.reversePath, tx.addresses[tx.of[i]])
		}
	}
	return e
}

// tlsDemand is what the sender wants of the way on: REQUIRETLS, or else what the header says (RFC 8689 §4.1).
func tlsDemand(said store.TLSDemand, h *message.Header) store.TLSDemand {
	if said == store.TLSUnset {
		// RFC 8689 §3: the field must not come twice, and has one value.
		if values := h.Values("TLS-Required"); len(values) == 1 && strings.EqualFold(strings.TrimSpace(values[0]), "No") {
			return store.TLSOptional
		}
	}
	return said
}

// prefix are the fields of final delivery: Return-Path (RFC 5321 §4.4) and Delivered-To (RFC 9228) with the address of RCPT, which says
// through which alias the copy came.
func prefix(reversePath, rcpt mailaddr.Address) []byte {
	return []byte("Return-Path: " + reversePath.Path() + "\r\nDelivered-To: " + rcpt.String() + "\r\n")
}

// fixUp completes a submitted message (RFC 6409 §8) and makes sure that its author is one of the sender's addresses.
func (s *session) fixUp(tx *transaction, h *message.Header) error {
	sender, err := s.author(tx, h)
	if err != nil {
		return err
	}
	h.Tidy()
	// RFC 5322 §3.6.3: nobody may learn of blind copies. RFC 5321 §4.4: an author's program sets no Return-Path.
	for _, name := range []string{"Bcc", "Resent-Bcc", "Return-Path"} {
		h.Remove(name)
	}
	var errs []error
	if sender {
		h.Remove("Sender")
		errs = append(errs, h.Append("Sender", tx.who.mailbox().String()))
	}
	if h.Count("Date") == 0 {
		errs = append(errs, h.Append("Date", s.srv.opts.Now().Format(dateForm)))
	}
	if h.Count("Message-ID") == 0 {
		errs = append(errs, h.Append("Message-ID", "<"+tx.id+"."+randomID()+"@"+s.srv.opts.Hostname+">"))
	}
	return errors.Join(errs...)
}

// author checks who the message says it is from: every address of From must be the sender's, or else of Resent-From (a redirect). It
// adds a From that is missing, and reports whether a Sender is to be set: when From is lent, or when Sender is somebody else.
func (s *session) author(tx *transaction, h *message.Header) (sender bool, err error) {
	switch h.Count("From") {
	case 0:
		from := tx.reversePath
		if from.IsZero() {
			from = tx.who.mailbox()
		}
		return false, h.Append("From", from.String())
	case 1:
	default:
		return false, refuse(refusal.HeaderFromLines)
	}
	right, err := s.rightOnField(tx, h.Values("From")[0])
	if err != nil {
		return false, err
	}
	if right == foreign {
		// A redirect keeps the author's From and Sender; the topmost block of Resent fields is the last one added (RFC 5322 §3.6.6).
		if resent := h.Values("Resent-From"); len(resent) > 0 {
			if right, err = s.rightOnField(tx, resent[0]); err != nil || right != foreign {
				return false, err
			}
		}
		return false, s.notTheAuthor(tx)
	}
	if h.Count("Sender") == 0 {
		return right == lent, nil
	}
	senders := h.Values("Sender")
	named, err := s.rightOnField(tx, senders[0])
	return len(senders) > 1 || named == foreign, err
}

// notTheAuthor is the refusal of a From that is not the sender's.
func (s *session) notTheAuthor(tx *transaction) error {
	name := refusal.FromNotYours
	if _, ok := tx.who.(trusted); ok {
		name = refusal.FromNotHere
	}
	return refuse(name).with(s.facts(tx.reversePath, tx.settings))
}

// rightOnField is the weakest right on the addresses of a field; what is no list of addresses is foreign.
func (s *session) rightOnField(tx *transaction, value string) (ownership, error) {
	addrs, err := message.Addresses(value)
	if err != nil {
		return foreign, nil //nolint:nilerr // a field that cannot be read proves nothing
	}
	weakest := own
	for _, a := range addrs {
		right, err := s.right(s.ctx, tx.who, a, tx.settings.Domain)
		if err != nil {
			return foreign, err
		}
		weakest = min(weakest, right)
	}
	return weakest, nil
}
