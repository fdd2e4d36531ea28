package webmanager

import (
	"context"
	"errors"
	"net/http"

	"latchkey/internal/dkim"
	"latchkey/relay/signing"
)

// DKIMKeys are the domain's keys, the oldest first, each with what to do next.
type DKIMKeys struct {
	Keys []DKIMKey `json:"keys"`
}

// DKIMKey is one key.
type DKIMKey struct {
	signing.Key
	// Name is where Record is to be published.
	Name string `json:"name"`
	// Next says what happens next, or is to be done, in a sentence; Step is the step of the API that this is, "" if there is none to take.
	Next string `json:"next"`
	Step string `json:"step,omitempty"`
}

// NewDKIMKeys is the body that makes keys.
type NewDKIMKeys struct {
	// Algorithms are those wanted, "rsa" or "ed25519"; none means both.
	Algorithms []dkim.Algorithm `json:"algorithms,omitempty"`
	// Rotate makes a key although there is one of that algorithm, to take its place.
	Rotate bool `json:"rotate,omitempty"`
}

// DKIMStep is the body of a step in the life of a key. Force takes it against advice.
type DKIMStep struct {
	Force bool `json:"force,omitempty"`
}

// errNoKeys is given where no keys can be kept; whoever built the API forgot them.
var errNoKeys = errors.New("webmanager: no place for DKIM keys")

func (a *API) listDKIM(r *http.Request) (any, error) {
	if a.keys == nil {
		return nil, errNoKeys
	}
	return a.dkimKeys(r.Context(), func(signing.Key) bool { return true })
}

// dkimKeys are the keys that are wanted.
func (a *API) dkimKeys(ctx context.Context, wanted func(signing.Key) bool) (*DKIMKeys, error) {
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := a.keys.Keys(ctx)
	if err != nil {
		return nil, err
	}
	list := &DKIMKeys{Keys: []DKIMKey{}}
	for _, k := range keys {
		if wanted(k) {
			one := DKIMKey{Key: k, Name: dkim.Name(k.Selector, settings.Domain), Next: a.nextStep(k, keys)}
			if k.State == signing.Retired && !a.now().Before(k.Until()) {
				one.Step = "remove"
			}
			list.Keys = append(list.Keys, one)
		}
	}
	return list, nil
}

// timeForm is how a sentence writes a time.
const timeForm = "2006-01-02 15:04 UTC"

// nextStep is what comes next for a key, for people.
func (a *API) nextStep(k signing.Key, all []signing.Key) string {
	switch k.State {
	case signing.Signing:
		if !k.Looked.IsZero() && k.Seen.IsZero() {
			return "its record is not as it should be (" + k.Finding + "): publish it again, or mail fails"
		}
		return "in use; keep its record published"
	case signing.Retired:
		if a.now().Before(k.Until()) {
			return "signs no more; keep its record published until " + k.Until().UTC().Format(timeForm)
		}
		return "remove its record from the DNS, then the key"
	}
	if k.Seen.IsZero() {
		text := "publish its record; it signs once the record is seen"
		if k.Finding != "" {
			text += " (" + k.Finding + ")"
		}
		return text
	}
	for _, o := range all {
		if o.State == signing.Signing && o.Algorithm == k.Algorithm {
			return "its record is seen; it takes the place of " + o.Selector + " after " + k.Seen.Add(signing.Settle).UTC().Format(timeForm)
		}
	}
	return "its record is seen; it signs from the next look on"
}

func (a *API) addDKIM(r *http.Request) (any, error) {
	if a.keys == nil {
		return nil, errNoKeys
	}
	var body NewDKIMKeys
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if len(body.Algorithms) == 0 {
		body.Algorithms = []dkim.Algorithm{dkim.RSA, dkim.Ed25519}
	}
	wanted, err := a.wantedAlgorithms(r.Context(), body)
	if err != nil {
		return nil, err
	}
	made := map[string]bool{}
	for _, algorithm := range wanted {
		k, err := a.keys.Add(context.WithoutCancel(r.Context()), algorithm)
		if err != nil {
			return nil, keyRefusal(err, k.Selector)
		}
		made[k.Selector] = true
		if err := a.audit(r.Context(), "dkim.add", k.Selector, nil, k); err != nil {
			return nil, err
		}
	}
	return a.dkimKeys(r.Context(), func(k signing.Key) bool { return made[k.Selector] })
}

