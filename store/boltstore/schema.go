package boltstore

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"time"

	"latchkey/internal/journal"
	"latchkey/store"
)

// formatVersion is the version of everything below; an engine opens its own and refuses newer ones.
const formatVersion = 1

// Names in the data directory.
const (
	indexName     = "mail.db"
	newIndexName  = "mail.db.new"       // an Init, or a compaction, that was cut short
	restoringName = "mail.db.restoring" // a Restore that is not complete
	reserveName   = "reserve"
	journalName   = "journal"
	largeName     = "large"
	tmpName       = "tmp"
)

// bucketID names a bucket of the index.
type bucketID int

// The buckets. Ids in keys are 8 octets, big-endian.
const (
	bMeta         bucketID = iota // metaFormat, metaEpochs, metaSettings, metaTally
	bAccounts                     // account id -> account
	bAccountNames                 // name -> account id
	bAliases                      // name -> account ids
	bAliasTargets                 // account id, alias name -> nothing
	bLent                         // address, NUL, account id -> nothing: the account may send as the address
	bUsage                        // account id -> octets, messages
	bCopies                       // account id, copy id -> copyRecord
	bCondemned                    // account id -> nothing: the account is removed, its copies are still to be swept
	bBodies                       // message id -> sharedRecord: messages that have several copies or jobs, and large ones
	bSegments                     // generation -> live: what of a segment of the journal is still needed
	bJobs                         // job id -> job
	bDue                          // submitter, destination, NUL, time, job id -> nothing: jobs that are not held
	bTrail                        // seq of its last event, number of the piece -> piece of a block of events
	bTrailOpen                    // seq of its last event, number of the piece -> piece of a run of events that is in no block yet
	bAudit                        // seq -> entry
	bStats                        // day, name -> figure
	bCounters                     // key -> bucket and limit
	bGrants                       // account id, grant id -> grant
	bSessions                     // token -> expiry, data
	bSessionOrder                 // expiry, token -> nothing
	bSecrets                      // name -> blob
	bClients                      // account id, number -> client
	bDevices                      // account id, device id -> device
	bHabits                       // account id, kind, name -> habit
	numBuckets
)

func (b bucketID) String() string {
	return [numBuckets]string{"meta", "accounts", "account-names", "aliases", "alias-targets", "lent", "usage", "copies", "condemned",
		"bodies", "segments", "jobs", "due", "trail", "trail-open", "audit", "stats", "counters", "grants", "sessions", "session-order",
		"secrets", "clients", "devices", "habits"}[b]
}

// appended reports whether keys are only ever added at the bucket's end, or (copies) at the ends of a few ranges, so that full pages need no
// room for more.
func (b bucketID) appended() bool {
	switch b {
	case bBodies, bSegments, bJobs, bAudit, bCopies:
		return true
	default:
		return false
	}
}

// leads reports whether the bucket says where addresses lead.
func (b bucketID) leads() bool { return b == bAccountNames || b == bAliases }

// Keys of bMeta.
const (
	metaFormat   = "format"
	metaEpochs   = "epochs"
	metaSettings = "settings"
	metaTally    = "tally"
	metaApplied  = "applied"
)

// tally holds the ids given out last, and how much the bounded buckets hold. It is written with each transaction that changes it.
type tally struct {
	Account, Copy, Message, Job, Trail, Audit uint64 // the last id given out
	Open                                      uint64 // octets in bTrailOpen
	Entries, Sessions                         uint64 // what bAudit and bSessions hold
	Grant                                     uint64 // the last grant id that is reserved: see reserveGrants
	Device                                    uint64 // the last device id given out
}

func (t *tally) fields() []*uint64 {
	return []*uint64{&t.Account, &t.Copy, &t.Message, &t.Job, &t.Trail, &t.Audit, &t.Open, &t.Entries, &t.Sessions, &t.Grant, &t.Device}
}

func (t *tally) encode() []byte {
	var e encoder
	for _, f := range t.fields() {
		e.uint64(*f)
	}
	return e.b
}

func decodeTally(b []byte) (tally, error) {
	var t tally
	d := decoder{b: b}
	for _, f := range t.fields() {
		*f = d.uint64()
	}
	return t, d.err
}

// token names a body's file.
type token [16]byte

func newToken() token {
	var t token
	_, _ = rand.Read(t[:]) // never fails: crypto/rand ends the process instead
	return t
}

func (t token) String() string { return hex.EncodeToString(t[:]) }

// parseToken reads a file name of large/; ok is false for a name that no body has.
func parseToken(name string) (t token, ok bool) {
	if len(name) != hex.EncodedLen(len(t)) {
		return t, false
	}
	_, err := hex.Decode(t[:], []byte(name))
	return t, err == nil && t.String() == name
}

