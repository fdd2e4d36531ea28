package webmanager

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// MaxTrailLimit bounds the messages of one answer about the trail, DefaultTrailLimit is used when none is asked for.
const (
	MaxTrailLimit     = 100
	DefaultTrailLimit = 20
	// maxTrailWords bounds each thing that is searched for, in octets: the longest Message-ID (RFC 5322 §2.1.1).
	maxTrailWords = 998
)

// TrailStep is an event with the names of what has one.
type TrailStep struct {
	store.TrailEvent
	// Mailbox is the name of the mailbox that sent the message, or that the copy is in; empty if it has been removed. Device is the name of the
	// credential that the client used.
	Mailbox string `json:"mailbox,omitempty"`
	Device  string `json:"device_name,omitempty"`
}

// TrailMessage is what became of one message.
type TrailMessage struct {
	ID     store.MessageID `json:"id"`
	Events []TrailStep     `json:"events"`
}

// TrailResult are the messages that were found, newest first. Ask for what comes before Next if there is one, even where there are few.
type TrailResult struct {
	Messages []TrailMessage `json:"messages"`
	Next     string         `json:"next,omitempty"`
	// Unreadable are parts of the trail that could not be looked at: what is in them is missing above.
	Unreadable []store.TrailGap `json:"unreadable,omitempty"`
}

// trail takes the parameters for (a message id, an address, a mailbox name or a Message-ID), from and to (addresses or mailbox names), subject
// (words of it), mailbox (one that sent it or has a copy), since and until (RFC 3339), before (a message id) and limit. A message has to have all
// that is asked for.
func (a *API) trail(r *http.Request) (any, error) {
	ctx := r.Context()
	limit, err := a.trailLimit(r)
	if err != nil {
		return nil, err
	}
	var page store.TrailPage
	var gaps store.TrailGaps
	var q store.TrailQuery
	if id, err := store.ParseMessageID(r.URL.Query().Get("for")); err == nil {
		events, err := a.store.MessageTrail(ctx, id)
		if err != nil && !errors.As(err, &gaps) {
			return nil, err
		}
		page = store.TrailPage{Messages: []store.MessageID{id}, Trails: [][]store.TrailEvent{events}}
	} else {
		if q, err = a.trailQuery(r); err != nil {
			return nil, err
		}
		if page, err = a.searchTrail(ctx, &q, limit); err != nil && !errors.As(err, &gaps) {
			return nil, err
		}
	}
	result := TrailResult{Messages: make([]TrailMessage, 0, len(page.Messages))}
	if page.Next != 0 {
		result.Next = page.Next.String()
	}
	names := trailNames{api: a, mailboxes: map[store.AccountID]string{}, devices: map[trailDevice]string{}}
	for i, id := range page.Messages {
		events := visible(page.Trails[i], actorOf(ctx), &q)
		if len(events) == 0 {
			continue
		}
		steps, err := names.steps(ctx, events)
		if err != nil {
			return nil, err
		}
		result.Messages = append(result.Messages, TrailMessage{ID: id, Events: steps})
	}
	if len(gaps) > 0 {
		a.log.Error("a part of the trail cannot be read; latchkey check --repair removes it", "err", gaps)
		result.Unreadable = gaps
	}
	return result, nil
}

// visible are the events of a message that an actor may be told. The owner of a mailbox is told of a message that it sent what became of it, but
// not when others read it; of a message that it got, its own copy and the acceptance, and nothing of other recipients, who may be hidden ones, nor
// by which device a neighbour sent it. What is left must have what was asked for, so that nobody finds out by asking.
func visible(events []store.TrailEvent, actor Actor, q *store.TrailQuery) []store.TrailEvent {
	if actor.Role >= RoleOwner {
		return events
	}
	sent := slices.ContainsFunc(events, func(e store.TrailEvent) bool {
		return e.Kind == store.TrailAccepted && e.Origin.Account != 0 && e.Origin.Account == actor.Account
	})
	got := slices.ContainsFunc(events, func(e store.TrailEvent) bool { return e.Account != 0 && e.Account == actor.Account })
	if !sent && !got {
		return nil
	}
	var told []store.TrailEvent
	var facts store.TrailFacts
	for _, e := range events {
		switch {
		case e.Kind == store.TrailAccepted:
			if !sent && e.Origin.Account != 0 {
				e.Origin = store.Origin{Door: e.Origin.Door, TLS: e.Origin.TLS}
			}
		case e.Account == actor.Account:
		case !sent, e.Kind == store.TrailFetched, e.Kind == store.TrailDeleted:
			continue
		}
		told = append(told, e)
		facts |= q.Facts(&e)
	}
	wanted := q.Wanted() &^ store.FactAccount // that it is the actor's is known
	if !facts.Have(wanted) {
		return nil
	}
	return told
}

