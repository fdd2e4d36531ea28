package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// sendBuffer is what a transfer holds of a body, in octets.
const sendBuffer = 16 << 10

// errBody: the body in the store could not be read to its end. It is wrapped with the cause.
var errBody = errors.New("relay: body unreadable")

// body opens the octets of a message.
type body func() (io.ReadCloser, error)

// transact sends one message to recipients that all are at this host, in one transaction. It returns a verdict for each job; one
// without a kind was not decided on and wants another transaction: the host takes no more recipients in this one, or the connection
// had been closed before it began.
func (l *link) transact(jobs []store.Job, open body) []verdict {
	t := &transaction{link: l, jobs: jobs, verdicts: make([]verdict, len(jobs))}
	if v, bad := l.unfit(jobs, open); bad {
		t.decide(v)
		return t.verdicts
	}
	content, err := open()
	if err != nil {
		t.decide(unreadable(err))
		return t.verdicts
	}
	defer func() { _ = content.Close() }() // it was only read
	l.wire.end = time.Now().Add(l.limits.Transaction)
	t.run(content)
	return t.verdicts
}

// unreadable is the verdict on a message whose body the store does not give out. It is kept: a device may be mended, and a bounce
// would say what is not so.
func unreadable(err error) verdict {
	v := ours(store.Deferred, aboutMessage, "4.3.0", "the stored message cannot be read")
	v.alarm, v.cause = !errors.Is(err, store.ErrNotFound), err // a job that was removed meanwhile is nobody's alarm
	return v
}

// transaction is one mail transaction (RFC 5321 §3.3).
type transaction struct {
	link     *link
	jobs     []store.Job
	verdicts []verdict
	accepted []int
}

// decide gives all jobs that have no verdict yet the same.
func (t *transaction) decide(v verdict) {
	for i := range t.verdicts {
		if t.verdicts[i].kind == "" {
			t.verdicts[i] = v
		}
	}
}

// judge makes a verdict of what happened at a stage, and notes what it means for the connection.
func (t *transaction) judge(at stage, err error) verdict {
	v := classify(at, len(t.accepted), err)
	v.peer = t.link.peer
	if v.scope == aboutHost {
		t.link.dead = true
	}
	return v
}

func (t *transaction) run(content io.Reader) {
	l := t.link
	fresh := l.sent == 0
	l.sent++
	l.wire.read = l.limits.Command
	ready := false
	if l.caps.pipelining {
		ready = t.pipelined(fresh)
	} else {
		ready = t.lockstep(fresh)
	}
	if !ready {
		t.reset()
		return
	}
	if t.chunked() {
		t.chunk(content)
		return
	}
	t.data(content)
}

// lockstep names the sender and the recipients to the host, each when the one before was answered, and reports whether there is somebody
// to send to.
func (t *transaction) lockstep(fresh bool) bool {
	l := t.link
	if err := l.client.Mail(path(t.jobs[0].ReversePath), l.mailOptions(t.jobs)); err != nil {
		t.mailFailed(err, fresh)
		return false
	}
	for _, i := range t.nameable() {
		if err := l.client.Rcpt(path(t.jobs[i].Recipient), l.rcptOptions(&t.jobs[i])); err != nil {
			switch more := t.rcptFailed(i, err); {
			case l.dead:
				return false
			case !more:
				return true
			}
			continue
		}
		t.accepted = append(t.accepted, i)
	}
	return len(t.accepted) > 0
}

// mailFailed draws the conclusion for all recipients.
func (t *transaction) mailFailed(err error, fresh bool) {
	v := t.judge(atMail, err)
	if v.scope == aboutHost && !fresh {
		t.link.closed = v.answered
		return // the host had closed the connection meanwhile, as it may; that is no answer about this message
	}
	t.decide(v)
}

// rcptFailed draws the conclusion for one recipient, and reports whether another one is worth naming in this transaction.
func (t *transaction) rcptFailed(i int, err error) (more bool) {
	v := t.judge(atRcpt, err)
	switch {
	case t.link.dead:
		t.decide(v)
		return false
	case v.kind == store.Deferred && v.status == tooManyRecipients && len(t.accepted) > 0:
		return false // RFC 5321 §4.5.3.1.10: as many as it takes now, the rest after that
	}
	t.verdicts[i] = v
	return true
}

// data sends the message by DATA.
func (t *transaction) data(content io.Reader) {
	l := t.link
	l.wire.read = l.limits.Data
	if l.caps.pipelining {
		l.wire.answer = []byte("354 go on\r\n") // the host said so already
	}
	w, err := l.client.Data()
	if err != nil {
		t.acceptedGet(t.judge(atData, err))
		t.reset()
		return
	}
	source := &bodyReader{r: content}
	s := scratches.Get().(*scratch)
	defer s.done()
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, s.repaired(source), s.buf)
	switch {
	case source.err != nil:
		// Without the final dot the host has nothing; it is the only way not to send half a message.
		l.dead = true
		_ = l.raw.Close()
		t.acceptedGet(unreadable(source.err))
		return
	case err != nil:
		t.acceptedGet(t.judge(atData, err))
		return
	}
	l.wire.read = l.limits.End
	answer, err := w.CloseWithResponse()
	if err != nil {
		t.acceptedGet(t.judge(atEnd, err))
		return
	}
	t.delivered(answer.StatusText)
}

// acceptedGet gives the recipients that the host accepted a verdict.
func (t *transaction) acceptedGet(v verdict) {
	for _, i := range t.accepted {
		t.verdicts[i] = v
	}
	if t.link.dead {
		t.decide(v)
	}
}

