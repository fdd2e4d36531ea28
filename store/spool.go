package store

import (
	"context"
	"io"
	"net/netip"
	"time"

	"latchkey/internal/mailaddr"
)

// Bounds of an envelope.
const (
	// MaxRecipients bounds the recipients of one envelope, after aliases are expanded.
	MaxRecipients = 10_000
	// MaxPrefixLen bounds the header lines put before one local copy, in octets.
	MaxPrefixLen = 8 << 10
)

// Spool receives messages.
type Spool interface {
	// NewDraft starts a message. ctx bounds nothing but this call. The caller commits or aborts the draft.
	NewDraft(ctx context.Context) (Draft, error)
	// Room returns nil while the device takes messages, and ErrNoSpace while what is left on it is kept for deleting: so that a message is
	// refused before it is sent. It promises nothing for the next moment, and does no I/O but a look, now and then, whether there is room
	// again.
	Room(ctx context.Context) error
}

// Draft is a message being received. Memory does not grow with its size. A draft is used by one goroutine at a time, and is gone
// after a crash.
type Draft interface {
	// Write appends octets, which must already be in the form to keep: CRLF line ends, no dot-stuffing. ErrNoSpace when the device is
	// full; after any error the draft can only be aborted.
	io.Writer
	// Size is the number of octets written so far.
	Size() int64
	// Commit turns the octets into responsibility: local copies and queue jobs appear together or not at all, and when it returns nil
	// they survive a power cut and the next OpenMaildrop or Lease sees them. Recipients' accounts are looked at again: one that was
	// removed, suspended or filled up meanwhile, or whose copy the domain's quota has no room for, is reported in Receipt.Failed and does
	// not hold up the others. They are looked at in the order of the envelope, and what this message has added by then counts. If nobody is
	// left the error is ErrNoRecipients, joined with every RecipientError, and nothing is stored. An account named twice gets one copy (the
	// first).
	// If a job in Settles has lost its lease the error is ErrLeaseLost and nothing is stored. The draft is settled whatever is returned:
	// after an error nothing of it is kept, except that after a failed sync (ErrPoisoned) the outcome is unknown.
	Commit(ctx context.Context, e Envelope) (Receipt, error)
	// Abort forgets the draft. After Commit or Abort it does nothing.
	Abort() error
}

// Envelope is what SMTP knows of a message besides its octets (RFC 5321 §2.3.1).
type Envelope struct {
	// ReversePath is where bounces go; the zero address is the null reverse-path <>.
	ReversePath mailaddr.Address
	// Recipients are 1 to MaxRecipients.
	Recipients []Recipient
	// Submitter is the account that proved itself, 0 for none.
	Submitter AccountID
	// Received is when the message was accepted.
	Received time.Time
	// HeaderLen is the number of octets of the draft up to and including the empty line that ends the header; Size if there is none.
	HeaderLen int64
	// HeaderID is the Message-ID field's value, for people who search the trail; at most 998 octets.
	HeaderID string
	// Subject are the tokens of the Subject field's words, for the same people, at most MaxSubjectTokens: see [SubjectKey.Tokens].
	Subject []SubjectToken
	// Origin is where it came from. Its Account is not looked at: Submitter is.
	Origin Origin
	// EightBit is set for BODY=8BITMIME (RFC 6152), UTF8 for SMTPUTF8 (RFC 6531 §3.4).
	EightBit, UTF8 bool
	// Ours is set when the domain answers for the message: its sender has proved to be one of ours, or this server wrote it. Only such mail
	// is signed as the domain's when it leaves; what is merely forwarded is not.
	Ours bool
	// TLS is what the sender wants of the message's way on.
	TLS TLSDemand
	// Return and EnvelopeID are MAIL's RET and ENVID (RFC 3461 §4.3, §4.4).
	Return     Return
	EnvelopeID string
	// Hold, if it is not empty, is why the jobs are held from the beginning, as if by HoldJobs in the same moment; cut to MaxOutcomeText by the
	// store. Local copies are not held.
	Hold string
	// Settles are outcomes of leased jobs that become durable together with this message: a bounce and the failures that it reports.
	Settles []Outcome
	// Reserved is room that was reserved for this message, at most MaxRecipients ids. It does not count against this message, whose own size
	// decides, and ends in the moment in which the copies are charged: nobody ever sees both, or neither. However Commit ends, it is held
	// no longer. Ids that are not held any more are no error.
	Reserved []ReservationID
}

