package relay

import (
	"errors"
	"io"
	"slices"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/store"
)

// maxChunk is the largest message that is sent by BDAT, in octets: it goes as one chunk, whose length has to be known before. A larger one
// streams by DATA, which waits for no replies on the way.
const maxChunk = 32 << 10

// group is a number of commands that are sent at once (RFC 2920 §3.1). go-smtp writes each of them, and is told that all is well; the
// host's own replies are read when all are on their way.
type group struct {
	link *link
	// stages are what the commands are, in their order.
	stages []stage
}

// add lets go-smtp write one command into the group.
func (g *group) add(at stage, write func() error) error {
	w := g.link.wire
	w.recording = true
	err := write()
	w.recording = false
	if err == nil {
		g.stages = append(g.stages, at)
	}
	return err
}

// addData puts DATA at the end of the group, where it has to be.
func (g *group) addData() {
	g.link.wire.recorded = append(g.link.wire.recorded, "DATA\r\n"...)
	g.stages = append(g.stages, atData)
}

// send sends the group.
func (g *group) send() error {
	w := g.link.wire
	commands := w.recorded
	w.recorded = nil
	_, err := w.Write(commands)
	return err
}

// next reads the reply to the group's next command. A reply that is not the hoped-for one is a *gosmtp.SMTPError.
func (g *group) next() (stage, error) {
	at := g.stages[0]
	g.stages = g.stages[1:]
	l := g.link
	l.wire.read = l.limits.Command
	if at == atData {
		l.wire.read = l.limits.Data
	}
	l.wire.budget = maxReply
	code, text, err := l.replies.text.ReadResponse(0)
	switch {
	case err != nil:
		return at, err
	case len(g.stages) == 0 && l.replies.buf.Buffered() > 0:
		return at, errUnasked
	case at == atData && code == 354, at != atData && code/10 == 25:
		return at, nil
	}
	return at, toReply(code, text)
}

// pipelined names the sender and the recipients to the host in one group, DATA with them unless the message goes by BDAT. It reports
// whether there is somebody to send to, and the host waits for the message.
func (t *transaction) pipelined(fresh bool) bool {
	l := t.link
	first := &t.jobs[0]
	g := &group{link: l}
	if err := g.add(atMail, func() error { return l.client.Mail(path(first.ReversePath), l.mailOptions(t.jobs)) }); err != nil {
		t.decide(t.judge(atMail, err))
		return false
	}
	named := t.nameable()
	for _, i := range named {
		if err := g.add(atRcpt, func() error { return l.client.Rcpt(path(t.jobs[i].Recipient), l.rcptOptions(&t.jobs[i])) }); err != nil {
			t.decide(t.judge(atRcpt, err))
			return false
		}
	}
	if !t.chunked() {
		g.addData()
	}
	if err := g.send(); err != nil {
		t.mailFailed(err, fresh)
		return false
	}
	return t.hear(g, named, fresh)
}

// hear reads the replies to a group.
func (t *transaction) hear(g *group, named []int, fresh bool) bool {
	if _, err := g.next(); err != nil {
		t.mailFailed(err, fresh)
		t.drain(g)
		return false
	}
	for _, i := range named {
		if _, err := g.next(); err != nil {
			t.rcptFailed(i, err)
			if t.link.dead {
				return false
			}
			continue
		}
		t.accepted = append(t.accepted, i)
	}
	if len(g.stages) == 0 {
		return len(t.accepted) > 0
	}
	_, err := g.next()
	switch {
	case err != nil:
		t.acceptedGet(t.judge(atData, err))
		return false
	case len(t.accepted) == 0:
		// RFC 2920 §3.1: a host that waits for a message to nobody is given an empty one, and whatever it says of that is nothing to us.
		t.discard()
		return false
	}
	return true
}

// drain reads the replies that are left of a group, none of which can be good news.
func (t *transaction) drain(g *group) {
	waits := false
	for len(g.stages) > 0 && !t.link.dead {
		at, err := g.next()
		var reply *gosmtp.SMTPError
		if err != nil && (!errors.As(err, &reply) || reply.Code == 421) {
			t.link.dead = true
		}
		waits = at == atData && err == nil
	}
	if waits && !t.link.dead {
		t.discard()
	}
}

// discard ends a message that nobody gets.
func (t *transaction) discard() {
	g := &group{link: t.link, stages: []stage{atEnd}}
	t.link.wire.recorded = append(t.link.wire.recorded, ".\r\n"...)
	err := g.send()
	if err == nil {
		_, err = g.next()
	}
	if reply := (*gosmtp.SMTPError)(nil); err != nil && (!errors.As(err, &reply) || reply.Code == 421) {
		t.link.dead = true
	}
}

// nameable are the recipients that fit into one transaction: no more, and of no more domains, than the host takes (RFC 9422 §4).
func (t *transaction) nameable() []int {
	var named []int
	var domains []string
	for i := range t.jobs {
		if len(named) == t.link.caps.recipients {
			break
		}
		domain := t.jobs[i].Recipient.Domain()
		if !slices.Contains(domains, domain) {
			if most := t.link.caps.domains; most > 0 && len(domains) == most {
				continue
			}
			domains = append(domains, domain)
		}
		named = append(named, i)
	}
	return named
}

// chunked reports whether the message goes by BDAT.
func (t *transaction) chunked() bool { return t.link.caps.chunking && t.jobs[0].Size <= maxChunk }

// chunk sends the message by one BDAT (RFC 3030 §2).
func (t *transaction) chunk(content io.Reader) {
	l := t.link
	s := scratches.Get().(*scratch)
	command, err := s.chunk(&bodyReader{r: content})
	if err != nil {
		s.done()
		t.acceptedGet(unreadable(err))
		t.reset()
		return
	}
	g := &group{link: l, stages: []stage{atEnd}}
	l.wire.recorded = command
	text, err := "", g.send()
	s.done() // the host may take its time
	if err == nil {
		l.wire.read, l.wire.budget = l.limits.End, maxReply
		text, err = l.replies.read(250)
	}
	switch reply := (*gosmtp.SMTPError)(nil); {
	case err == nil:
		t.delivered(text)
	case errors.As(err, &reply) && slices.Contains([]int{500, 502, 504}, reply.Code):
		// The host does not know what it announced: the recipients get another transaction, by DATA.
		l.caps.chunking = false
		t.reset()
	default:
		t.acceptedGet(t.judge(atEnd, err))
		t.reset()
	}
}

// delivered gives the accepted recipients the good news, with the host's words.
func (t *transaction) delivered(words string) {
	t.acceptedGet(verdict{
		kind: store.Delivered, scope: aboutMessage, status: "2.0.0", words: store.CleanText("250 " + words), peer: t.link.peer,
	})
}