// reset ends a transaction that is half done, so that the connection can be used again.
func (t *transaction) reset() {
	l := t.link
	if l.dead {
		return
	}
	l.wire.read = l.limits.Hello
	if l.client.Reset() != nil || l.rehello() != nil {
		l.dead = true
	}
}

// unfit says why a message cannot be sent to this host at all.
func (l *link) unfit(jobs []store.Job, open body) (verdict, bool) {
	refuse := func(status, format string, args ...any) (verdict, bool) {
		v := ours(store.Failed, aboutMessage, status, fmt.Sprintf(format, args...))
		v.peer = l.peer
		return v, true
	}
	first := &jobs[0]
	if l.caps.size > 0 && first.Size > l.caps.size {
		return refuse("5.3.4", "the message has %d octets, and the host takes %d (RFC 1870)", first.Size, l.caps.size)
	}
	ascii := first.ReversePath.IsASCII()
	for i := range jobs {
		ascii = ascii && jobs[i].Recipient.IsASCII()
		if !sendable(jobs[i].Recipient) || !sendable(first.ReversePath) {
			return refuse("5.1.3", "the address cannot be sent")
		}
	}
	if !l.caps.utf8 && !ascii {
		return refuse("5.6.7", "the host takes ASCII addresses only (RFC 6531)")
	}
	if !l.caps.utf8 && first.UTF8 {
		switch plain, err := onlyASCII(open, first.HeaderLen); {
		case err != nil:
			return unreadable(err), true
		case !plain:
			return refuse("5.6.7", "the host takes ASCII headers only (RFC 6531)")
		}
	}
	if !l.caps.eightBit && first.EightBit {
		switch plain, err := onlyASCII(open, first.Size); {
		case err != nil:
			return unreadable(err), true
		case !plain:
			return refuse("5.6.3", "the host takes 7-bit messages only (RFC 6152)")
		}
	}
	return verdict{}, false
}

// mailOptions are the parameters of MAIL that the host understands; go-smtp leaves the others out.
func (l *link) mailOptions(jobs []store.Job) *gosmtp.MailOptions {
	j := &jobs[0]
	international := j.UTF8 || !j.ReversePath.IsASCII() || slices.ContainsFunc(jobs, func(j store.Job) bool { return !j.Recipient.IsASCII() })
	o := &gosmtp.MailOptions{Size: j.Size, UTF8: l.caps.utf8 && international}
	o.RequireTLS = j.TLS == store.TLSRequired && l.understands()
	if sentOn(j) {
		return o // RFC 3461 §5.2.7.1 (b)
	}
	// RFC 3461 §5.2.1: passed on as they came.
	o.Return = gosmtp.DSNReturn(j.Return)
	if printable(j.EnvelopeID) {
		o.EnvelopeID = j.EnvelopeID
	}
	return o
}

// rcptOptions are the parameters of RCPT that the host understands.
func (l *link) rcptOptions(j *store.Job) *gosmtp.RcptOptions {
	o := &gosmtp.RcptOptions{}
	for _, n := range []struct {
		flag store.Notify
		word gosmtp.DSNNotify
	}{
		{store.NotifySuccess, gosmtp.DSNNotifySuccess}, {store.NotifyFailure, gosmtp.DSNNotifyFailure}, {store.NotifyDelay, gosmtp.DSNNotifyDelayed},
	} {
		if j.Notify&n.flag != 0 {
			o.Notify = append(o.Notify, n.word)
		}
	}
	if j.Notify&store.NotifyNever != 0 {
		o.Notify = []gosmtp.DSNNotify{gosmtp.DSNNotifyNever}
	}
	kind, original, _ := strings.Cut(j.Original, ";")
	switch {
	case strings.EqualFold(kind, string(gosmtp.DSNAddressTypeRFC822)) && printable(original):
		o.OriginalRecipientType, o.OriginalRecipient = gosmtp.DSNAddressTypeRFC822, original
	case strings.EqualFold(kind, string(gosmtp.DSNAddressTypeUTF8)) && !mailaddr.HasControl(original):
		o.OriginalRecipientType, o.OriginalRecipient = gosmtp.DSNAddressTypeUTF8, original
	}
	return o
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// path is an address as it stands between the brackets of a command, quoted where it must be.
func path(a mailaddr.Address) string { return a.String() }

// sendable reports whether an address can stand in a command without being read as anything else: what it is written as reads back as
// the same address, and nothing in it ends a line.
func sendable(a mailaddr.Address) bool {
	if a.IsZero() {
		return true
	}
	s := a.String()
	again, err := mailaddr.Parse(s)
	return err == nil && again == a && !mailaddr.HasControl(s)
}

// onlyASCII reports whether the first n octets of a body are all ASCII.
func onlyASCII(open body, n int64) (bool, error) {
	r, err := open()
	if err != nil {
		return false, err
	}
	defer func() { _ = r.Close() }() // it was only read
	buf := make([]byte, sendBuffer)
	limited := io.LimitReader(r, n)
	for {
		k, err := limited.Read(buf)
		for _, c := range buf[:k] {
			if c >= 0x80 {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// bodyReader remembers that the store, not the host, was the one that failed. It leaves out NUL: no host has to take one (RFC 5321 §2.3.7,
// RFC 6152 §2), and for one that loses them a line of NUL and a dot would end the message.
type bodyReader struct {
	r   io.Reader
	err error
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if bytes.IndexByte(p[:n], 0) >= 0 {
		n = len(slices.DeleteFunc(p[:n], func(c byte) bool { return c == 0 }))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = fmt.Errorf("%w: %w", errBody, err)
	}
	return n, err
}
