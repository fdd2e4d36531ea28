package boltstore

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// formatVersion is the version of everything below; an engine opens its own and refuses newer ones.
const formatVersion = 1

// Names in the data directory.
const (
	indexName    = "mail.db"
	newIndexName = "mail.db.new" // an Init that was cut short
	reserveName  = "reserve"
	largeName    = "large"
	tmpName      = "tmp"
)

// bucketID names a bucket of the index.
type bucketID int

// The buckets. Ids in keys are 8 octets, big-endian.
const (
	bMeta         bucketID = iota // metaFormat, metaEpoch, metaSettings, metaTally
	bAccounts                     // account id -> account
	bAccountNames                 // name -> account id
	bAliases                      // name -> account ids
	bAliasTargets                 // account id, alias name -> nothing
	bUsage                        // account id -> octets, messages
	bCopies                       // account id, copy id -> copyRecord
	bGraves                       // account id, copy id -> nothing: the copy is deleted, but may still be read in a snapshot
	bCondemned                    // account id -> nothing: the account is removed, its copies are still to be swept
	bBodies                       // message id -> bodyRecord
	bJobs                         // job id -> job
	bDue                          // destination, NUL, time, job id -> nothing: jobs that are not held
	bTrail                        // message id, seq -> event
	bTrailOrder                   // seq -> message id, time
	bTrailSearch                  // length, address or Message-ID, message id -> nothing
	bAudit                        // seq -> entry
	bStats                        // day, name -> figure
	bCounters                     // key -> bucket and limit
	bGrants                       // account id, grant id -> grant
	bSessions                     // token -> expiry, data
	bSessionOrder                 // expiry, token -> nothing
	bSecrets                      // name -> blob
	numBuckets
)

func (b bucketID) String() string {
	return [numBuckets]string{"meta", "accounts", "account-names", "aliases", "alias-targets", "usage", "copies", "graves", "condemned",
		"bodies", "jobs", "due", "trail", "trail-order", "trail-search", "audit", "stats", "counters", "grants", "sessions", "session-order",
		"secrets"}[b]
}

// appended reports whether keys are only ever added at the bucket's end, so that full pages need no room for more.
func (b bucketID) appended() bool {
	switch b {
	case bBodies, bJobs, bTrail, bTrailOrder, bAudit:
		return true
	default:
		return false
	}
}

// Keys of bMeta.
const (
	metaFormat   = "format"
	metaEpoch    = "epoch"
	metaSettings = "settings"
	metaTally    = "tally"
)

// tally holds the ids given out last, and how much the bounded buckets hold. It is written with each transaction that changes it.
type tally struct {
	Account, Copy, Message, Job, Trail, Audit uint64 // the last id given out
	Events, Entries, Sessions                 uint64 // what bTrail, bAudit and bSessions hold
	Grant                                     uint64 // the last grant id that is reserved: see reserveGrants
}

func (t *tally) fields() []*uint64 {
	return []*uint64{&t.Account, &t.Copy, &t.Message, &t.Job, &t.Trail, &t.Audit, &t.Events, &t.Entries, &t.Sessions, &t.Grant}
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

// bodyRef is where a body lies and what it must be.
type bodyRef struct {
	Token token
	Size  int64
	// Sum is the CRC32C of the file's trailer, which holds the checksums of the blocks.
	Sum uint32
}

// bodyRecord is the index's word on one body. Refs counts the copies (those in graves included) and the jobs that need it.
type bodyRecord struct {
	bodyRef
	Refs uint64
}

func (r bodyRecord) encode() []byte {
	var e encoder
	e.raw(r.Token[:])
	e.uvarint(uint64(r.Size))
	e.uint32(r.Sum)
	e.uvarint(r.Refs)
	return e.b
}

func decodeBody(b []byte) (bodyRecord, error) {
	var r bodyRecord
	d := decoder{b: b}
	copy(r.Token[:], d.take(uint64(len(r.Token))))
	r.Size = int64(d.uvarint())
	r.Sum = d.uint32()
	r.Refs = d.uvarint()
	return r, d.err
}

// listing is the part of a copy that a snapshot keeps.
type listing struct {
	id      store.CopyID
	message store.MessageID
	size    int64 // with the prefix
	header  int64 // with the prefix
	sec     int64
	nsec    int32
}

// copyRecord is one local copy.
type copyRecord struct {
	Message           store.MessageID
	Size, HeaderLen   int64 // with the prefix
	Received          time.Time
	Sender, Recipient mailaddr.Address
	Prefix            []byte
}

func (r copyRecord) encode() []byte {
	var e encoder
	e.b = make([]byte, 0, 128+len(r.Prefix))
	e.uint64(uint64(r.Message))
	e.uvarint(uint64(r.Size))
	e.uvarint(uint64(r.HeaderLen))
	e.time(r.Received)
	e.mailbox(r.Sender)
	e.mailbox(r.Recipient)
	e.bytes(r.Prefix)
	return e.b
}

func decodeCopy(b []byte) (copyRecord, error) {
	var r copyRecord
	d := decoder{b: b}
	r.Message = store.MessageID(d.uint64())
	r.Size = int64(d.uvarint())
	r.HeaderLen = int64(d.uvarint())
	r.Received = d.time()
	r.Sender = d.mailbox()
	r.Recipient = d.mailbox()
	r.Prefix = d.bytes()
	return r, d.err
}

// decodeListing reads the head of a copy record without allocating.
func decodeListing(key, b []byte) (listing, error) {
	d := decoder{b: b}
	l := listing{id: store.CopyID(id8(key[8:])), message: store.MessageID(d.uint64())}
	l.size = int64(d.uvarint())
	l.header = int64(d.uvarint())
	l.sec, l.nsec = d.varint(), int32(d.uvarint())
	return l, d.err
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

// searchPrefix is the part of a bTrailSearch key that all messages with the same address or Message-ID share. The length before it
// keeps one word from being taken for the beginning of another.
func searchPrefix(what string) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 10+len(what)), uint16(len(what)))
	return append(b, what...)
}

func searchKey(what string, id store.MessageID) []byte {
	return binary.BigEndian.AppendUint64(searchPrefix(what), uint64(id))
}

// statPrefix is the part of a bStats key that all figures of a day share.
func statPrefix(day store.Day) []byte { return binary.BigEndian.AppendUint32(nil, uint32(day)) }

func statKey(day store.Day, name string) []byte { return append(statPrefix(day), name...) }

// duePrefix is the part of a bDue key that all jobs of a destination share. A domain has no NUL.
func duePrefix(destination string) []byte {
	return append(append(make([]byte, 0, len(destination)+21), destination...), 0)
}

// behindDue is above all bDue keys of a destination, and not above those of any name that sorts after it.
func behindDue(destination string) []byte { return append([]byte(destination), 1) }

func dueKey(j *store.Job) []byte {
	key := append(duePrefix(j.Recipient.Domain()), timeKey(j.NextAttempt)...)
	return binary.BigEndian.AppendUint64(key, uint64(j.ID))
}

// dueOfKey reads the moment and the job of a bDue key.
func dueOfKey(key []byte) (time.Time, store.JobID) {
	key = key[len(key)-dueTail:]
	return timeOfKey(key), store.JobID(id8(key[12:]))
}

// dueTail is the length of a bDue key behind its NUL.
const dueTail = 12 + 8

func domainOfKey(key []byte) string { return string(key[:len(key)-dueTail-1]) }

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
	if d.err == nil && (!ok || !g.Network.IsValid() || g.Left < 0 || g.Left > g.Recipients) {
		d.fail()
	}
	return g, d.err
}
