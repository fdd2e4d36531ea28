package boltstore

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// errShortRecord is the decoder's complaint about a record that ends early, or has a field that cannot be.
var errShortRecord = fmt.Errorf("%w: a record of the index", store.ErrDamaged)

// encoder builds one record of the index. Numbers are big-endian or varints, strings have their length before them; docs/format.md
// lists the fields of each record.
type encoder struct{ b []byte }

func (e *encoder) uint8(v uint8)     { e.b = append(e.b, v) }
func (e *encoder) uint32(v uint32)   { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *encoder) uint64(v uint64)   { e.b = binary.BigEndian.AppendUint64(e.b, v) }
func (e *encoder) varint(v int64)    { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) uvarint(v uint64)  { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) string(v string)   { e.uvarint(uint64(len(v))); e.b = append(e.b, v...) }
func (e *encoder) bytes(v []byte)    { e.uvarint(uint64(len(v))); e.b = append(e.b, v...) }
func (e *encoder) raw(v []byte)      { e.b = append(e.b, v...) }
func (e *encoder) addr(v netip.Addr) { e.string(addrText(v)) }

func (e *encoder) bool(v bool) {
	if v {
		e.uint8(1)
		return
	}
	e.uint8(0)
}

// time keeps a moment to the nanosecond and without its zone; the zero time stays zero.
func (e *encoder) time(v time.Time) {
	e.varint(v.Unix())
	e.uvarint(uint64(v.Nanosecond()))
}

// mailbox keeps an address unquoted: the last @ separates, as a domain has none.
func (e *encoder) mailbox(v mailaddr.Address) {
	if v.IsZero() {
		e.string("")
		return
	}
	e.string(v.Local() + "@" + v.Domain())
}

func (e *encoder) mailboxes(list []mailaddr.Address) {
	e.uvarint(uint64(len(list)))
	for _, a := range list {
		e.mailbox(a)
	}
}

func (d *decoder) mailboxes() (list []mailaddr.Address) {
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		list = append(list, d.mailbox())
	}
	return list
}

func addrText(v netip.Addr) string {
	if !v.IsValid() {
		return ""
	}
	return v.String()
}

// decoder reads one record. The first error stays, and every read after it yields the zero value. Strings and bytes are copies, so
// nothing that is returned points into the database.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() { d.b, d.err = nil, errShortRecord }

// more reports whether the record goes on.
func (d *decoder) more() bool { return d.err == nil && len(d.b) > 0 }

func (d *decoder) take(n uint64) []byte {
	if d.err != nil || n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint8() uint8 {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uint32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 { // most are small
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bool() bool     { return d.uint8() == 1 }
func (d *decoder) string() string { return string(d.take(d.uvarint())) }

func (d *decoder) bytes() []byte {
	v := d.take(d.uvarint())
	if len(v) == 0 {
		return nil
	}
	return append([]byte(nil), v...)
}

func (d *decoder) time() time.Time {
	sec, nsec := d.varint(), d.uvarint()
	if d.err != nil || nsec >= uint64(time.Second) {
		d.fail()
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

func (d *decoder) mailbox() mailaddr.Address {
	text := d.string()
	if text == "" {
		return mailaddr.Address{}
	}
	v, err := mailaddr.FromUnquoted(text)
	if err != nil {
		d.fail()
	}
	return v
}

func (d *decoder) addr() netip.Addr {
	text := d.string()
	if text == "" {
		return netip.Addr{}
	}
	v, err := netip.ParseAddr(text)
	if err != nil {
		d.fail()
	}
	return v
}

// key8 is an id as a key: big-endian, so that keys sort like numbers.
func key8(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

// key16 is a pair of ids as a key; all keys of the same first id lie together.
func key16(a, b uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, 16), a), b)
}

func id8(key []byte) uint64 { return binary.BigEndian.Uint64(key) }

// timeKey is a moment as a key that sorts in order of time: seconds with the sign bit turned, then nanoseconds.
func timeKey(v time.Time) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 20), uint64(v.Unix())^(1<<63))
	return binary.BigEndian.AppendUint32(b, uint32(v.Nanosecond()))
}

// timeOfKey reads what timeKey made.
func timeOfKey(key []byte) time.Time {
	return time.Unix(int64(binary.BigEndian.Uint64(key)^(1<<63)), int64(binary.BigEndian.Uint32(key[8:]))).UTC()
}