// wantedAlgorithms are those that a key is to be made of, or says why there is none to be made.
func (a *API) wantedAlgorithms(ctx context.Context, body NewDKIMKeys) ([]dkim.Algorithm, error) {
	keys, err := a.keys.Keys(ctx)
	if err != nil {
		return nil, err
	}
	var wanted []dkim.Algorithm
	for _, algorithm := range body.Algorithms {
		if algorithm != dkim.RSA && algorithm != dkim.Ed25519 {
			return nil, invalid(Field{Field: "algorithms", Message: "are rsa and ed25519"})
		}
		there := false
		for _, k := range keys {
			there = there || k.Algorithm == algorithm && (k.State == signing.New || k.State == signing.Signing && !body.Rotate)
		}
		if !there {
			wanted = append(wanted, algorithm)
		}
	}
	switch {
	case len(wanted) > 0:
		return wanted, nil
	case body.Rotate:
		return nil, keyRefusal(signing.ErrPending, "")
	}
	return nil, &Error{Code: CodeExists, Message: "there are keys already: new ones have to be made in their place"}
}

// checkDKIM looks for all records now.
func (a *API) checkDKIM(r *http.Request) (any, error) {
	if a.keys == nil {
		return nil, errNoKeys
	}
	if a.dns == nil {
		return nil, errNoDNS
	}
	settings, err := a.store.Settings(r.Context())
	if err != nil {
		return nil, err
	}
	began, err := a.keys.Look(r.Context(), settings.Domain, a.TXT)
	if err != nil {
		return nil, err
	}
	for _, selector := range began {
		if err := a.audit(r.Context(), "dkim.activate", selector, nil, nil); err != nil {
			return nil, err
		}
	}
	return a.dkimKeys(r.Context(), func(signing.Key) bool { return true })
}

// TXT returns the TXT records of a name.
func (a *API) TXT(ctx context.Context, name string) ([]string, error) {
	return a.dns.Records(ctx, name, "TXT")
}

// ringStep is a step in the life of a key.
type ringStep func(r *signing.Ring, ctx context.Context, selector string, force bool) error

// dkimStep is a handler for a step in the life of the key that the path names.
func (a *API) dkimStep(action string, step ringStep) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		if a.keys == nil {
			return nil, errNoKeys
		}
		var body DKIMStep
		if err := decode(r, &body); err != nil {
			return nil, err
		}
		selector := r.PathValue("selector")
		if err := step(a.keys, context.WithoutCancel(r.Context()), selector, body.Force); err != nil {
			return nil, keyRefusal(err, selector)
		}
		if err := a.audit(r.Context(), "dkim."+action, selector, nil, body); err != nil {
			return nil, err
		}
		return a.dkimKeys(r.Context(), func(signing.Key) bool { return true })
	}
}

// keyRefusal puts a refusal of the ring into words, with the cure.
func keyRefusal(err error, selector string) error {
	for _, c := range []struct {
		err  error
		code Code
		text string
	}{
		{signing.ErrUnknown, CodeNotFound, "there is no key of that selector"},
		{signing.ErrTooMany, CodeConflict, "there are as many keys as there may be: remove one that is over"},
		{signing.ErrPending, CodeConflict, "a new key waits already: publish its record, or remove it"},
		{signing.ErrState, CodeConflict, "the key is in another state: see what comes next for it"},
		{signing.ErrUnseen, CodeConflict, "the record of " + selector + " was not seen in the DNS, so that nobody could verify what it signs: " +
			"publish it, then have it looked for"},
		{signing.ErrInUse, CodeConflict, "mail would leave unsigned, or what " + selector + " signed is still on its way"},
	} {
		if errors.Is(err, c.err) {
			return &Error{Code: c.code, Message: c.text}
		}
	}
	return err
}