// sharedRecord is what several copies and jobs share, or a large message needs: who of them is the last frees it.
type sharedRecord struct {
	Refs uint64 // copies and jobs
	where
	octets int64 // in the record
	body
}

func (r *sharedRecord) encode() []byte {
	var e encoder
	e.uvarint(r.Refs)
	e.where(&r.where)
	e.uvarint(uint64(r.octets))
	e.bool(r.large)
	e.body(&r.body)
	return e.b
}

func decodeShared(b []byte) (sharedRecord, error) {
	var r sharedRecord
	d := decoder{b: b}
	r.Refs = d.uvarint()
	r.where = d.where()
	r.octets = int64(d.uvarint())
	r.large = d.bool()
	d.body(&r.body)
	return r, d.err
}

// live is what of a segment is needed still.
type live struct {
	Messages int64
	Octets   int64 // of their bodies in the segment
}

func (l live) encode() []byte {
	var e encoder
	e.varint(l.Messages)
	e.varint(l.Octets)
	return e.b
}

func decodeLive(b []byte) (live, error) {
	d := decoder{b: b}
	l := live{Messages: d.varint(), Octets: d.varint()}
	return l, d.err
}

func encodeMark(m journal.Mark) []byte {
	var e encoder
	e.uint64(m.Generation)
	e.uint64(uint64(m.Offset))
	e.uint64(m.Group)
	e.uint64(m.Seq)
	return e.b
}

func decodeMark(b []byte) (journal.Mark, error) {
	d := decoder{b: b}
	m := journal.Mark{Generation: d.uint64(), Offset: int64(d.uint64()), Group: d.uint64(), Seq: d.uint64()}
	return m, d.err
}

// listing is one local copy, as the index and a snapshot have it.
type listing struct {
	id      store.CopyID
	message store.MessageID
	size    int64 // with the prefix
	header  int64 // with the prefix
	sec     int64
	segment uint64
	offset  int64 // of the body's sums
	nsec    int32
	metaLen uint32
	// prefixAt is how far before the sums the prefix's checksum lies.
	prefixAt  uint32
	prefixLen uint16
	flags     uint8
}

// Flags of a copy or job. A job has the first two only.
const (
	copyShared  = 1 << iota // it has a sharedRecord
	copyLarge               // the message is in a file of large/, its header in the record
	copyFetched             // an expunge record that was applied names it as fetched
	copyUTF8                // the message came with SMTPUTF8
)

func (l *listing) shared() bool  { return l.flags&copyShared != 0 }
func (l *listing) large() bool   { return l.flags&copyLarge != 0 }
func (l *listing) fetched() bool { return l.flags&copyFetched != 0 }
func (l *listing) utf8() bool    { return l.flags&copyUTF8 != 0 }

func (l *listing) where() where {
	return where{segment: l.segment, offset: l.offset, metaLen: int64(l.metaLen)}
}

func (l *listing) move(w where, h *holder) {
	l.segment, l.offset, l.metaLen = w.segment, w.offset, uint32(w.metaLen)
	l.prefixAt, l.prefixLen = uint32(h.prefixAt), uint16(h.prefixLen)
}

// octets is how much of the message lies in its record.
func (l *listing) octets() int64 {
	return recordOctets(l.size-int64(l.prefixLen), l.header-int64(l.prefixLen), l.large())
}

func (l *listing) received() time.Time { return time.Unix(l.sec, int64(l.nsec)).UTC() }

func (l *listing) encode(e *encoder) {
	e.uint8(l.flags)
	e.uvarint(uint64(l.message))
	e.uvarint(uint64(l.size))
	e.uvarint(uint64(l.header))
	e.varint(l.sec)
	e.uvarint(uint64(l.nsec))
	e.uvarint(l.segment)
	e.uvarint(uint64(l.offset))
	e.uvarint(uint64(l.metaLen))
	e.uvarint(uint64(l.prefixLen))
	e.uvarint(uint64(l.prefixAt))
}

// decodeListing reads a copy without allocating.
func decodeListing(key, b []byte) (l listing, err error) {
	err = l.decode(key, b)
	return l, err
}

// decode reads all of l.
func (l *listing) decode(key, b []byte) error {
	if len(key) != 16 {
		return errShortRecord
	}
	d := decoder{b: b}
	l.id, l.flags, l.message = store.CopyID(id8(key[8:])), d.uint8(), store.MessageID(d.uvarint())
	l.size, l.header = int64(d.uvarint()), int64(d.uvarint())
	l.sec, l.nsec = d.varint(), int32(d.uvarint())
	l.segment, l.offset, l.metaLen = d.uvarint(), int64(d.uvarint()), uint32(d.uvarint())
	l.prefixLen, l.prefixAt = uint16(d.uvarint()), uint32(d.uvarint())
	if d.err == nil && (l.header > l.size || int64(l.prefixLen) > l.header) {
		d.fail()
	}
	return d.err
}

