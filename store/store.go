package store

import "context"

// Store is everything that one virtual domain keeps. Rooms ask for the small interfaces that they need, not for this one. All
// methods may be called from any goroutine.
type Store interface {
	Accounts
	Maildrops
	Spool
	Queue
	SettingsStore
	Secrets
	Counters
	Grants
	WebSessions
	Clients
	Devices
	Habits
	Suppressions
	Audit
	Stats
	Trail

	// Check reads everything and reports what does not hold together: counters, references, bodies and their checksums. No problems is
	// a sound store. It may run beside normal work.
	Check(ctx context.Context) ([]Problem, error)
	// Close writes down what may be forgotten, and releases the data. Open maildrops and drafts are void. It may be called twice.
	Close() error
}

// Problem is one thing that Check found.
type Problem struct {
	// Kind is a short constant phrase, for example "missing body".
	Kind string `json:"kind"`
	// Object names where, for example "message 000000000000002a".
	Object string `json:"object"`
	// Detail says what was expected and what was found.
	Detail string `json:"detail"`
}
