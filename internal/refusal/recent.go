package refusal

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds of what is remembered of refusals.
const (
	// MaxRecent bounds the events of each name: a flood of one refusal leaves those of the others.
	MaxRecent = 16
	// maxWhy bounds the facts of one event, in octets.
	maxWhy = 300
)

// Event is one refusal that was made. It has addresses and names of mailboxes in it, for the operator, and no secret.
type Event struct {
	Time time.Time `json:"time"`
	Name Name      `json:"name"`
	Code string    `json:"code"`
	// Door is where, Command what was refused; Remote is the client's address, zero for none.
	Door    string     `json:"door"`
	Command string     `json:"command,omitempty"`
	Remote  netip.Addr `json:"remote"`
	// Mailbox is the address of the domain that it was about, if one was proved or named.
	Mailbox string `json:"mailbox,omitempty"`
	// Text is what the client was told, Why are the facts behind it.
	Text string `json:"text"`
	Why  string `json:"why,omitempty"`
}

// Recent remembers the last refusals of each name, as long as the process lives. The zero value is ready; its methods may be called from any
// goroutine, and do nothing for a nil one.
type Recent struct {
	// Counted is told of the name of each event, if it is not nil. It must not block, and is set before the first.
	Counted func(Name)

	mu     sync.Mutex // protects what follows
	events map[Name][]Event
}

// Note remembers an event. A name that is not in the table is none.
func (r *Recent) Note(e Event) {
	if r == nil {
		return
	}
	if _, ok := Lookup(e.Name); !ok {
		return
	}
	if r.Counted != nil {
		r.Counted(e.Name)
	}
	e.Code = e.Name.Code()
	e.Text, e.Why = Clean(e.Text), Clean(e.Why)
	e.Why = e.Why[:min(len(e.Why), maxWhy)]
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.events == nil {
		r.events = map[Name][]Event{}
	}
	list := r.events[e.Name]
	if len(list) == MaxRecent {
		copy(list, list[1:])
		list = list[:MaxRecent-1]
	}
	r.events[e.Name] = append(list, e)
}

// List returns the events of a name, or of all with "", the newest first; those from one address only if remote is one.
func (r *Recent) List(name Name, remote netip.Addr) (list []Event) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, events := range r.events {
		for _, e := range events {
			if (name == "" || n == name) && (!remote.IsValid() || e.Remote == remote) {
				list = append(list, e)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Event) int { return b.Time.Compare(a.Time) })
	return list
}
