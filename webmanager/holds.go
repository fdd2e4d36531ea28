package webmanager

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// maxHolds bounds the holds of one answer.
const maxHolds = 10_000

// Hold is a network from which a mailbox's mail to other domains is put on hold.
type Hold struct {
	Mailbox string `json:"mailbox"`
	// Network is "everywhere" for a hold on all networks.
	Network string    `json:"network"`
	Reason  string    `json:"reason"`
	Since   time.Time `json:"since"`
}

// SenderReleased is the answer to a release of all mail of a mailbox.
type SenderReleased struct {
	// Networks had been on hold, and count as the mailbox's own from now on; Released is how many deliveries go on.
	Networks []string `json:"networks"`
	Released int      `json:"released"`
}

// Purge is the body that takes a mailbox back from somebody who knew its password.
type Purge struct {
	// Password is the new one.
	Password string `json:"password"`
}

// Purged says what a purge did.
type Purged struct {
	// Removed is how many deliveries were held, and are gone without a bounce; GrantsRevoked how many grants ended, DevicesRevoked how many
	// passwords of devices.
	Removed        int `json:"removed"`
	GrantsRevoked  int `json:"grants_revoked"`
	DevicesRevoked int `json:"devices_revoked"`
	// PasskeysRemoved is how many passkeys ended.
	PasskeysRemoved int `json:"passkeys_removed"`
}

func (a *API) listHolds(r *http.Request) (any, error) {
	var of store.AccountID // all
	if actor := actorOf(r.Context()); actor.Role < RoleOwner {
		own, _, err := a.ownMailbox(r.Context(), actor)
		if err != nil {
			return nil, err
		}
		of = own.ID
	}
	held, err := a.store.ListHabits(r.Context(), of, store.HabitHeld, maxHolds)
	if err != nil {
		return nil, err
	}
	holds := []Hold{}
	for _, h := range held {
		account, err := a.store.Account(r.Context(), h.Account)
		if errors.Is(err, store.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		holds = append(holds, Hold{Mailbox: account.Name, Network: h.Name, Reason: h.Text, Since: h.First})
	}
	return holds, nil
}

// eachHeld calls do with the held deliveries of a mailbox, page by page. One that left the queue meanwhile is left out, so that it holds up
// nobody.
func (a *API) eachHeld(ctx context.Context, id store.AccountID, verb queueVerb) (done []store.JobID, err error) {
	held := true
	for after := store.JobID(0); ; {
		jobs, next, err := a.store.ListJobs(ctx, store.QueueFilter{Submitter: id, Held: &held}, after, MaxActionIDs)
		if err != nil {
			return done, err
		}
		var result QueueResult
		failed := a.eachIfNotAll(ctx, verb, QueueAction{}, slices.Clone(jobs), &result)
		slices.Sort(result.Done)
		done = append(done, result.Done...)
		if err := errors.Join(failed, a.auditQueue(ctx, verb, QueueAction{}, jobs, result.Done)); err != nil || next == 0 {
			return done, err
		}
		after = next
	}
}

// releaseSender lets all mail of a mailbox go, and what it sends from the networks that were on hold.
func (a *API) releaseSender(r *http.Request) (any, error) {
	account, _, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	// Once it has begun, it goes on though nobody waits.
	ctx := context.WithoutCancel(r.Context())
	networks, err := a.conduct.Lift(ctx, account.ID)
	if err != nil {
		return nil, err
	}
	released, err := a.eachHeld(ctx, account.ID, queueVerbs()["release"])
	result := SenderReleased{Networks: append([]string{}, networks...), Released: len(released)}
	return result, errors.Join(err, a.audit(ctx, "sender.release", account.Name, nil, result))
}

// purgeAccount gives a mailbox a new password, which ends its sessions, and ends its devices, its authenticator and its passkeys, as a thief may have made them, its
// grants and what it has on hold.
func (a *API) purgeAccount(r *http.Request) (any, error) {
	var body Purge
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	account, _, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	if mistake := passwordMistake(body.Password); !mistake.none() {
		return nil, invalid(mistake.of("password"))
	}
	ctx := context.WithoutCancel(r.Context())
	if err := a.newPassword(ctx, account.ID, body.Password); err != nil {
		return nil, err
	}
	if _, err := a.dropTOTP(ctx, account.ID); err != nil {
		return nil, err
	}
	passkeys, err := a.dropPasskeys(ctx, account.ID)
	if err != nil {
		return nil, err
	}
	devices, err := a.revokeDevices(ctx, account)
	if err != nil {
		return nil, err
	}
	revoked, err := a.revokeOfMailbox(ctx, account.Name)
	if err != nil {
		return nil, err
	}
	removed, err := a.eachHeld(ctx, account.ID, queueVerbs()["remove"])
	result := Purged{Removed: len(removed), GrantsRevoked: revoked.Revoked, DevicesRevoked: devices, PasskeysRemoved: passkeys}
	if err == nil {
		err = a.conduct.Purge(ctx, account.ID)
	}
	return result, errors.Join(err, a.audit(ctx, "account.purge", account.Name, nil, result))
}

// newConduct is what a process that serves nobody has.
func newConduct(o Options) *guard.Conduct {
	if o.Conduct != nil {
		return o.Conduct
	}
	return guard.NewConduct(guard.ConductOptions{Store: o.Store, Logger: o.Logger, Now: o.Now})
}
