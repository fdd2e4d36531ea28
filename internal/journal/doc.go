// Package journal keeps framed records in segment files, made durable group by group with one sync each, and gives the space of old
// segments back by using their files again.
//
// It owns the files of one directory, what is the end of the journal after a crash, and which segment can still be read. It does not
// own what the records mean: who keeps an index of them says up to where it has applied them, and which segments it needs no more.
//
// # A segment
//
// A segment is a preallocated file. Its header names its generation, which orders the segments, and a random stamp that all its records
// carry: a file that is used again is full of valid records of its earlier life, and a body may look like one. The file's name says the
// same generation, and that it is a segment and no spare.
//
// # A record
//
// A frame holds the stamp, the kind, the lengths of meta and body, the group and the sequence number, how many records of its group are
// before it, and a CRC32C over itself, the meta and the sums of the body; the sums are one CRC32C for each 64 KiB of body. Frame, meta,
// sums and body follow each other. Sequence numbers and group numbers have no gaps. A group may go over into the next segment, a record
// never does.
//
// # The end of the journal
//
// Group g+1 is written only after g is durable. So after a crash only the last group may be torn, and is cut at its first bad record;
// what is left of it behind the cut is wiped before anything new is written. A bad record before a valid one whose group began later is
// damage, and an error.
package journal
