package store

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Bounds of what is kept of clients.
const (
	// MaxClients bounds the clients of one account: beyond it the one that was not seen for longest is forgotten.
	MaxClients = 32
	// MaxClientText bounds each text of a Client, in octets.
	MaxClientText = 200
	// MaxNotedClients bounds what one NoteClients may add.
	MaxNotedClients = 10_000
)

// Client is one way in which a mailbox is used: what looks like the same program at the same door with the same mechanism and password is one
// client.
type Client struct {
	Account AccountID `json:"account"`
	// Program is what the client's habits say it is.
	Program string `json:"program"`
	// Door is where it comes in ("pop3", "old_pop3", "submission", ...), Mechanism how it logs in, TLS the version ("TLS 1.3") or empty.
	Door      string `json:"door"`
	Mechanism string `json:"mechanism"`
	TLS       string `json:"tls,omitempty"`
	// Device is the name of the device credential that it uses, empty for the main password.
	Device string `json:"device,omitempty"`
	// Address is where it came from last.
	Address netip.Addr `json:"address"`
	// First and Last are when it was seen.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Sessions, Fetched and Deleted count sessions, messages fetched and messages deleted. Keeps is how many sessions fetched and left mail.
	Sessions int64 `json:"sessions"`
	Fetched  int64 `json:"fetched"`
	Deleted  int64 `json:"deleted"`
	Keeps    int64 `json:"keeps"`
}

// Cleaned returns the client with its texts fit to be kept and shown: see [CleanText]. What is beyond MaxClientText octets is cut off between
// characters.
func (c Client) Cleaned() Client {
	for _, text := range []*string{&c.Program, &c.Door, &c.Mechanism, &c.TLS, &c.Device} {
		*text = cleanText(*text, MaxClientText)
	}
	return c
}

// Same reports whether both are one client.
func (c Client) Same(d Client) bool {
	return c.Account == d.Account && c.Program == d.Program && c.Door == d.Door && c.Mechanism == d.Mechanism && c.TLS == d.TLS &&
		c.Device == d.Device
}

// With returns what is known of a client after it was seen once more: the earlier First, the later Last with its Address, and the counts added.
func (c Client) With(seen Client) Client {
	if seen.First.Before(c.First) {
		c.First = seen.First
	}
	if !seen.Last.Before(c.Last) {
		c.Last, c.Address = seen.Last, seen.Address
	}
	c.Sessions += seen.Sessions
	c.Fetched += seen.Fetched
	c.Deleted += seen.Deleted
	c.Keeps += seen.Keeps
	return c
}

// PlaceClient says what becomes of a client that was seen, beside those of the same account that are known already: it is number i of them, or it
// takes the place i of another one (which is len(known) for a free place). ok is false if there is no place, because all others were seen later.
func PlaceClient(known []Client, seen Client) (i int, is, ok bool) {
	if i = slices.IndexFunc(known, seen.Same); i >= 0 {
		return i, true, true
	}
	if len(known) < MaxClients {
		return len(known), false, true
	}
	for n := range known {
		if i < 0 || known[n].Last.Before(known[i].Last) {
			i = n
		}
	}
	return i, false, !seen.Last.Before(known[i].Last)
}

// CompareClients orders the clients of one account for people: the last seen first. The texts settle what is left, so that the order is always the
// same.
func CompareClients(a, b Client) int {
	return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Program, b.Program), cmp.Compare(a.Door, b.Door),
		cmp.Compare(a.Mechanism, b.Mechanism), cmp.Compare(a.TLS, b.TLS), cmp.Compare(a.Device, b.Device))
}

// ValidateClients reports what NoteClients refuses: ErrBound beyond MaxNotedClients, ErrInvalid for a negative count.
func ValidateClients(seen []Client) error {
	if len(seen) > MaxNotedClients {
		return fmt.Errorf("%w: at most %d clients are noted at once", ErrBound, MaxNotedClients)
	}
	for i := range seen {
		if c := &seen[i]; min(c.Sessions, c.Fetched, c.Deleted, c.Keeps) < 0 {
			return fmt.Errorf("%w: client %d has a negative count", ErrInvalid, i)
		}
	}
	return nil
}

// Clients keeps which clients use a mailbox. A removed account's are forgotten with it.
type Clients interface {
	// NoteClients adds what was seen, in one transaction: a client that is known already (same Account, Program, Door, Mechanism, TLS and Device) keeps
	// the earlier First, gets the later Last with its Address, and the counts added. Clients of accounts that are gone change nothing. Texts are
	// kept as [Client.Cleaned] returns them. Beyond MaxClients of an account the one with the earliest Last is forgotten, which may be one that was
	// just seen. ErrBound beyond MaxNotedClients, ErrInvalid for a negative count; then nothing is changed. It waits for the disk: call it seldom, with
	// what has gathered.
	NoteClients(ctx context.Context, seen []Client) error
	// ListClients returns the clients of one account, the last seen first, or of all accounts (0) in order of account. At most limit. There are none
	// of an account that does not exist.
	ListClients(ctx context.Context, account AccountID, limit int) ([]Client, error)
}
