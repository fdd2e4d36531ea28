package smtp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/store"
)

// What follows answers for mailboxes whose owner is away (RFC 3834, a personal responder). It comes after the commit of the message: a crash between
// the two loses the answer, and never the message. That a sender was answered is durable before the answer is, so that none gets two.

// maxAnswers is how many mailboxes answer one message.
const maxAnswers = 10

// absent is a mailbox that may answer, and the addresses of it that the message may name.
type absent struct {
	account store.AccountID
	names   []mailaddr.Address
}

// absent are the mailboxes with vacation answers that got the message, or sent it on, by an address that is theirs alone. What came by an alias of
// several, or by the catch-all, was written to nobody in person.
func (tx *transaction) absent(receipt store.Receipt) (list []absent) {
	for i, w := range tx.wishes {
		if !w.away || w.outside > 0 {
			continue
		}
		id := w.accounts[0]
		if !w.sentOn && !slices.ContainsFunc(receipt.Copies, func(c store.Copy) bool { return c.Account == id }) {
			continue
		}
		if at := slices.IndexFunc(list, func(a absent) bool { return a.account == id }); at >= 0 {
			list[at].names = append(list[at].names, tx.addresses[i])
			continue
		}
		list = append(list, absent{account: id, names: []mailaddr.Address{tx.addresses[i]}})
	}
	return list[:min(len(list), maxAnswers)]
}

// answerVacation answers a message that was just committed.
func (s *session) answerVacation(tx *transaction, h *message.Header, receipt store.Receipt) {
	list := tx.absent(receipt)
	if len(list) == 0 {
		return
	}
	if why := s.unanswerable(tx, h); why != "" {
		logNotAnswered(s.ctx, s.log, receipt.Message, why)
		return
	}
	// The answer is owed even if the client hangs up meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), bounceTime)
	defer cancel()
	route, err := s.answerRoute(ctx, tx)
	if err != nil {
		logNotAnswered(ctx, s.log, receipt.Message, err.Error())
		return
	}
	for _, a := range list {
		if err := s.answerFor(ctx, tx, h, a, route); err != nil {
			s.log.Error("vacation answer not sent", "id", receipt.Message.String(), "account", uint64(a.account), "err", err)
		}
	}
}

// unanswerable says why nobody answers a message, or "": there is nobody to answer, or nobody who would read it, or who wrote it is not certain
// enough.
func (s *session) unanswerable(tx *transaction, h *message.Header) string {
	ours := func(a mailaddr.Address) bool { return a.Domain() == tx.settings.Domain }
	switch {
	case tx.reversePath.IsZero(): // RFC 3834 §2: MUST NOT
		return "null reverse-path"
	case message.NoPerson(tx.reversePath):
		return "the sender is no person"
	case !submits(tx.who) && (ours(tx.reversePath) || slices.ContainsFunc(addressesOf(h, "From"), ours)):
		return "a stranger with an address of this domain"
	case slices.ContainsFunc(addressesOf(h, "X-Loop"), ours):
		return "an answer of this domain that comes back"
	}
	return message.Unanswerable(h)
}

// addressesOf are all addresses in the fields of a name that can be read.
func addressesOf(h *message.Header, name string) (all []mailaddr.Address) {
	for _, value := range h.Values(name) {
		list, err := message.Addresses(value)
		if err != nil {
			continue
		}
		all = append(all, list...)
	}
	return all
}

// answerRoute is where answers to a sender go, or why they do not.
func (s *session) answerRoute(ctx context.Context, tx *transaction) (store.Route, error) {
	route, err := s.srv.opts.Store.Resolve(ctx, tx.reversePath)
	switch {
	case err != nil:
		return store.Route{}, err
	case len(route.Remote) == 0:
		return route, nil
	case !tx.settings.OutgoingMail:
		return store.Route{}, errors.New("smtp: mail out of the domain is switched off")
	}
	return route, s.mayWrite(ctx, tx.settings, tx.reversePath)
}

// answerFor answers for one mailbox, if it is away and was written to in person, and this sender is to be answered now.
func (s *session) answerFor(ctx context.Context, tx *transaction, h *message.Header, a absent, route store.Route) error {
	now := s.srv.opts.Now()
	account, err := s.srv.opts.Store.Account(ctx, a.account)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case !account.Vacation.Active(now) || account.Suspended || slices.Contains(route.Local, a.account):
		return nil
	}
	from, err := mailaddr.New(account.Name, tx.settings.Domain)
	if err != nil {
		return err
	}
	if !h.Names(append(a.names, from)...) {
		return nil
	}
	if ok, err := s.claimAnswer(ctx, now, a.account, tx.reversePath); err != nil || !ok {
		return err
	}
	return s.writeAnswer(ctx, tx, &message.Answer{
		From: from, Name: account.DisplayName, To: tx.reversePath, Hostname: s.srv.opts.Hostname, ID: randomID() + randomID(), Date: now,
		Subject: account.Vacation.Subject, Text: account.Vacation.Text, Header: h,
	}, route)
}

