package webmanager

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// MaxTrailLimit bounds the messages of one answer about the trail, DefaultTrailLimit is used when none is asked for.
const (
	MaxTrailLimit     = 100
	DefaultTrailLimit = 20
	// maxTrailWords bounds what is searched for, in octets: the longest Message-ID (RFC 5322 §2.1.1).
	maxTrailWords = 998
)

// QueuePage is a part of the queue; ask for what comes after Next if it is not 0.
type QueuePage struct {
	Jobs []store.Job `json:"jobs"`
	Next store.JobID `json:"next,omitempty"`
}

// TrailMessage is what became of one message.
type TrailMessage struct {
	ID     store.MessageID    `json:"id"`
	Events []store.TrailEvent `json:"events"`
}

// TrailResult are the messages that were found, newest first.
type TrailResult struct {
	Messages []TrailMessage `json:"messages"`
	// Unreadable are parts of the trail that could not be looked at: what is in them is missing above.
	Unreadable []store.TrailGap `json:"unreadable,omitempty"`
}

// listQueue takes the parameters after, limit, message, submitter (a mailbox), destination (a domain) and held (true or false).
func (a *API) listQueue(r *http.Request) (any, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, err
	}
	after, err := numberParameter(r, "after")
	if err != nil {
		return nil, err
	}
	filter, err := a.queueFilter(r)
	if err != nil {
		return nil, err
	}
	jobs, _, err := a.store.ListJobs(r.Context(), filter, store.JobID(after), limit)
	if err != nil {
		return nil, err
	}
	page := QueuePage{Jobs: jobs}
	if page.Jobs == nil {
		page.Jobs = []store.Job{}
	}
	if len(jobs) == limit {
		page.Next = jobs[limit-1].ID
	}
	return page, nil
}

func (a *API) queueFilter(r *http.Request) (store.QueueFilter, error) {
	var f store.QueueFilter
	var wrong []Field
	query := r.URL.Query()
	if text := query.Get("message"); text != "" {
		id, err := store.ParseMessageID(text)
		if err != nil {
			wrong = append(wrong, Field{"message", "is a message id of 16 hex digits"})
		}
		f.Message = id
	}
	if text := query.Get("destination"); text != "" {
		domain, err := mailaddr.CanonicalDomain(text)
		if err != nil {
			wrong = append(wrong, Field{"destination", "is not a domain"})
		}
		f.Destination = domain
	}
	if text := query.Get("held"); text != "" {
		held, err := strconv.ParseBool(text)
		if err != nil {
			wrong = append(wrong, Field{"held", "is true or false"})
		}
		f.Held = &held
	}
	if text := query.Get("submitter"); text != "" {
		settings, err := a.store.Settings(r.Context())
		if err != nil {
			return f, err
		}
		account, err := a.accountNamed(r.Context(), text, settings.Domain)
		if err != nil {
			return f, err
		}
		f.Submitter = account.ID
	}
	if len(wrong) > 0 {
		return f, invalid(wrong...)
	}
	return f, nil
}

func (a *API) showJob(r *http.Request) (any, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil || id == 0 {
		return nil, invalid(Field{"id", "is the number of a queued delivery"})
	}
	job, err := a.store.Job(r.Context(), store.JobID(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, &Error{Code: CodeNotFound, Message: fmt.Sprintf("there is no queued delivery %d (any more)", id)}
	}
	return job, err
}

// trail takes the parameters for (a message id, an address, a mailbox name or a Message-ID) and limit.
func (a *API) trail(r *http.Request) (any, error) {
	limit, err := a.trailLimit(r)
	if err != nil {
		return nil, err
	}
	what := r.URL.Query().Get("for")
	if what == "" || len(what) > maxTrailWords {
		return nil, invalid(Field{"for", "is an address, a message id or a Message-ID"})
	}
	var ids []store.MessageID
	var gaps store.TrailGaps
	if id, err := store.ParseMessageID(what); err == nil {
		ids = []store.MessageID{id}
	} else {
		settings, err := a.store.Settings(r.Context())
		if err != nil {
			return nil, err
		}
		ids, err = a.store.SearchTrail(r.Context(), trailWords(what, settings.Domain), limit)
		if err != nil && !errors.As(err, &gaps) {
			return nil, err
		}
	}
	result := TrailResult{Messages: make([]TrailMessage, 0, len(ids))}
	for _, id := range ids {
		var more store.TrailGaps
		events, err := a.store.MessageTrail(r.Context(), id)
		if err != nil && !errors.As(err, &more) {
			return nil, err
		}
		gaps = allGaps(gaps, more)
		if len(events) > 0 {
			result.Messages = append(result.Messages, TrailMessage{ID: id, Events: events})
		}
	}
	if len(gaps) > 0 {
		a.log.Error("a part of the trail cannot be read; latchkey check --repair removes it", "err", gaps)
		result.Unreadable = gaps
	}
	return result, nil
}

// allGaps returns what is in either.
func allGaps(a, b store.TrailGaps) (all store.TrailGaps) {
	both := slices.Concat(a, b)
	slices.SortFunc(both, func(a, b store.TrailGap) int { return cmp.Compare(a.From, b.From) })
	for _, gap := range both {
		all.Add(gap)
	}
	return all
}

func (a *API) trailLimit(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return DefaultTrailLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxTrailLimit {
		return 0, invalid(Field{"limit", "is a whole number of 1 to " + strconv.Itoa(MaxTrailLimit)})
	}
	return n, nil
}

// trailWords completes the name of a mailbox to its address, and writes an address as the store does.
func trailWords(what, domain string) string {
	if !strings.Contains(what, "@") {
		if name, mistake := localName(what, domain); mistake == "" {
			return name + "@" + domain
		}
	}
	if address, err := mailaddr.Parse(what); err == nil {
		return address.String()
	}
	return what
}