// searchTrail looks for an address that is none of the trail's as a Message-ID without its brackets too; q is then what was looked for.
func (a *API) searchTrail(ctx context.Context, q *store.TrailQuery, limit int) (store.TrailPage, error) {
	page, err := a.store.SearchTrail(ctx, *q, limit)
	if len(page.Messages) > 0 || page.Next != 0 || q.Address.IsZero() || q.HeaderID != "" {
		return page, err
	}
	q.HeaderID, q.Address = "<"+q.Address.String()+">", mailaddr.Address{}
	page, again := a.store.SearchTrail(ctx, *q, limit)
	var gaps store.TrailGaps
	if err != nil && (again == nil || errors.As(again, &gaps)) {
		again = err // the first search may have missed more
	}
	return page, again
}

// trailQuery reads what is asked for.
func (a *API) trailQuery(r *http.Request) (q store.TrailQuery, err error) {
	query := r.URL.Query()
	settings, err := a.store.Settings(r.Context())
	if err != nil {
		return q, err
	}
	w := trailWords{query: query, domain: settings.Domain}
	if what := w.text("for"); strings.HasPrefix(what, "<") {
		q.HeaderID = what
	} else if what != "" {
		if q.Address, err = w.addressOf(what); err != nil {
			q.HeaderID = what
		}
	}
	q.Sender, q.Recipient = w.address("from"), w.address("to")
	q.Since, q.Until = w.time("since"), w.time("until")
	if text := w.text("before"); text != "" {
		if q.Before, err = store.ParseMessageID(text); err != nil {
			w.wrong = append(w.wrong, say("message_id").of("before"))
		}
	}
	if text := w.text("subject"); text != "" {
		key, err := store.LoadSubjectKey(r.Context(), a.store)
		if err != nil {
			return q, err
		}
		if q.Subject = key.Tokens(text); len(q.Subject) == 0 {
			w.wrong = append(w.wrong, say("no_word").of("subject"))
		}
	}
	if len(w.wrong) > 0 {
		return q, invalid(w.wrong...)
	}
	if name := w.text("mailbox"); name != "" {
		account, err := a.accountNamed(r.Context(), name, settings.Domain)
		if err != nil {
			return q, err
		}
		q.Account = account.ID
	}
	return q, nil
}

// trailWords reads parameters, and gathers what is wrong with them.
type trailWords struct {
	query  url.Values
	domain string
	wrong  []Field
}

func (w *trailWords) text(name string) string {
	text := w.query.Get(name)
	if len(text) > maxTrailWords {
		w.wrong = append(w.wrong, say("too_long", maxTrailWords).of(name))
		return ""
	}
	return text
}

// addressOf completes the name of a mailbox to its address.
func (w *trailWords) addressOf(text string) (mailaddr.Address, error) {
	if !strings.Contains(text, "@") {
		if name, mistake := localName(text, w.domain); mistake.none() {
			text = name + "@" + w.domain
		}
	}
	return mailaddr.Parse(text)
}

func (w *trailWords) address(name string) (a mailaddr.Address) {
	text := w.text(name)
	if text == "" {
		return a
	}
	a, err := w.addressOf(text)
	if err != nil {
		w.wrong = append(w.wrong, say("name_or_address").of(name))
	}
	return a
}

func (w *trailWords) time(name string) (t time.Time) {
	text := w.text(name)
	if text == "" {
		return t
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		w.wrong = append(w.wrong, say("time_form").of(name))
	}
	return t
}

// trailNames finds the names of mailboxes and devices, each once.
type trailNames struct {
	api       *API
	mailboxes map[store.AccountID]string
	devices   map[trailDevice]string
}

type trailDevice struct {
	account store.AccountID
	id      store.DeviceID
}

func (n *trailNames) steps(ctx context.Context, events []store.TrailEvent) ([]TrailStep, error) {
	steps := make([]TrailStep, len(events))
	for i, e := range events {
		steps[i].TrailEvent = e
		var err error
		if steps[i].Mailbox, err = n.mailbox(ctx, cmp.Or(e.Account, e.Origin.Account)); err != nil {
			return nil, err
		}
		if steps[i].Device, err = n.device(ctx, trailDevice{e.Origin.Account, e.Origin.Device}); err != nil {
			return nil, err
		}
	}
	return steps, nil
}

func (n *trailNames) mailbox(ctx context.Context, id store.AccountID) (string, error) {
	name, known := n.mailboxes[id]
	if id == 0 || known {
		return name, nil
	}
	account, err := n.api.store.Account(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	n.mailboxes[id] = account.Name
	return account.Name, nil
}

func (n *trailNames) device(ctx context.Context, of trailDevice) (string, error) {
	name, known := n.devices[of]
	if of.id == 0 || known {
		return name, nil
	}
	d, err := n.api.store.Device(ctx, of.account, of.id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	n.devices[of] = d.Name
	return d.Name, nil
}

func (a *API) trailLimit(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return DefaultTrailLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxTrailLimit {
		return 0, invalid(say("whole_number_to", MaxTrailLimit).of("limit"))
	}
	return n, nil
}
