package webmanager

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/passkey"
	"latchkey/store"
)

const (
	// MaxPasskeys bounds those of one mailbox, MaxPasskeyName the name of one in octets.
	MaxPasskeys    = 10
	MaxPasskeyName = 60
	// handleSize is that of the name, in octets, by which authenticators know a mailbox.
	handleSize = 32
)

// Passkey is one with which the owner of a mailbox signs in to the pages.
type Passkey struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
	// Synced is set if its owner's devices share it.
	Synced  bool      `json:"synced"`
	Created time.Time `json:"created"`
	// Used is when somebody signed in with it last.
	Used time.Time `json:"used,omitzero"`
}

// PasskeyList are the passkeys of a mailbox.
type PasskeyList struct {
	Passkeys []Passkey `json:"passkeys"`
	// Origin is the address at which browsers make and show passkeys for these pages; empty: they have none at which browsers would.
	Origin string `json:"origin"`
}

// NewPasskey is the body that asks to make a passkey; whoever does so knows the present password.
type NewPasskey struct {
	Name    string `json:"name"`
	Current string `json:"current"`
}

// PasskeyOptions are what a browser makes or shows a passkey with. Ticket goes back with what it says, within CeremonyTime, once.
type PasskeyOptions struct {
	Ticket  string          `json:"ticket"`
	Options json.RawMessage `json:"options"`
}

// MadePasskey is the body with what a browser has made.
type MadePasskey struct {
	Name     string          `json:"name"`
	Ticket   string          `json:"ticket"`
	Response json.RawMessage `json:"response"`
}

// keptPasskey is a passkey as the store has it.
type keptPasskey struct {
	ID      int         `json:"id"`
	Name    string      `json:"name"`
	Created time.Time   `json:"created"`
	Used    time.Time   `json:"used,omitzero"`
	Key     passkey.Key `json:"key"`
}

func (k *keptPasskey) view() Passkey {
	return Passkey{ID: k.ID, Name: k.Name, Synced: k.Key.Synced(), Created: k.Created, Used: k.Used}
}

// keptPasskeys are those of a mailbox.
type keptPasskeys struct {
	// Handle is by what authenticators know the mailbox: random, and the same as long as the mailbox is there.
	Handle []byte        `json:"handle"`
	Last   int           `json:"last"` // the last ID that was given
	Keys   []keptPasskey `json:"keys"`
}

func passkeysName(id store.AccountID) string { return fmt.Sprintf("web/passkeys/%d", id) }

// handleName is where the account of a handle is kept.
func handleName(handle []byte) string { return "web/passkey-handle/" + passkey.Text(handle) }

// passkeysOf is what is kept for an account; no handle for nothing.
func (a *API) passkeysOf(ctx context.Context, id store.AccountID) (kept keptPasskeys, err error) {
	blob, err := a.store.Secret(ctx, passkeysName(id))
	if errors.Is(err, store.ErrNotFound) {
		return kept, nil
	}
	if err == nil {
		err = json.Unmarshal(blob, &kept)
	}
	return kept, err
}

func (a *API) putPasskeys(ctx context.Context, id store.AccountID, kept keptPasskeys) error {
	blob, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return a.store.PutSecret(context.WithoutCancel(ctx), passkeysName(id), blob)
}

// accountOf is the account of a handle, 0 for none.
func (a *API) accountOf(ctx context.Context, handle []byte) (id store.AccountID, err error) {
	if len(handle) != handleSize {
		return 0, nil
	}
	blob, err := a.store.Secret(ctx, handleName(handle))
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err == nil {
		err = json.Unmarshal(blob, &id)
	}
	return id, err
}

// handled are the passkeys of an account, which has a handle from now on.
func (a *API) handled(ctx context.Context, id store.AccountID) (keptPasskeys, error) {
	a.passkeys.Lock()
	defer a.passkeys.Unlock()
	kept, err := a.passkeysOf(ctx, id)
	if err != nil || kept.Handle != nil {
		return kept, err
	}
	kept.Handle = make([]byte, handleSize)
	_, _ = rand.Read(kept.Handle) // never fails
	// The way back first: a handle that nobody has leads nowhere, and nothing asks for it.
	blob, err := json.Marshal(id)
	if err == nil {
		err = a.store.PutSecret(context.WithoutCancel(ctx), handleName(kept.Handle), blob)
	}
	if err == nil {
		err = a.putPasskeys(ctx, id, kept)
	}
	return kept, err
}

