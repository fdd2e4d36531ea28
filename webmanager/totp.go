package webmanager

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238 §1.2: what every authenticator knows; HMAC does not need collisions to be hard
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"latchkey/store"
)

const (
	// totpStep is how long a code lasts, totpSkew how many steps a clock may be wrong (RFC 6238 §5.2), totpSize the secret's size in octets (RFC
	// 4226 §4: 160 bits are recommended).
	totpStep = 30 * time.Second
	totpSkew = 1
	totpSize = 20
	// totpTries is how many codes may be tried of one mailbox in totpWindow, right ones too.
	totpTries  = 10
	totpWindow = 15 * time.Minute
)

// TOTP says whether whoever signs in to the pages as a mailbox needs a code too.
type TOTP struct {
	On bool `json:"on"`
}

// NewTOTP is the body that asks for a secret; whoever does so knows the present password.
type NewTOTP struct {
	Current string `json:"current"`
}

// TOTPSecret is a secret for an authenticator; it counts once a code of it was shown.
type TOTPSecret struct {
	// Secret is in base 32, URI the same with the names, as authenticators take it.
	Secret string `json:"secret"`
	URI    string `json:"uri"`
}

// TOTPCode is the body that shows a code.
type TOTPCode struct {
	Code string `json:"code"`
}

// keptTOTP is a secret as the store has it.
type keptTOTP struct {
	Secret []byte `json:"secret"`
	// Confirmed is set once a code was shown; Last is the step of the last code that was right, none of which counts twice (RFC 6238 §5.2).
	Confirmed bool  `json:"confirmed"`
	Last      int64 `json:"last"`
}

// totpCode is the code of a step (RFC 6238 §4, RFC 4226 §5.3).
func totpCode(secret []byte, step int64) string {
	mac := hmac.New(sha1.New, secret)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(step))) //nolint:gosec // a time after 1970
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}

// accept reports whether a code is right at a time and was not used, and remembers that it was.
func (k *keptTOTP) accept(now time.Time, code string) bool {
	step := now.Unix() / int64(totpStep/time.Second)
	for s := max(step-totpSkew, k.Last+1); s <= step+totpSkew; s++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(k.Secret, s)), []byte(code)) == 1 {
			k.Last = s
			return true
		}
	}
	return false
}

func totpName(id store.AccountID) string { return fmt.Sprintf("web/totp/%d", id) }

// totpOf is what is kept for an account; nil for nothing.
func (a *API) totpOf(ctx context.Context, id store.AccountID) (*keptTOTP, error) {
	blob, err := a.store.Secret(ctx, totpName(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	kept := new(keptTOTP)
	if err == nil {
		err = json.Unmarshal(blob, kept)
	}
	return kept, err
}

func (a *API) putTOTP(ctx context.Context, id store.AccountID, kept *keptTOTP) error {
	blob, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return a.store.PutSecret(context.WithoutCancel(ctx), totpName(id), blob)
}

// dropTOTP forgets what is kept for an account, if there is something; on is set if it counted.
func (a *API) dropTOTP(ctx context.Context, id store.AccountID) (on bool, err error) {
	a.totp.Lock()
	defer a.totp.Unlock()
	kept, err := a.totpOf(ctx, id)
	if kept == nil && err == nil {
		return false, nil
	}
	err = a.store.RemoveSecret(context.WithoutCancel(ctx), totpName(id))
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return kept != nil && kept.Confirmed, err
}

// NeedsTOTP reports whether whoever signs in as an account needs a code too.
func (a *API) NeedsTOTP(ctx context.Context, id store.AccountID) (bool, error) {
	kept, err := a.totpOf(ctx, id)
	return kept != nil && kept.Confirmed, err
}

// CheckTOTP reports whether a code of an account is right: each counts once, and so many may be tried.
func (a *API) CheckTOTP(ctx context.Context, id store.AccountID, code string) (bool, error) {
	a.totp.Lock()
	defer a.totp.Unlock()
	kept, err := a.totpOf(ctx, id)
	if err != nil || kept == nil || !kept.Confirmed {
		return false, err
	}
	return a.tryTOTP(ctx, id, kept, code)
}

// tryTOTP needs a.totp.
func (a *API) tryTOTP(ctx context.Context, id store.AccountID, kept *keptTOTP, code string) (bool, error) {
	taken, err := a.store.Take(ctx, a.now(), totpName(id), 1, store.Limit{N: totpTries, Window: totpWindow})
	if err != nil || !taken.OK || !kept.accept(a.now(), code) {
		return false, err
	}
	return true, a.putTOTP(ctx, id, kept)
}

func (a *API) showTOTP(r *http.Request) (any, error) {
	account, _, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	on, err := a.NeedsTOTP(r.Context(), account.ID)
	return TOTP{On: on}, err
}

// ownAccount is the account of the path, which must be that of the person who asks: nobody else is to see a secret.
func (a *API) ownAccount(r *http.Request) (store.Account, string, error) {
	account, domain, err := a.pathAccount(r)
	if err == nil && actorOf(r.Context()).Account != account.ID {
		err = notAllowed()
	}
	return account, domain, err
}

func (a *API) makeTOTP(r *http.Request) (any, error) {
	account, domain, err := a.ownAccount(r)
	if err != nil {
		return nil, err
	}
	var body NewTOTP
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if err := a.proveOwn(r.Context(), account, body.Current); err != nil {
		return nil, err
	}
	a.totp.Lock()
	defer a.totp.Unlock()
	kept, err := a.totpOf(r.Context(), account.ID)
	if err != nil {
		return nil, err
	}
	if kept != nil && kept.Confirmed {
		return nil, say("codes_already_end").refusal(CodeExists)
	}
	kept = &keptTOTP{Secret: make([]byte, totpSize)}
	_, _ = rand.Read(kept.Secret) // never fails
	if err := a.putTOTP(r.Context(), account.ID, kept); err != nil {
		return nil, err
	}
	secret := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(kept.Secret)
	uri := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + domain + ":" + account.Name + "@" + domain, RawQuery: url.Values{
		"secret": {secret}, "issuer": {domain},
	}.Encode()}
	return TOTPSecret{Secret: secret, URI: uri.String()}, nil
}

// startTOTP lets a secret count from now on, of which a code is shown.
func (a *API) startTOTP(r *http.Request) (any, error) {
	account, _, err := a.ownAccount(r)
	if err != nil {
		return nil, err
	}
	var body TOTPCode
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	a.totp.Lock()
	defer a.totp.Unlock()
	kept, err := a.totpOf(r.Context(), account.ID)
	switch {
	case err != nil:
		return nil, err
	case kept == nil:
		return nil, say("no_secret").refusal(CodeNotFound)
	case kept.Confirmed:
		return nil, say("codes_already").refusal(CodeExists)
	}
	kept.Confirmed = true
	switch right, err := a.tryTOTP(r.Context(), account.ID, kept, body.Code); {
	case err != nil:
		return nil, err
	case !right:
		return nil, invalid(say("code_wrong").of("code"))
	}
	return nil, a.audit(r.Context(), "account.totp", account.Name, TOTP{false}, TOTP{true})
}

// endTOTP asks for codes no more. The owner of the domain does so for whoever lost his telephone.
func (a *API) endTOTP(r *http.Request) (any, error) {
	account, _, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	var body NewTOTP
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if err := a.proveOwn(r.Context(), account, body.Current); err != nil {
		return nil, err
	}
	on, err := a.dropTOTP(r.Context(), account.ID)
	if err != nil || !on {
		return nil, err
	}
	return nil, a.audit(r.Context(), "account.totp", account.Name, TOTP{true}, TOTP{false})
}
