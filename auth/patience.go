package auth

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"latchkey/guard"
)

// look is how a password is looked at.
type look int

const (
	// lookAnswered: not at all, the answer is there.
	lookAnswered look = iota
	// lookNow: in its turn; a wrong one is answered after a while.
	lookNow
	// lookLater: after a while, and then in its turn.
	lookLater
)

// lookFor is the look after a verdict that lets a password through.
func lookFor(v guard.Verdict) look {
	if v == guard.Slow {
		return lookLater
	}
	return lookNow
}

// asker is who waits for a turn.
func (a *Authenticator) asker(remote netip.Addr) asker {
	return asker{guard.Prefix(remote), a.Known(remote)}
}

// beforeLook waits before a password of which slow looks are to be taken, and holds no turn meanwhile.
func (a *Authenticator) beforeLook(ctx context.Context, l look, remote netip.Addr, who claimant) error {
	if l != lookLater {
		return nil
	}
	return waited(a.o.Guard.WaitSlow(ctx, remote, who.mailbox))
}

// afterGuess tells of a guess, and lets its answer wait, without a turn. Where too many wait already it is another answer, at once.
func (a *Authenticator) afterGuess(ctx context.Context, l look, remote netip.Addr, who claimant, result error) error {
	now := a.o.Now()
	if b, banned := a.o.Guard.Banned(now, remote, who.mailbox); banned {
		a.o.Logger.Info("login ban", "network", b.Network.String(), "account", who.account.Name, "reason", b.Reason, "until", b.Until, "times", b.Times)
	}
	if a.o.Guesses != nil {
		a.o.Guesses.Guessed(ctx, remote, who.mailbox)
	}
	if l == lookLater {
		return result
	}
	if err := waited(a.o.Guard.Wait(ctx, remote, a.o.Guard.Delay(now, remote, who.mailbox))); err != nil {
		return err
	}
	return result
}

// waited makes the answer for a wait that did not end in time.
func waited(err error) error {
	if errors.Is(err, guard.ErrCrowded) {
		return ErrThrottled
	}
	return err
}

// turnedAway is why a password is not looked at.
func (a *Authenticator) turnedAway(now time.Time, v guard.Verdict, remote netip.Addr, who claimant) error {
	if v != guard.Banned {
		return ErrThrottled
	}
	b, _ := a.o.Guard.Banned(now, remote, who.mailbox)
	return &Banned{Wait: max(b.Until.Sub(now), 0)}
}

// wasRight reports whether a password that is wrong now was right before the account's credential changed, as far as this process knows.
func (a *Authenticator) wasRight(now time.Time, who claimant, password string) bool {
	return who.known && a.cache.had(now, who.account.ID, who.account.CredentialVersion, password)
}

// staleDevice tells of a program whose password is out of date.
func (a *Authenticator) staleDevice(now time.Time, at Attempt, who claimant, previous bool) {
	if a.o.Devices == nil || !who.known {
		return
	}
	a.o.Devices.Seen(now, guard.StaleDevice{
		Account: who.account.ID, Mailbox: who.mailbox, Remote: at.Remote, Door: at.Service, Mechanism: at.Mechanism, Previous: previous,
	})
}