// Origin says where a message came from, or who read a maildrop, for the trail.
type Origin struct {
	// Door is "mx", "submission", "local" (made by this server) or "pop3".
	Door string `json:"door"`
	// Remote is the client's address, unmapped; the zero Addr for "local".
	Remote netip.Addr `json:"remote"`
	// Hello is the name that the client gave in EHLO or HELO.
	Hello string `json:"hello,omitempty"`
	// With is the protocol keyword of the Received line (RFC 3848, RFC 6531 §4.3).
	With string `json:"with,omitempty"`
	// TLS is the version of the client's connection, for example "TLS 1.3"; empty in the clear. At most MaxPeerText octets are kept.
	TLS string `json:"tls,omitempty"`
	// Account is the mailbox that proved itself, 0 for none, Device the credential of it, 0 for the main password.
	Account AccountID `json:"account,omitempty"`
	Device  DeviceID  `json:"device,omitempty"`
}

// Recipient is one place that the message goes to.
type Recipient struct {
	// Address is the forward-path's address as given in RCPT.
	Address mailaddr.Address
	// Account is the maildrop that gets a copy; 0 makes a queue job for Address instead.
	Account AccountID
	// Prefix is put before the body of this copy only (Return-Path, Delivered-To): complete header lines with CRLF, at most
	// MaxPrefixLen. Ignored for queue jobs: those fields belong to final delivery (RFC 5321 §4.4).
	Prefix []byte
	// Notify and Original are RCPT's NOTIFY and ORCPT (RFC 3461 §4.1, §4.2).
	Notify   Notify
	Original string
	// Onward is set for a queue job that sends on what came for an address here.
	Onward Onward
}

// Onward is what is particular to a message that is sent on.
type Onward struct {
	// By is the address here that sends it on; zero if the message was written to the recipient itself, and then the rest is zero too.
	By mailaddr.Address
	// ReversePath takes the place of the envelope's for this recipient; zero is the null reverse-path.
	ReversePath mailaddr.Address
	// Kept says that a mailbox here has a copy as well.
	Kept bool
}

// Return is MAIL's RET parameter (RFC 3461 §4.3): how much of the message a bounce carries.
type Return string

// The values of RET.
const (
	ReturnUnset  Return = ""
	ReturnFull   Return = "FULL"
	ReturnHeader Return = "HDRS"
)

// TLSDemand is what a sender wants of a message's way, beside what its destination wants (RFC 8689).
type TLSDemand uint8

// The demands.
const (
	// TLSUnset: nothing.
	TLSUnset TLSDemand = iota
	// TLSRequired is MAIL's REQUIRETLS: only over verified TLS, to servers that promise the same.
	TLSRequired
	// TLSOptional is the header field "TLS-Required: No": in the clear if need be, whatever the destination's policy says.
	TLSOptional
)

// Notify is RCPT's NOTIFY parameter as a set (RFC 3461 §4.1). The zero value means that none was given.
type Notify uint8

// The members of NOTIFY.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Receipt says what a commit stored.
type Receipt struct {
	// Message is the id of the accepted message.
	Message MessageID
	// Copies are the local copies, in the order of Envelope.Recipients.
	Copies []Copy
	// Jobs are the queued deliveries, in the order of Envelope.Recipients.
	Jobs []JobID
	// Failed are the recipients that were left out; the caller owes the sender an answer about them.
	Failed []*RecipientError
}

// Copy is one local copy of a receipt.
type Copy struct {
	ID      CopyID
	Account AccountID
	UID     string
}