// dropPasskeys forgets all passkeys of an account, and returns how many they were.
func (a *API) dropPasskeys(ctx context.Context, id store.AccountID) (n int, err error) {
	a.passkeys.Lock()
	defer a.passkeys.Unlock()
	kept, err := a.passkeysOf(ctx, id)
	if err != nil || kept.Handle == nil {
		return 0, err
	}
	for _, name := range []string{passkeysName(id), handleName(kept.Handle)} {
		if err := a.store.RemoveSecret(context.WithoutCancel(ctx), name); err != nil && !errors.Is(err, store.ErrNotFound) {
			return 0, err
		}
	}
	return len(kept.Keys), nil
}

// party is whom passkeys are for. ErrNoName of package passkey if the pages have no address at which browsers make any.
func (a *API) party(ctx context.Context) (passkey.Party, error) {
	settings, err := a.store.Settings(ctx)
	if err != nil || a.webURL == nil {
		return passkey.Party{}, errors.Join(err, passkey.ErrNoName)
	}
	return passkey.At(a.webURL(), settings.Domain)
}

// PasskeyOrigin is the address at which browsers make and show passkeys for the pages; "" if there is none.
func (a *API) PasskeyOrigin(ctx context.Context) (string, error) {
	party, err := a.party(ctx)
	if errors.Is(err, passkey.ErrNoName) {
		return "", nil
	}
	return party.Origin(), err
}

// owner is an account as authenticators know it.
func (k *keptPasskeys) owner(account store.Account, domain string) passkey.Owner {
	o := passkey.Owner{Handle: k.Handle, Name: account.Name + "@" + domain, Display: account.DisplayName}
	if o.Display == "" {
		o.Display = o.Name
	}
	for _, one := range k.Keys {
		o.Keys = append(o.Keys, one.Key)
	}
	return o
}

// making is what a challenge for a new passkey is good for: this mailbox, and the session in which it was asked for.
func making(ctx context.Context, account store.Account) string {
	return fmt.Sprintf("make %d %d %s", account.ID, account.CredentialVersion, actorOf(ctx).Session)
}

func (a *API) listPasskeys(r *http.Request) (any, error) {
	account, _, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	kept, err := a.passkeysOf(r.Context(), account.ID)
	if err != nil {
		return nil, err
	}
	list := PasskeyList{Passkeys: []Passkey{}}
	for _, one := range kept.Keys {
		list.Passkeys = append(list.Passkeys, one.view())
	}
	list.Origin, err = a.PasskeyOrigin(r.Context())
	return list, err
}

// mayAdd refuses a further passkey that has no room, or no name.
func (k *keptPasskeys) mayAdd(name string) error {
	if len(k.Keys) >= MaxPasskeys {
		return say("passkeys_many", MaxPasskeys).refusal(CodeInvalid)
	}
	if name == "" || len(name) > MaxPasskeyName || mailaddr.HasControl(name) || strings.TrimSpace(name) != name {
		return invalid(say("device_name", MaxPasskeyName).of("name"))
	}
	if slices.ContainsFunc(k.Keys, func(one keptPasskey) bool { return strings.EqualFold(one.Name, name) }) {
		return invalid(say("passkey_twin").of("name"))
	}
	return nil
}

// askPasskey answers what a browser is to make a passkey with, to whoever knows the password.
func (a *API) askPasskey(r *http.Request) (any, error) {
	account, domain, err := a.ownAccount(r)
	if err != nil {
		return nil, err
	}
	var body NewPasskey
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	party, err := a.party(r.Context())
	if err != nil {
		return nil, noPasskeys(err)
	}
	kept, err := a.passkeysOf(r.Context(), account.ID)
	if err == nil {
		err = kept.mayAdd(body.Name) // addPasskey asks again: others may add some meanwhile
	}
	if err == nil {
		err = a.proveOwn(r.Context(), account, body.Current)
	}
	if err == nil {
		kept, err = a.handled(r.Context(), account.ID)
	}
	if err != nil {
		return nil, err
	}
	ticket := a.ceremonies.begin(a.now())
	challenge, _ := a.ceremonies.challenge(a.now(), ticket, making(r.Context(), account)) // it is new
	options, err := party.Creation(kept.owner(account, domain), challenge, CeremonyTime)
	return PasskeyOptions{Ticket: ticket, Options: options}, err
}

