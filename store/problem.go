package store

import (
	"time"

	"latchkey/internal/mailaddr"
)

// The kinds of problems that Check finds, each a short constant phrase. [Explain] says what they mean.
const (
	// ProblemIndex: pages of the index cannot be read, or contradict each other.
	ProblemIndex = "damaged index"
	// ProblemJournal: the journal's end cannot be read though it was durable.
	ProblemJournal = "damaged journal"
	// ProblemSegment: a segment of the journal has a header that cannot be read, or is missing.
	ProblemSegment = "damaged segment"
	// ProblemRecord: one record of the index cannot be read.
	ProblemRecord = "damaged record"
	// ProblemReference: something names what is not there.
	ProblemReference = "dangling reference"
	// ProblemCounter: a counter is not what was counted.
	ProblemCounter = "counter off"
	// ProblemMessage: a message's octets are not those that were stored, or are missing.
	ProblemMessage = "damaged message"
	// ProblemOrphan: a file that no message names.
	ProblemOrphan = "orphan body"
	// ProblemBackupFile: a file of a backup is not what was written. ProblemBackup: what the files hold cannot be opened.
	ProblemBackupFile = "damaged backup file"
	ProblemBackup     = "damaged backup"
)

// Mended is one problem that a repair took care of.
type Mended struct {
	Problem
	// Action says what was done about it.
	Action string `json:"action"`
}

// Lost is one copy of a message, or one delivery to another domain, that could not be kept: its octets are not those that were stored.
type Lost struct {
	// Account has lost a copy; 0 is a delivery that is lost to Submitter (0 if nobody of this domain sent it).
	Account   AccountID `json:"account,omitempty"`
	Submitter AccountID `json:"submitter,omitempty"`
	// UID is the unique-id of a copy.
	UID string `json:"uid,omitempty"`
	// Message is the accepted message, of which the rest is known from the index and the trail.
	Message   MessageID        `json:"message"`
	Sender    mailaddr.Address `json:"sender"`
	Recipient mailaddr.Address `json:"recipient"`
	HeaderID  string           `json:"header_id,omitempty"`
	Size      int64            `json:"size"`
	Received  time.Time        `json:"received"`
	// Why says what cannot be read, Kept in which file what is there was put aside, or "".
	Why  string `json:"why"`
	Kept string `json:"kept,omitempty"`
}

// Repaired says what a repair did.
type Repaired struct {
	Mended []Mended `json:"mended"`
	Lost   []Lost   `json:"lost"`
	// Left is what a check finds now.
	Left []Problem `json:"left"`
	// Quarantine is the directory of what was put aside, or "".
	Quarantine string `json:"quarantine,omitempty"`
}

// Explanation says in plain words what a kind of problem is.
type Explanation struct {
	// What it is, what is Lost by it, and the Cure.
	What, Lost, Cure string
}

// Explain returns the words for a kind of problem; ok is false for a kind that nobody knows.
func Explain(kind string) (e Explanation, ok bool) {
	const repair = "Stop the server and run latchkey check --repair."
	switch kind {
	case ProblemIndex:
		return Explanation{
			"Pages of mail.db, the index of everything, cannot be read or contradict each other. What it says cannot be trusted any more.",
			"Nothing is changed, but the domain cannot be served from this directory. Mail in journal and large is still there.",
			"Look at the disk. Keep the directory, and restore the last backup into another one: latchkey restore DIR --data NEW.",
		}, true
	case ProblemJournal:
		return Explanation{
			"The end of the journal was written and cannot be read. The server does not start, because it does not know what it would lose.",
			"What the index did not have yet behind that place: deliveries, deletes and outcomes of the last moments. What can be read behind it is kept.",
			"Look at the disk. " + repair + " If you have a newer backup, restore that instead.",
		}, true
	case ProblemSegment:
		return Explanation{
			"A file of the journal is missing, or its first page cannot be read.",
			"The mail in a file that is missing. A first page can be written again, and nothing is lost.",
			"If you moved or removed the file, put it back. Else: " + repair,
		}, true
	case ProblemRecord:
		return Explanation{
			"One record of the index cannot be read.",
			"What it says: of a message or a delivery the journal may have it still, of a mailbox its password and settings.",
			repair,
		}, true
	case ProblemReference:
		return Explanation{
			"Something in the index names what is not there, or two places do not agree.",
			"Mostly nothing: what can be told from the rest is put in order. A mailbox that is missing is made again, without a password.",
			repair,
		}, true
	case ProblemCounter:
		return Explanation{
			"A counter of the index is not what was counted.",
			"Nothing. Until it is corrected a quota may be wrong, or space not be given back.",
			repair,
		}, true
	case ProblemMessage:
		return Explanation{
			"The octets of a message on the disk are not those that were stored, or are missing. They are never sent: a session that asks for them ends.",
			"The message, in every mailbox and delivery that is named.",
			"If a backup has it, restore that elsewhere and fetch it from there. Then: " + repair +
				" The message is put aside, and its owners get a message that says which one is lost.",
		}, true
	case ProblemOrphan:
		return Explanation{
			"A file that no message names, left by a process that was killed, or by whoever put it there.",
			"Nothing but its space.",
			"The next start removes it. latchkey check --repair puts it aside instead.",
		}, true
	case ProblemBackupFile:
		return Explanation{
			"A file of the backup is missing, or its octets are not those that were written.",
			"The mail in it, if this backup has to be restored.",
			"Look at the disk. Remove the file that is named, and run latchkey backup again: it is written anew. If it is the manifest, make a new backup in an empty directory.",
		}, true
	case ProblemBackup:
		return Explanation{
			"The files of the backup are as they were written, and cannot be opened as a domain.",
			"The backup.",
			"Run latchkey check on the domain itself, and make a new backup in an empty directory.",
		}, true
	}
	return Explanation{}, false
}
