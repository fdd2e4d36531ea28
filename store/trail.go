package store

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"latchkey/internal/mailaddr"
)

// TrailKind says what happened to a message.
type TrailKind string

// The kinds of trail events. The store itself writes all of these, in the transaction that makes them true.
const (
	// TrailAccepted: the store took responsibility; one for each message, and the first of it.
	TrailAccepted TrailKind = "accepted"
	// TrailStored: a local copy was made.
	TrailStored TrailKind = "stored"
	// TrailQueued: a job was made.
	TrailQueued TrailKind = "queued"
	// TrailLeftOut: a recipient was left out at the commit.
	TrailLeftOut TrailKind = "left out"
	// TrailDelivered, TrailDeferred, TrailFailed: an attempt ended.
	TrailDelivered TrailKind = "delivered"
	TrailDeferred  TrailKind = "deferred"
	TrailFailed    TrailKind = "failed"
	// TrailHeld, TrailReleased, TrailRemoved, TrailGivenUp: somebody acted on the queue.
	TrailHeld     TrailKind = "held"
	TrailReleased TrailKind = "released"
	TrailRemoved  TrailKind = "removed"
	TrailGivenUp  TrailKind = "given up"
	// TrailFetched, TrailDeleted: the owner did so in a POP3 session that ended with QUIT. What was fetched in one that did not has the Text
	// TrailBrokeOff.
	TrailFetched TrailKind = "fetched"
	TrailDeleted TrailKind = "deleted"
	// TrailReported: the sender was told of an outcome by a message of its own, whose id is the Text.
	TrailReported TrailKind = "reported"
)

// TrailBrokeOff is the Text of a fetch in a session that ended without QUIT.
const TrailBrokeOff = "the session broke off"

// TrailEvent is one step in the life of a message.
type TrailEvent struct {
	// Seq is given by the store, ascending in the order of events.
	Seq     uint64    `json:"seq"`
	Message MessageID `json:"message"`
	Time    time.Time `json:"time"`
	Kind    TrailKind `json:"kind"`
	// Sender and Recipient are the envelope's; Recipient is zero for TrailAccepted.
	Sender    mailaddr.Address `json:"sender"`
	Recipient mailaddr.Address `json:"recipient"`
	// Account is the mailbox that the copy is in, for TrailStored, TrailFetched and TrailDeleted.
	Account AccountID `json:"account,omitempty"`
	// HeaderID, Size and Subject are set for TrailAccepted. Subject are the hashes of the subject's words, which nobody is told.
	HeaderID string         `json:"header_id,omitempty"`
	Size     int64          `json:"size,omitempty"`
	Subject  []SubjectToken `json:"-"`
	// Origin is the client: of TrailAccepted the one that sent the message, of TrailFetched and TrailDeleted the one that read the maildrop.
	Origin Origin `json:"origin,omitzero"`
	// Peer is the host of TrailDelivered, TrailDeferred and TrailFailed; zero if the word is our own.
	Peer Peer `json:"peer,omitzero"`
	// Text is the remote's words, a hold's reason, why a recipient was left out, or the message id of a report.
	Text string `json:"text,omitempty"`
}

// MaxPeerText bounds the texts of a Peer and Origin.TLS, each in octets; engines cut what is longer.
const MaxPeerText = 255

// Peer is the host that an attempt was made at.
type Peer struct {
	// Host is its name, or the address as a literal if it has none.
	Host string     `json:"host,omitempty"`
	Addr netip.Addr `json:"addr,omitzero"`
	// TLS says how the connection was protected, the version first, for example "TLS 1.3"; empty in the clear.
	TLS string `json:"tls,omitempty"`
}

// Clean is the peer as engines keep it: texts cut to MaxPeerText, without control characters.
func (p Peer) Clean() Peer {
	p.Host, p.TLS = cleanText(p.Host, MaxPeerText), cleanText(p.TLS, MaxPeerText)
	return p
}

