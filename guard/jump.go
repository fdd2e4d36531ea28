package guard

import "time"

// When a mailbox's way of sending counts as a jump. docs/adr has the reasons for the numbers.
const (
	// KnownAfter is how long a mailbox must have been used from a network before that counts as one of its own. A mailbox that is younger is
	// at home wherever it is.
	KnownAfter = 7 * 24 * time.Hour
	// BurstRecipients is how many recipients may be named from networks that are new to the mailbox, all together, in BurstWindow;
	// BurstStrangers how many of those to whom it has never written in StrangersWindow. They come back evenly.
	BurstRecipients = 40
	BurstWindow     = 72 * time.Hour
	BurstStrangers  = 25
	StrangersWindow = 7 * 24 * time.Hour
	// ReviewFailures recipients that failed or were refused, today and yesterday, if they are at least ReviewPercent of all, are worth a look;
	// HoldFailures and HoldPercent put mail on hold.
	ReviewFailures = 10
	ReviewPercent  = 20
	HoldFailures   = 25
	HoldPercent    = 40
)

// HoldReason says, for people, why mail is put on hold. It is empty if it is not.
type HoldReason string

// The reasons.
const (
	HoldNetwork   HoldReason = "mail of this mailbox from this network is on hold"
	HoldElsewhere HoldReason = "from a network that is new to the mailbox, while it has mail on hold"
	HoldBurst     HoldReason = "many recipients from networks that are new to the mailbox"
	HoldStrangers HoldReason = "many recipients that are new to the mailbox, from networks that are new to it"
	HoldFailing   HoldReason = "many of the mailbox's recipients failed or do not exist"
	HoldNew       HoldReason = "more new recipients than the mailbox may have in a day"
	// HoldByOperator: somebody said so, for example because our address got onto a blocklist.
	HoldByOperator HoldReason = "somebody put the mailbox on hold"
	HoldListed     HoldReason = "this server's address is on a blocklist, and the mailbox is the likely cause"
)

// JumpFacts are what is known when a message is about to be taken.
type JumpFacts struct {
	// Known: the network is one of the mailbox's own. Held: mail from it is on hold. AnyHeld: mail from some network is.
	Known, Held, AnyHeld bool
	// Burst and Strangers: the message goes beyond BurstRecipients or BurstStrangers. Only asked of networks that are new.
	Burst, Strangers bool
	// New: it goes beyond what the mailbox may name of new recipients a day.
	New bool
	// Named are the recipients of today and yesterday, Failed those of them that failed, were refused, and were not forgiven.
	Named, Failed int64
}

// JumpVerdict is what Jump says.
type JumpVerdict struct {
	// Hold is why the message is put on hold, empty if it is not.
	Hold HoldReason
	// Network is set when all further mail of the mailbox from this network is to be put on hold too.
	Network bool
	// Review is set when somebody should look at how the mailbox sends.
	Review bool
}

// Jump decides whether a message is put on hold: it and all that follows from the network, or it alone. Whoever sends from a network of the
// owner's own to people whom he knows is never held, unless those who fail are many.
func Jump(f JumpFacts) JumpVerdict {
	share := func(percent int64) bool { return f.Failed*100 >= percent*max(f.Named, f.Failed) }
	review := f.Failed >= ReviewFailures && share(ReviewPercent)
	failing := f.Failed >= HoldFailures && share(HoldPercent)
	v := JumpVerdict{Review: review}
	switch {
	case f.Held:
		v.Hold = HoldNetwork
	case f.AnyHeld && !f.Known:
		v.Hold = HoldElsewhere
	case f.Burst && !f.Known:
		v.Hold = HoldBurst
	case f.Strangers && !f.Known:
		v.Hold = HoldStrangers
	case failing, review && !f.Known:
		v.Hold = HoldFailing
	case f.New:
		v.Hold = HoldNew
	}
	v.Network = v.Hold != "" && (v.Hold != HoldNew || !f.Known)
	return v
}
