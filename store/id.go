package store

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
)

// AccountID names an account for ever: a removed and re-added name has another one. 0 names none.
type AccountID uint64

// MessageID names one accepted message, whatever the number of its recipients. 0 names none.
type MessageID uint64

// CopyID names one local copy of a message in one maildrop. 0 names none.
type CopyID uint64

// JobID names one queued delivery: one message to one remote recipient. 0 names none.
type JobID uint64

// ReservationID names room that is held for a message under way. It lives in memory: a crash voids it. 0 names none.
type ReservationID uint64

// String returns the fixed-width form that replies, logs and the command line show: 16 lower-case hex digits.
func (id MessageID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// ParseMessageID reads what [MessageID.String] writes.
func ParseMessageID(s string) (MessageID, error) {
	if len(s) != 16 {
		return 0, fmt.Errorf("%w: a message id has 16 hex digits", ErrInvalid)
	}
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil || v == 0 {
		return 0, fmt.Errorf("%w: a message id has 16 hex digits", ErrInvalid)
	}
	return MessageID(v), nil
}

// MarshalText makes message ids read the same in JSON as everywhere else.
func (id MessageID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *MessageID) UnmarshalText(text []byte) error {
	v, err := ParseMessageID(string(text))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// UniqueID returns the unique-id (RFC 1939 §7) of a copy: 24 lower-case hex digits, the store's epoch in 8 and the copy's id in 16.
// No dot, one width: Outlook 2003 mishandles other forms. The epoch is raised when a backup is restored, so an id that was given
// out after the backup was made is never given again.
func UniqueID(epoch uint32, id CopyID) string { return string(AppendUniqueID(nil, epoch, id)) }

// AppendUniqueID appends what [UniqueID] returns.
func AppendUniqueID(b []byte, epoch uint32, id CopyID) []byte {
	var raw [12]byte
	binary.BigEndian.PutUint32(raw[:], epoch)
	binary.BigEndian.PutUint64(raw[4:], uint64(id))
	return hex.AppendEncode(b, raw[:])
}