// TrailQuery says which messages are looked for; a message is found if it has all that is set, and everything is if nothing is. What counts is
// the acceptance of a message and what became of each recipient then: a message is found as long as its acceptance is told.
type TrailQuery struct {
	// Address is its sender or one of its recipients, Sender its sender, Recipient one of its recipients. The null reverse-path is nobody.
	Address, Sender, Recipient mailaddr.Address
	// HeaderID is its Message-ID, with the brackets.
	HeaderID string
	// Subject are tokens that its subject all has, see [SubjectKey.Tokens]. As they are short, a message without them may be found now and then:
	// one of some thousand millions for each token.
	Subject []SubjectToken
	// Account sent it, or got a copy.
	Account AccountID
	// Since and Until bound when it was accepted: not before Since, and before Until.
	Since, Until time.Time
	// Before asks for messages with a lower id only: the page after another.
	Before MessageID
}

// TrailFacts are the parts of a query that an event, or several of one message, have.
type TrailFacts uint16

// The parts, of which a message has to have those that the query sets.
const (
	FactAddress TrailFacts = 1 << iota
	FactSender
	FactRecipient
	FactHeaderID
	FactSubject
	FactAccount
	FactTime
)

// Have reports whether all that is wanted is there.
func (f TrailFacts) Have(wanted TrailFacts) bool { return f&wanted == wanted }

// Wanted are the parts that the query sets, but Before.
func (q *TrailQuery) Wanted() (f TrailFacts) {
	for _, part := range []struct {
		set  bool
		fact TrailFacts
	}{
		{!q.Address.IsZero(), FactAddress}, {!q.Sender.IsZero(), FactSender}, {!q.Recipient.IsZero(), FactRecipient}, {q.HeaderID != "", FactHeaderID},
		{len(q.Subject) > 0, FactSubject}, {q.Account != 0, FactAccount}, {!q.Since.IsZero() || !q.Until.IsZero(), FactTime},
	} {
		if part.set {
			f |= part.fact
		}
	}
	return f
}

// Facts are the parts of the query that one event has: only events of an acceptance have any.
func (q *TrailQuery) Facts(e *TrailEvent) (f TrailFacts) {
	switch e.Kind {
	case TrailAccepted:
		if !e.Sender.IsZero() && e.Sender == q.Address {
			f |= FactAddress
		}
		if !e.Sender.IsZero() && e.Sender == q.Sender {
			f |= FactSender
		}
		if e.HeaderID == q.HeaderID {
			f |= FactHeaderID
		}
		if !slices.ContainsFunc(q.Subject, func(t SubjectToken) bool { return !slices.Contains(e.Subject, t) }) {
			f |= FactSubject
		}
		if e.Origin.Account == q.Account {
			f |= FactAccount
		}
		if !e.Time.Before(q.Since) && (q.Until.IsZero() || e.Time.Before(q.Until)) {
			f |= FactTime
		}
	case TrailStored, TrailQueued, TrailLeftOut:
		if e.Recipient == q.Address {
			f |= FactAddress
		}
		if e.Recipient == q.Recipient {
			f |= FactRecipient
		}
		if e.Account == q.Account {
			f |= FactAccount
		}
	}
	return f
}

// TrailPage is a part of what was found.
type TrailPage struct {
	// Messages are in descending order, and Trails their events, as MessageTrail returns them.
	Messages []MessageID
	Trails   [][]TrailEvent
	// Next is the Before of the page that follows; 0 if there is none. A page may be short, or empty, and have one that follows.
	Next MessageID
}

// Trail answers what became of a message. Events that a verb causes become durable with that verb. Where a part of the trail cannot be read,
// what the rest has is returned together with a TrailGaps.
type Trail interface {
	// MessageTrail returns the events of one message in order, none if it is unknown or too old.
	MessageTrail(ctx context.Context, id MessageID) ([]TrailEvent, error)
	// SearchTrail returns messages, newest first and at most limit. It looks at a bounded part of the trail: what that left out is on the next
	// page.
	SearchTrail(ctx context.Context, q TrailQuery, limit int) (TrailPage, error)
}
