package store

import (
	"cmp"
	"slices"
	"time"
)

// MaxFresh bounds the destinations that Queue.Fresh returns.
const MaxFresh = 1000

// Fresh gathers the destinations that got jobs to be tried, for an engine's Queue.Fresh. Its zero value is empty. It is not safe for
// concurrent use.
type Fresh struct {
	due  map[Destination]time.Time // by submitter and domain alone
	more bool
}

// Add notes a destination, once, with the earliest moment that it is added with. Beyond MaxFresh it notes only that there are more.
func (f *Fresh) Add(d Destination) {
	key := Destination{Submitter: d.Submitter, Domain: d.Domain}
	due, known := f.due[key]
	switch {
	case known && !d.Due.Before(due):
		return
	case !known && len(f.due) >= MaxFresh:
		f.more = true
		return
	case f.due == nil:
		f.due = make(map[Destination]time.Time)
	}
	f.due[key] = d.Due
}

// AddJob notes the destination of a job.
func (f *Fresh) AddJob(j *Job) {
	f.Add(Destination{Submitter: j.Submitter, Domain: j.Recipient.Domain(), Due: j.NextAttempt})
}

// Join adds what another one has gathered.
func (f *Fresh) Join(other *Fresh) {
	for d, due := range other.due {
		d.Due = due
		f.Add(d)
	}
	f.more = f.more || other.more
}

// Some reports whether anything was gathered.
func (f *Fresh) Some() bool { return len(f.due) > 0 || f.more }

// Take returns what was gathered, in order of submitter and name, and forgets it. more says that it is not all.
func (f *Fresh) Take() (list []Destination, more bool) {
	for d, due := range f.due {
		d.Due = due
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b Destination) int {
		return cmp.Or(cmp.Compare(a.Submitter, b.Submitter), cmp.Compare(a.Domain, b.Domain))
	})
	more = f.more
	*f = Fresh{}
	return list, more
}