// claimAnswer reports whether a mailbox is to answer a sender now: it has not for a while, and the budgets have room. Then it never will twice.
func (s *session) claimAnswer(ctx context.Context, now time.Time, id store.AccountID, sender mailaddr.Address) (bool, error) {
	st, seen := s.srv.opts.Store, answered(now, id, sender)
	known, err := st.KnownHabits(ctx, id, store.HabitAnswered, seen.Name)
	if err != nil || len(known) == 1 && known[0].SeenWithin(now, store.AnswersApart) {
		return false, err // without waiting for the disk
	}
	for _, b := range []store.Budget{store.AnswersOf(id), store.AnswersOfDomain()} {
		taken, err := st.Take(ctx, now, b.Key, 1, b.Limit)
		if err != nil {
			return false, err
		}
		if !taken.OK {
			s.log.Warn("not answered: as much as may be in a day", "account", uint64(id), "limit", b.Limit.N)
			return false, nil
		}
	}
	return st.ClaimHabit(ctx, seen, store.AnswersApart)
}

// answered is the mark that a mailbox answered a sender at now.
func answered(now time.Time, id store.AccountID, sender mailaddr.Address) store.Habit {
	name := sha256.Sum256([]byte(person(sender)))
	return store.Habit{
		Account: id, Kind: store.HabitAnswered, Name: hex.EncodeToString(name[:]), First: now, Last: now, Text: store.HabitText(sender.String()),
	}
}

// person is whom a reverse-path stands for, in small letters: without what is another one for each day or message, which would make him a new sender.
func person(sender mailaddr.Address) string {
	local, domain := strings.ToLower(sender.Local()), sender.Domain()
	switch {
	case strings.HasPrefix(local, "prvs="): // BATV: prvs=TAG=local
		if _, rest, ok := strings.Cut(local[len("prvs="):], "="); ok {
			local = rest
		}
	case strings.HasPrefix(local, "btv1=="): // the same of Barracuda: btv1==TAG==local
		if _, rest, ok := strings.Cut(local[len("btv1=="):], "=="); ok {
			local = rest
		}
	case strings.HasPrefix(local, "srs0="), strings.HasPrefix(local, "srs0+"), strings.HasPrefix(local, "srs0-"): // SRS0=HASH=DAY=domain=local
		if parts := strings.SplitN(local[len("srs0="):], "=", 4); len(parts) == 4 {
			local, domain = parts[3], parts[2]
		}
	}
	if base, _, tagged := strings.Cut(local, "+"); tagged && base != "" {
		local = base
	}
	return local + "@" + domain
}

// writeAnswer commits an answer, from the null reverse-path (RFC 3834 §3.3), so that nobody answers it.
func (s *session) writeAnswer(ctx context.Context, tx *transaction, a *message.Answer, route store.Route) error {
	octets, headerLen, err := a.Octets()
	if err != nil {
		return err
	}
	draft, err := s.srv.opts.Store.NewDraft(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = draft.Abort() }() // nothing to do after Commit
	if _, err := draft.Write(octets); err != nil {
		return err
	}
	e := store.Envelope{
		Received: a.Date, HeaderLen: int64(headerLen), HeaderID: a.MessageID(), UTF8: a.UTF8(), EightBit: a.UTF8(), Ours: true,
		Origin: store.Origin{Door: "local"},
	}
	if tx.tls == store.TLSRequired {
		e.TLS = store.TLSRequired // RFC 8689 §5: protected as what it answers
	}
	for _, id := range route.Local {
		e.Recipients = append(e.Recipients, store.Recipient{Address: a.To, Account: id, Prefix: prefix(mailaddr.Address{}, a.To)})
	}
	for _, to := range route.Remote {
		e.Recipients = append(e.Recipients, store.Recipient{Address: to, Notify: store.NotifyNever})
	}
	if len(e.Recipients) == 0 {
		return nil // its sender's address leads outside only, where nothing of this goes
	}
	receipt, err := draft.Commit(ctx, e)
	if err == nil {
		logAnswered(ctx, s.log, receipt.Message, a)
	}
	return err
}