func encodeUsage(u store.Usage) []byte {
	var e encoder
	e.varint(u.Octets)
	e.varint(u.Messages)
	return e.b
}

func decodeUsage(b []byte) (store.Usage, error) {
	if b == nil {
		return store.Usage{}, nil
	}
	d := decoder{b: b}
	u := store.Usage{Octets: d.varint(), Messages: d.varint()}
	return u, d.err
}

func encodeIDs(ids []store.AccountID) []byte {
	var e encoder
	for _, id := range ids {
		e.uint64(uint64(id))
	}
	return e.b
}

func decodeIDs(b []byte) ([]store.AccountID, error) {
	if len(b) == 0 || len(b)%8 != 0 {
		return nil, errShortRecord
	}
	ids := make([]store.AccountID, 0, len(b)/8)
	for ; len(b) > 0; b = b[8:] {
		ids = append(ids, store.AccountID(id8(b)))
	}
	return ids, nil
}

// statPrefix is the part of a bStats key that all figures of a day share.
func statPrefix(day store.Day) []byte { return binary.BigEndian.AppendUint32(nil, uint32(day)) }

func statKey(day store.Day, name string) []byte { return append(statPrefix(day), name...) }

// duePrefix is the part of a bDue key that all jobs of one submitter to one domain share. A domain has no NUL.
func duePrefix(submitter store.AccountID, domain string) []byte {
	key := make([]byte, 0, dueHead+len(domain)+1+dueTail)
	return append(append(binary.BigEndian.AppendUint64(key, uint64(submitter)), domain...), 0)
}

// behindDue is above all bDue keys of a submitter and a domain, and not above those of any that sort after them.
func behindDue(submitter store.AccountID, domain string) []byte {
	key := duePrefix(submitter, domain)
	key[len(key)-1] = 1
	return key
}

func dueKey(j *store.Job) []byte {
	key := append(duePrefix(j.Submitter, j.Recipient.Domain()), timeKey(j.NextAttempt)...)
	return binary.BigEndian.AppendUint64(key, uint64(j.ID))
}

// dueOfKey reads the moment and the job of a bDue key.
func dueOfKey(key []byte) (time.Time, store.JobID) {
	key = key[len(key)-dueTail:]
	return timeOfKey(key), store.JobID(id8(key[12:]))
}

// dueHead is the length of a bDue key before its domain, dueTail that behind its NUL.
const dueHead, dueTail = 8, 12 + 8

// destinationOfKey reads the submitter and the domain of a bDue key.
func destinationOfKey(key []byte) store.Destination {
	return store.Destination{Submitter: store.AccountID(id8(key)), Domain: string(key[dueHead : len(key)-dueTail-1])}
}

func encodeGrant(g *store.Grant) []byte {
	e := encoder{b: make([]byte, 0, 96)}
	e.bytes(g.Network.Addr().AsSlice())
	e.uint8(uint8(g.Network.Bits()))
	e.uvarint(g.CredentialVersion)
	e.time(g.Created)
	e.time(g.LastLogin)
	e.time(g.Expires)
	e.uvarint(uint64(g.Recipients))
	e.uvarint(uint64(g.Left))
	e.string(string(g.End))
	e.time(g.Ended)
	e.uvarint(uint64(g.Device))
	return e.b
}

func decodeGrant(key, b []byte) (store.Grant, error) {
	if len(key) != 16 {
		return store.Grant{}, errShortRecord
	}
	g := store.Grant{Account: store.AccountID(id8(key)), ID: store.GrantID(id8(key[8:]))}
	d := decoder{b: b}
	addr, ok := netip.AddrFromSlice(d.bytes())
	g.Network = netip.PrefixFrom(addr, int(d.uint8()))
	g.CredentialVersion = d.uvarint()
	g.Created, g.LastLogin, g.Expires = d.time(), d.time(), d.time()
	g.Recipients, g.Left = int(d.uvarint()), int(d.uvarint())
	g.End, g.Ended = store.GrantEnd(d.string()), d.time()
	g.Device = store.DeviceID(d.uvarint())
	if d.err == nil && (!ok || !g.Network.IsValid() || g.Left < 0 || g.Left > g.Recipients) {
		d.fail()
	}
	return g, d.err
}
