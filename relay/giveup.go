package relay

import (
	"errors"

	"latchkey/store"
)

// endGivenUp ends leased jobs that somebody gave up, without an attempt: their senders are told as of any other failure. It returns those that are
// to be tried.
func (w *worker) endGivenUp(jobs []store.Job, err error) ([]store.Job, error) {
	var tried []store.Job
	var ended []decision
	for _, j := range jobs {
		if j.GivenUp == "" {
			tried = append(tried, j)
			continue
		}
		// RFC 3463 §3.8: an administrative decision.
		ended = append(ended, decision{job: j, verdict: ours(store.Failed, aboutRecipient, "5.7.0", "taken out of the queue by hand: "+j.GivenUp)})
	}
	if len(ended) > 0 {
		err = errors.Join(err, w.r.settle(w.abort, ended))
	}
	return tried, err
}
