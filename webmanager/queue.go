package webmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// MaxActionIDs bounds the ids of one request that acts on queued deliveries or grants.
const MaxActionIDs = 1000

// auditedJobs is how many deliveries one audit entry names; a request about more makes more entries.
const auditedJobs = 100

// heldByHand is the reason of a hold that gave none, removedByHand that of a removal with a bounce, which the sender reads.
const (
	heldByHand    = "by hand"
	removedByHand = "the postmaster of the sending domain decided not to send it"
)

// QueueAction is the body that acts on queued deliveries.
type QueueAction struct {
	// IDs are 1 to MaxActionIDs.
	IDs []store.JobID `json:"ids"`
	// Reason is for hold and for a removal with a bounce, at most store.MaxOutcomeText octets.
	Reason string `json:"reason,omitempty"`
	// Bounce is for remove only: the senders are told, with the reason, as of a delivery that failed. The deliveries stay in the queue until that is
	// done, which the running server does at once.
	Bounce bool `json:"bounce,omitempty"`
}

// QueueResult says what became of the deliveries that were named. What could not be done to one does not hold up the others.
type QueueResult struct {
	Done []store.JobID `json:"done"`
	// Gone were not in the queue any more: delivered, given up or removed meanwhile.
	Gone []store.JobID `json:"gone"`
	// Refused were left as they are.
	Refused []QueueRefusal `json:"refused"`
}

// QueueRefusal says why a delivery was left as it is, with the cure.
type QueueRefusal struct {
	ID  store.JobID `json:"id"`
	Why string      `json:"why"`
}

// queueVerb is one thing that can be done to queued deliveries.
type queueVerb struct {
	// action is the word for the audit log, summary a sentence for people.
	action, summary string
	// refuses says why a delivery must be left as it is; "" if it need not.
	refuses func(store.Job) string
	do      func(ctx context.Context, a *API, body QueueAction, ids []store.JobID) error
	// takesReason is set for hold, bounces for remove, which takes a reason with a bounce.
	takesReason, bounces bool
}

func takesAll(store.Job) string { return "" }

// queueVerbs is the table of what can be done, by the last word of the path.
func queueVerbs() map[string]queueVerb {
	return map[string]queueVerb{
		"retry": {
			action: "queue.retry", summary: "Try deliveries at once.",
			// Somebody who holds it in this very moment is not seen here, and his hold is ended.
			refuses: func(j store.Job) string {
				if j.Held {
					return "it is held: release it, and it is tried at once"
				}
				return ""
			},
			do: func(ctx context.Context, a *API, _ QueueAction, ids []store.JobID) error {
				return a.store.ReleaseJobs(ctx, a.now(), ids...)
			},
		},
		"hold": {
			action: "queue.hold", summary: "Put deliveries on hold.", takesReason: true, refuses: takesAll,
			do: func(ctx context.Context, a *API, body QueueAction, ids []store.JobID) error {
				return a.store.HoldJobs(ctx, body.Reason, ids...)
			},
		},
		"release": {
			action: "queue.release", summary: "Let deliveries go that are on hold.",
			refuses: func(j store.Job) string {
				if !j.Held {
					return "it is not held: retry it to have it tried at once"
				}
				return ""
			},
			do: func(ctx context.Context, a *API, _ QueueAction, ids []store.JobID) error {
				return a.store.ReleaseJobs(ctx, a.now(), ids...)
			},
		},
		"remove": {
			action: "queue.remove", summary: "Take deliveries out of the queue.", refuses: takesAll, bounces: true,
			do: func(ctx context.Context, a *API, body QueueAction, ids []store.JobID) error {
				if body.Bounce {
					return a.store.GiveUpJobs(ctx, a.now(), body.Reason, ids...)
				}
				return a.store.RemoveJobs(ctx, ids...)
			},
		},
	}
}

// actOnQueue answers POST /v1/queue/VERB.
func (a *API) actOnQueue(verb queueVerb) func(r *http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var body QueueAction
		if err := decode(r, &body); err != nil {
			return nil, err
		}
		if wrong := body.mistakes(verb); len(wrong) > 0 {
			return nil, invalid(wrong...)
		}
		switch {
		case body.Reason != "":
		case verb.takesReason:
			body.Reason = heldByHand
		case body.Bounce:
			body.Reason = removedByHand
		}
		ctx := r.Context()
		result, jobs, err := a.lookAtJobs(ctx, verb, body.IDs)
		if err != nil {
			return nil, err
		}
		failed := a.eachIfNotAll(ctx, verb, body, slices.Clone(jobs), &result)
		slices.Sort(result.Gone)
		// What was done stays done, whatever failed after it.
		audited := a.auditQueue(ctx, verb, body, jobs, result.Done)
		if failed != nil {
			return nil, failed
		}
		return result, audited
	}
}