// noPasskeys is the refusal where the pages have no name.
func noPasskeys(err error) error {
	if errors.Is(err, passkey.ErrNoName) {
		return say("passkey_nowhere").refusal(CodeUnavailable)
	}
	return err
}

// tooLate is the refusal of a passkey whose ticket is not good (any more).
var tooLate = say("passkey_late").refusal(CodeInvalid)

// addPasskey keeps a passkey that a browser has made.
func (a *API) addPasskey(r *http.Request) (any, error) {
	account, domain, err := a.ownAccount(r)
	if err != nil {
		return nil, err
	}
	var body MadePasskey
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	ctx := r.Context()
	party, err := a.party(ctx)
	if err != nil {
		return nil, noPasskeys(err)
	}
	challenge, ok := a.ceremonies.challenge(a.now(), body.Ticket, making(ctx, account))
	if !ok {
		return nil, tooLate
	}
	a.passkeys.Lock()
	defer a.passkeys.Unlock()
	kept, err := a.passkeysOf(ctx, account.ID)
	if err == nil && kept.Handle == nil {
		return nil, tooLate // the mailbox was purged meanwhile
	}
	if err == nil {
		err = kept.mayAdd(body.Name)
	}
	if err != nil {
		return nil, err
	}
	key, err := party.Created(kept.owner(account, domain), challenge, body.Response)
	switch {
	case errors.Is(err, passkey.ErrMalformed), errors.Is(err, passkey.ErrRefused):
		a.log.Info("a passkey was refused", "account", account.Name, "remote", actorOf(ctx).Remote.String(), "err", err)
		return nil, say("passkey_wrong").refusal(CodeInvalid)
	case err != nil:
		return nil, err
	case !a.ceremonies.spend(a.now(), body.Ticket):
		return nil, tooLate
	}
	kept.Last++
	added := keptPasskey{ID: kept.Last, Name: body.Name, Created: a.now().UTC().Truncate(time.Second), Key: key}
	kept.Keys = append(kept.Keys, added)
	if err := a.putPasskeys(ctx, account.ID, kept); err != nil {
		return nil, err
	}
	return added.view(), a.audit(ctx, "passkey.add", passkeyObject(account, added), nil, added.view())
}

func passkeyObject(account store.Account, k keptPasskey) string {
	return account.Name + " passkey " + strconv.Itoa(k.ID)
}

// removePasskey ends a passkey, by its number or its name. The owner of the domain does so for whoever lost a device.
func (a *API) removePasskey(r *http.Request) (any, error) {
	account, _, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	a.passkeys.Lock()
	defer a.passkeys.Unlock()
	kept, err := a.passkeysOf(r.Context(), account.ID)
	if err != nil {
		return nil, err
	}
	text := r.PathValue("passkey")
	i := slices.IndexFunc(kept.Keys, func(k keptPasskey) bool { return strings.EqualFold(k.Name, text) })
	if i < 0 {
		i = slices.IndexFunc(kept.Keys, func(k keptPasskey) bool { return strconv.Itoa(k.ID) == text })
	}
	if i < 0 {
		return nil, say("no_passkey", account.Name).refusal(CodeNotFound)
	}
	removed := kept.Keys[i]
	kept.Keys = slices.Delete(kept.Keys, i, i+1)
	if err := a.putPasskeys(r.Context(), account.ID, kept); err != nil {
		return nil, err
	}
	return nil, a.audit(r.Context(), "passkey.remove", passkeyObject(account, removed), removed.view(), nil)
}

// find is the passkey with the name that its authenticator gave it; nil for none.
func (k *keptPasskeys) find(id []byte) *keptPasskey {
	for i := range k.Keys {
		if bytes.Equal(k.Keys[i].Key.ID, id) {
			return &k.Keys[i]
		}
	}
	return nil
}
