package webmanager

import (
	"errors"
	"net/http"
	"strconv"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// QueuePage is a part of the queue; ask for what comes after Next if it is not 0, even where the page is short or empty.
type QueuePage struct {
	Jobs []store.Job `json:"jobs"`
	Next store.JobID `json:"next,omitempty"`
}

// listQueue takes the parameters after, up_to, limit, message, submitter (a mailbox), sender and recipient (addresses), destination (a domain),
// host (of the last attempt) and held (true or false).
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
	upTo, err := numberParameter(r, "up_to")
	if err != nil {
		return nil, err
	}
	filter.UpTo = store.JobID(upTo)
	jobs, next, err := a.store.ListJobs(r.Context(), filter, store.JobID(after), limit)
	if err != nil {
		return nil, err
	}
	page := QueuePage{Jobs: jobs, Next: next}
	if page.Jobs == nil {
		page.Jobs = []store.Job{}
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
			wrong = append(wrong, say("message_id").of("message"))
		}
		f.Message = id
	}
	if text := query.Get("destination"); text != "" {
		domain, err := mailaddr.CanonicalDomain(text)
		if err != nil {
			wrong = append(wrong, say("not_domain").of("destination"))
		}
		f.Destination = domain
	}
	f.Host = query.Get("host")
	for name, into := range map[string]*mailaddr.Address{"sender": &f.Sender, "recipient": &f.Recipient} {
		if text := query.Get(name); text != "" {
			address, err := mailaddr.Parse(text)
			if err != nil {
				wrong = append(wrong, say("not_address").of(name))
			}
			*into = address
		}
	}
	if text := query.Get("held"); text != "" {
		held, err := strconv.ParseBool(text)
		if err != nil {
			wrong = append(wrong, say("true_or_false").of("held"))
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
		return nil, invalid(say("job_number").of("id"))
	}
	job, err := a.store.Job(r.Context(), store.JobID(id))
	if actor := actorOf(r.Context()); err == nil && actor.Role < RoleOwner && job.Submitter != actor.Account {
		err = store.ErrNotFound // whoever may not see it is not told that it is there
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, say("no_job", id).refusal(CodeNotFound)
	}
	return job, err
}
