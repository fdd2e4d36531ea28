package smtp

import (
	"bytes"
	"io"
	"log/slog"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// Bounds of a message whose sender is still to fetch mail.
const (
	// maxWaitSize is in octets, as the client sends them.
	maxWaitSize = 64 << 10
	// maxWaitRecipients is how many addresses it may name.
	maxWaitRecipients = 10
)

// waiting uses an address of ours without a grant, at a door whose owner lets clients send first and fetch mail then. Nothing of it is taken
// before it has become granted: see session.await.
type waiting struct {
	// address is the reverse-path, owner the mailbox that alone owns it, 0 for none: an address that does not exist is treated alike.
	address mailaddr.Address
	owner   store.AccountID
}

func (w waiting) LogValue() slog.Value {
	return slog.StringValue(w.address.String() + ", waiting for a POP3 login")
}
func (waiting) account() store.AccountID  { return 0 }
func (waiting) mailbox() mailaddr.Address { return mailaddr.Address{} }
func (waiting) way() store.SentWay        { return "" }

// mayWait decides whether a client that has no grant may send and wait for one: its owner wants that, and a login would give one.
func mayWait(why guard.NoGrant, size int64, settings store.Settings) bool {
	if !settings.SendThenCheck || size > maxWaitSize {
		return false
	}
	switch why.Kind {
	case guard.NoGrantNever, guard.NoGrantExpired, guard.NoGrantElsewhere, guard.NoGrantRevoked, "":
		return true
	default:
		return false
	}
}

// await receives the message of a client that has no grant, and keeps the client waiting for the answer until its mailbox has logged in by
// POP3 from the same place. Then the message is like one that was sent after that login: await returns it, to be received. Otherwise the client
// is refused, and nothing was taken.
func (s *session) await(tx *transaction, who waiting, r io.Reader) (io.Reader, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxWaitSize+1))
	if err != nil {
		return nil, err
	}
	no := refuse(refusal.RelayCheckFirst).with(s.facts(tx.reversePath, tx.settings))
	if len(text) > maxWaitSize {
		return nil, no
	}
	s.wire.endTransfer()
	s.log.Info("client waits for a login", "sender", who)
	grant, ok, err := s.srv.opts.Grants.Await(s.ctx, s.place(), who.owner, who.address.String(), s.wire.present)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, no
	}
	sender, err := s.grantedAs(tx.reversePath, tx.settings)
	if err != nil {
		return nil, err
	}
	if g, is := sender.(granted); !is || g.grant.ID != grant.ID {
		return nil, no // it ended in this moment
	}
	tx.who = sender
	if err := s.becameDevice(tx); err != nil {
		return nil, err
	}
	if err := s.reserve(tx, len(tx.remotes)); err != nil {
		return nil, err
	}
	return bytes.NewReader(text), nil
}
