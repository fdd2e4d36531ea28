package storetest

import (
	"slices"

	"latchkey/store"
)

func (h *harness) wantJobs(want ...store.JobID) {
	h.t.Helper()
	jobs, err := h.s.ListJobs(h.ctx, store.QueueFilter{}, 0, 2*store.MaxRecipients)
	h.must(err)
	got := make([]store.JobID, len(jobs))
	for i, j := range jobs {
		got[i] = j.ID
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("the queue holds jobs %v, want %v", got, want)
	}
}