func (b QueueAction) mistakes(verb queueVerb) []Field {
	var wrong []Field
	if n := len(b.IDs); n == 0 || n > MaxActionIDs {
		wrong = append(wrong, Field{Field: "ids", Message: fmt.Sprintf("are 1 to %d numbers of queued deliveries", MaxActionIDs)})
	}
	switch {
	case b.Bounce && !verb.bounces:
		wrong = append(wrong, Field{Field: "bounce", Message: "is for remove only"})
	case b.Reason != "" && !verb.takesReason && !b.Bounce:
		wrong = append(wrong, Field{Field: "reason", Message: "is for hold only, and for remove with a bounce"})
	case len(b.Reason) > store.MaxOutcomeText || mailaddr.HasControl(b.Reason):
		wrong = append(wrong, Field{Field: "reason", Message: fmt.Sprintf("has more than %d octets, or control characters", store.MaxOutcomeText)})
	}
	return wrong
}

// lookAtJobs sorts out the deliveries that can be acted on.
func (a *API) lookAtJobs(ctx context.Context, verb queueVerb, ids []store.JobID) (QueueResult, []store.Job, error) {
	result := QueueResult{Done: []store.JobID{}, Gone: []store.JobID{}, Refused: []QueueRefusal{}}
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var jobs []store.Job
	for _, id := range slices.Compact(ids) {
		job, err := a.store.Job(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			result.Gone = append(result.Gone, id)
			continue
		}
		if err != nil {
			return result, nil, err
		}
		if why := verb.refuses(job); why != "" {
			result.Refused = append(result.Refused, QueueRefusal{ID: id, Why: why})
			continue
		}
		jobs = append(jobs, job)
	}
	return result, jobs, nil
}

// eachIfNotAll acts on all jobs at once. The store refuses that if one of them has just gone, delivered say; then each half is tried
// by itself, so that one that is gone costs a few refused calls and holds up nobody.
func (a *API) eachIfNotAll(ctx context.Context, verb queueVerb, body QueueAction, jobs []store.Job, result *QueueResult) error {
	if len(jobs) == 0 {
		return nil
	}
	ids := make([]store.JobID, len(jobs))
	for i, j := range jobs {
		ids[i] = j.ID
	}
	err := verb.do(ctx, a, body, ids)
	switch {
	case err == nil:
		result.Done = append(result.Done, ids...)
		return nil
	case !errors.Is(err, store.ErrNotFound):
		return err
	case len(jobs) == 1:
		result.Gone = append(result.Gone, ids...)
		return nil
	}
	half := len(jobs) / 2
	if err := a.eachIfNotAll(ctx, verb, body, jobs[:half], result); err != nil {
		return err
	}
	return a.eachIfNotAll(ctx, verb, body, jobs[half:], result)
}

// auditedQueue is what the audit log keeps of an action on the queue: each delivery by its number, message and recipient.
type auditedQueue struct {
	Jobs   []string `json:"jobs"`
	Reason string   `json:"reason,omitempty"`
	Bounce bool     `json:"bounce,omitempty"`
}

func (a *API) auditQueue(ctx context.Context, verb queueVerb, body QueueAction, jobs []store.Job, done []store.JobID) error {
	jobs = slices.DeleteFunc(jobs, func(j store.Job) bool {
		_, found := slices.BinarySearch(done, j.ID)
		return !found
	})
	for part := range slices.Chunk(jobs, auditedJobs) {
		state := auditedQueue{Reason: body.Reason, Bounce: body.Bounce}
		for _, j := range part {
			state.Jobs = append(state.Jobs, fmt.Sprintf("%d %s %s", j.ID, j.Message, j.Recipient))
		}
		object := fmt.Sprintf("delivery %d", part[0].ID)
		if len(part) > 1 {
			object = fmt.Sprintf("%d deliveries", len(part))
		}
		if err := a.audit(ctx, verb.action, object, nil, state); err != nil {
			return err
		}
	}
	return nil
}
