package boltstore

import (
	"cmp"
	"context"
	"slices"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// maxTrailLooks bounds the blocks that one page of a search opens. It is reached by what hardly anything matches, and costs a tenth of a second.
const maxTrailLooks = 64

// finder is a search for messages.
type finder struct {
	*search
	query  *store.TrailQuery
	wanted store.TrailFacts
	looks  int
	found  []store.MessageID // in descending order, once each

	// Of the run that is open: what the entries of its table of people have as senders and as recipients, the places of the words in its table of
	// tokens, and the messages of which there may be more in other runs.
	senders, recipients []store.TrailFacts
	subject             []uint64
	doubt               []store.MessageID
}

// SearchTrail implements store.Trail.
func (s *Store) SearchTrail(ctx context.Context, q store.TrailQuery, limit int) (page store.TrailPage, err error) {
	if limit <= 0 || len(q.HeaderID) > store.MaxHeaderIDLen || len(q.Subject) > store.MaxSubjectTokens {
		return page, ctx.Err()
	}
	err = s.lookThrough(ctx, func(through *search) error {
		f := finder{search: through, query: &q, wanted: q.Wanted()}
		if page, err = f.page(ctx, limit); err != nil {
			return err
		}
		page.Trails, err = f.ofMessages(ctx, page.Messages)
		return err
	})
	if err != nil && !isGaps(err) {
		return store.TrailPage{}, err
	}
	return page, err
}

// page opens what may have matching messages, those with the highest ids first. A message belongs to the run that it was accepted in, and these
// follow each other in order of ids but for one: what waited for a block of its own while a large transaction made blocks at once.
func (f *finder) page(ctx context.Context, limit int) (page store.TrailPage, err error) {
	list := f.candidates(f.may)
	list = slices.DeleteFunc(list, func(c candidate) bool { return !f.inSpan(&c.runHead) })
	slices.SortFunc(list, func(a, b candidate) int {
		_, x := a.span()
		_, y := b.span()
		return cmp.Or(cmp.Compare(y, x), cmp.Compare(b.last, a.last))
	})
	more := false
	for _, c := range list {
		if err := ctx.Err(); err != nil {
			return page, err
		}
		_, newest := c.span()
		to := store.MessageID(newest)
		if more = len(f.found) >= limit && to <= f.found[limit-1]; more {
			break
		}
		if f.looks >= maxTrailLooks && (f.query.Before == 0 || to+1 < f.query.Before) {
			page.Messages = slices.DeleteFunc(f.found, func(id store.MessageID) bool { return id <= to })
			page.Next = to + 1
			if len(page.Messages) > limit {
				page.Messages, page.Next = page.Messages[:limit], page.Messages[limit-1]
			}
			return page, nil
		}
		if err := f.look(ctx, c); err != nil {
			return page, err
		}
	}
	page.Messages = f.found
	if more || len(f.found) > limit {
		page.Messages = f.found[:limit]
		page.Next = page.Messages[limit-1]
	}
	return page, nil
}

// inSpan reports whether a run has acceptances that the query does not leave out by their ids or times.
func (f *finder) inSpan(h *runHead) bool {
	from, to := h.span()
	q := f.query
	return to != 0 && (q.Before == 0 || from < uint64(q.Before)) && !h.latest.Before(q.Since) && (q.Until.IsZero() || h.earliest.Before(q.Until))
}

// may asks a filter for what all is in one run: the Message-ID and the words of the subject or, without these, addresses or the mailbox, of which
// each recipient of a large message may have its own.
func (f *finder) may(h *blockHead, words filter) bool {
	q := f.query
	if q.HeaderID != "" && !words.has(textWord(q.HeaderID)) {
		return false
	}
	for _, token := range q.Subject {
		if !words.has(subjectWord(token)) {
			return false
		}
	}
	if !q.Sender.IsZero() && !words.has(addressWord(q.Sender)) {
		return false
	}
	if q.HeaderID != "" || len(q.Subject) > 0 || !q.Sender.IsZero() {
		return true
	}
	for _, a := range []mailaddr.Address{q.Recipient, q.Address} {
		if !a.IsZero() {
			return words.has(addressWord(a))
		}
	}
	return q.Account == 0 || words.has(accountWord(q.Account))
}

// look adds what matches in one run.
func (f *finder) look(ctx context.Context, c candidate) error {
	f.looks++
	err := f.open(c)
	if err == nil {
		f.prepare()
		err = f.scan()
	}
	if err != nil {
		f.gap(c.first, c.last)
		return nil //nolint:nilerr // it is a gap in the end
	}
	for _, id := range f.doubt {
		f.looks++
		events, err := f.ofMessage(ctx, id)
		if err != nil {
			return err
		}
		var facts store.TrailFacts
		if len(events) == 0 || events[0].Kind != store.TrailAccepted {
			continue
		}
		for i := range events {
			facts |= f.query.Facts(&events[i])
		}
		if facts.Have(f.wanted) {
			f.found = append(f.found, id)
		}
	}
	slices.SortFunc(f.found, func(a, b store.MessageID) int { return cmp.Compare(b, a) })
	f.found = slices.Compact(f.found)
	return nil
}

// prepare finds what is looked for in the tables of the run that is open.
func (f *finder) prepare() {
	q := f.query
	f.senders, f.recipients, f.subject, f.doubt = f.senders[:0], f.recipients[:0], f.subject[:0], f.doubt[:0]
	for i := range f.d.people {
		p := &f.d.people[i]
		var sends, gets store.TrailFacts
		if p.isAddress(q.Address) {
			sends, gets = store.FactAddress, store.FactAddress
		}
		if p.isAddress(q.Sender) {
			sends |= store.FactSender
		}
		if p.isAddress(q.Recipient) {
			gets |= store.FactRecipient
		}
		if p.account == q.Account {
			gets |= store.FactAccount
		}
		f.senders, f.recipients = append(f.senders, sends), append(f.recipients, gets)
	}
	for _, token := range q.Subject {
		place := slices.Index(f.d.tokens, token)
		if place < 0 {
			place = len(f.d.tokens)
		}
		f.subject = append(f.subject, uint64(place))
	}
}

// scan looks at every acceptance in the run that is open: the event itself, and those that came with it.
func (f *finder) scan() error {
	s := &f.d.step
	var facts store.TrailFacts
	var current, last uint64
	counts := false // the current acceptance is told, and before what the query says
	end := func() {
		switch {
		case !counts:
		case facts.Have(f.wanted):
			f.found = append(f.found, store.MessageID(current))
		case last == current: // the run ended, and may have done so in the middle
			f.doubt = append(f.doubt, store.MessageID(current))
		}
	}
	if err := f.d.each(func() error {
		switch {
		case s.kind == kindAccepted:
			last = 0
			end()
			current, facts, counts = s.message, f.acceptance(), f.mayBe(s.message)
		case !joinKinds.has(s.kind):
		case s.message == current:
			facts |= f.recipients[s.recipient]
		case f.recipients[s.recipient]&f.wanted != 0 && f.mayBe(s.message):
			if id := store.MessageID(s.message); !slices.Contains(f.doubt, id) {
				f.doubt = append(f.doubt, id)
			}
		}
		if last = 0; s.kind == kindAccepted || s.kind == kindHeld || joinKinds.has(s.kind) {
			last = s.message
		}
		return nil
	}); err != nil {
		return err
	}
	end()
	return nil
}

// mayBe reports whether the event that the reader is at is of a message that may be on this page.
func (f *finder) mayBe(message uint64) bool {
	return f.tells() && (f.query.Before == 0 || message < uint64(f.query.Before))
}

// acceptance are the facts of the acceptance that the reader is at.
func (f *finder) acceptance() store.TrailFacts {
	q, s := f.query, &f.d.step
	facts := f.senders[s.sender]
	if q.HeaderID != "" && f.d.isHeaderID(q.HeaderID) {
		facts |= store.FactHeaderID
	}
	if !slices.ContainsFunc(f.subject, func(place uint64) bool { return !slices.Contains(s.subject[:s.words], place) }) {
		facts |= store.FactSubject
	}
	if f.d.places[s.origin].account == q.Account {
		facts |= store.FactAccount
	}
	if at := s.time(); !at.Before(q.Since) && (q.Until.IsZero() || at.Before(q.Until)) {
		facts |= store.FactTime
	}
	return facts
}
