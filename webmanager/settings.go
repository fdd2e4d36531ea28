package webmanager

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Bounds of how long authentication may be off before it is on again by itself.
const (
	MinAuthOff = time.Minute
	MaxAuthOff = 30 * 24 * time.Hour
)

// SettingsView are the settings, and what they come to now.
type SettingsView struct {
	store.Settings
	// AuthRequired is require_auth as it is in force: on again once its time has come, whether that was written down yet or not.
	AuthRequired bool `json:"auth_required"`
}

// SettingsChanged is the answer to a change.
type SettingsChanged struct {
	SettingsView
	// GrantsEnded is how many grants ended because the settings do not allow them any more.
	GrantsEnded int `json:"grants_ended,omitempty"`
}

// settingsRequest is the body of a change and of a preview, taken apart.
type settingsRequest struct {
	values map[string]json.RawMessage
	// version is that of the settings as the client knows them, 0 if it does not care.
	version uint64
	// confirm is what was typed to confirm a change that loosens or destroys.
	confirm string
	// off is how long authentication is to be off; 0 when nothing was said.
	off time.Duration
	// wrong is what was found wrong so far.
	wrong []Field
}

func (a *API) showSettings(r *http.Request) (any, error) {
	settings, err := a.store.Settings(r.Context())
	return a.viewSettings(settings), err
}

// viewSettings has lists where JSON would otherwise show null.
func (a *API) viewSettings(s store.Settings) SettingsView {
	if s.OutsideSenders == nil {
		s.OutsideSenders = []mailaddr.Address{}
	}
	if s.TrustedNetworks == nil {
		s.TrustedNetworks = []netip.Prefix{}
	}
	if s.OldClientNetworks == nil {
		s.OldClientNetworks = []netip.Prefix{}
	}
	if s.NoGrantNetworks == nil {
		s.NoGrantNetworks = []netip.Prefix{}
	}
	return SettingsView{Settings: s, AuthRequired: s.AuthRequired(a.now())}
}

// changeSettings takes an object of settings by name. Beside them it may hold version (that of the settings as they were read),
// require_auth_for (how long require_auth=false is to last, such as "2h" or "7d") and confirm, which a change that loosens or destroys needs.
func (a *API) changeSettings(r *http.Request) (any, error) {
	request, err := readSettings(r)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	stored, err := a.store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	if err := request.allowed(actorOf(ctx)); err != nil {
		return nil, err
	}
	before := settled(stored, a.now())
	wanted, err := applySettings(before, request, a.now())
	if err != nil {
		return nil, err
	}
	if err := a.confirmed(ctx, before, wanted, request.confirm); err != nil {
		return nil, err
	}
	if wanted.POPBeforeSMTP && !before.POPBeforeSMTP {
		// What a crash left when it was switched off must not count again.
		if _, err := a.revokeAll(ctx, store.GrantSwitchedOff); err != nil {
			return nil, err
		}
	}
	after, err := a.store.UpdateSettings(ctx, wanted)
	if err != nil {
		return nil, err
	}
	audited := a.audit(ctx, "settings.change", after.Domain, stored, after)
	ended, err := a.endGrants(ctx, after)
	a.notify(ctx, before, after)
	if err = errors.Join(audited, err); err != nil {
		return nil, err
	}
	return SettingsChanged{SettingsView: a.viewSettings(after), GrantsEnded: ended}, nil
}

// endGrants ends the grants that the settings do not allow, once those are durable, even if whoever changed them has gone. While POP
// before SMTP is off, the setting itself keeps grants from counting, whatever happens here.
func (a *API) endGrants(ctx context.Context, s store.Settings) (int, error) {
	ctx = context.WithoutCancel(ctx)
	var revoked GrantsRevoked
	var err error
	if s.POPBeforeSMTP {
		revoked, err = a.revokeForbidden(ctx, s)
	} else {
		revoked, err = a.revokeAll(ctx, store.GrantSwitchedOff)
	}
	if err != nil {
		a.log.Error("grants of POP before SMTP are left that the settings do not allow", "err", err)
		return revoked.Revoked, &Error{Code: errorFor(err).Code, Message: "the settings were changed, but grants of POP before SMTP are left " +
			"that they do not allow; they end when the server starts or the settings are changed again, or when all are revoked"}
	}
	return revoked.Revoked, nil
}

// readSettings takes a body apart; what is wrong in it is reported by applySettings, all at once.
func readSettings(r *http.Request) (settingsRequest, error) {
	request := settingsRequest{}
	if err := decode(r, &request.values); err != nil {
		return request, err
	}
	var wrong []Field
	take := func(name string, into any, mistake string) {
		if value, ok := request.values[name]; ok && json.Unmarshal(value, into) != nil {
			wrong = append(wrong, Field{Field: name, Message: mistake})
		}
		delete(request.values, name)
	}
	var duration string
	take("confirm", &request.confirm, "is a text")
	take("require_auth_for", &duration, "is a text such as 2h or 7d")
	take("version", &request.version, "is a whole number")
	if duration != "" {
		off, err := readDuration(duration)
		if err != nil || off < MinAuthOff || off > MaxAuthOff {
			wrong = append(wrong, Field{Field: "require_auth_for", Message: "is 1m to 30d, such as 90m, 2h or 7d"})
		}
		request.off = off
	}
	request.wrong = wrong
	return request, nil
}

// allowed refuses settings that are not the actor's to change.
func (r settingsRequest) allowed(actor Actor) error {
	if actor.Role >= RoleOperator {
		return nil
	}
	var names []string
	for _, s := range Settings() {
		if _, given := r.values[s.Name]; given && s.Operator {
			names = append(names, s.Name)
		}
	}
	if len(names) > 0 {
		return notAllowedFields(names...)
	}
	return nil
}

// SettingsBody is the body of a change of settings and of a preview: settings by name, and beside them version (that of the settings as they
// were read), require_auth_for (how long require_auth=false is to last, such as "2h" or "7d") and confirm (the domain's name).
type SettingsBody map[string]any

// readDuration is time.ParseDuration that also knows whole days.
func readDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// settled is the settings with require_auth on again if its time has come.
func settled(s store.Settings, now time.Time) store.Settings {
	if s.AuthRequired(now) {
		s.RequireAuth, s.RequireAuthAt = true, time.Time{}
	}
	return s
}

// applySettings returns the settings as they are to be, or every mistake. Each value is also judged alone, so that the store's
// sentence about it can be put beside its name.
func applySettings(before store.Settings, request settingsRequest, now time.Time) (store.Settings, error) {
	known := map[string]Setting{}
	for _, s := range Settings() {
		known[s.Name] = s
	}
	wanted := before.Clone()
	wrong := request.wrong
	for _, name := range slices.Sorted(maps.Keys(request.values)) {
		setting, ok := known[name]
		if !ok {
			wrong = append(wrong, Field{Field: name, Message: "is not a setting"})
			continue
		}
		alone := before.Clone()
		mistakes := setting.apply(&alone, request.values[name])
		if len(mistakes) == 0 {
			if err := alone.Validate(); err != nil {
				mistakes = []Field{{Field: name, Message: plain(err)}}
			}
		}
		wrong = append(wrong, mistakes...)
		setting.apply(&wanted, request.values[name])
	}
	wrong = append(wrong, request.setTimer(before, &wanted, now)...)
	slices.SortStableFunc(wrong, func(x, y Field) int { return strings.Compare(x.Field, y.Field) })
	switch {
	case len(wrong) > 0:
		return store.Settings{}, invalid(wrong...)
	case request.version != 0 && request.version != before.Version:
		return store.Settings{}, store.ErrConflict
	}
	return wanted, nil
}

// setTimer decides when authentication, if it is to be off, is on again.
func (r settingsRequest) setTimer(before store.Settings, wanted *store.Settings, now time.Time) []Field {
	_, given := r.values["require_auth_at"]
	at := wanted.RequireAuthAt
	switch {
	case r.off > 0 && given:
		return []Field{{Field: "require_auth_for", Message: "and require_auth_at exclude each other"}}
	case wanted.RequireAuth && r.off > 0:
		return []Field{{Field: "require_auth_for", Message: "is for require_auth off"}}
	case wanted.RequireAuth && given && !at.IsZero():
		return []Field{{Field: "require_auth_at", Message: "is for require_auth off"}}
	case wanted.RequireAuth:
		wanted.RequireAuthAt = time.Time{}
	case r.off > 0:
		wanted.RequireAuthAt = now.Add(r.off).UTC().Round(time.Second)
	case !at.IsZero() && !at.Equal(before.RequireAuthAt) && (at.Before(now.Add(MinAuthOff)) || at.After(now.Add(MaxAuthOff))):
		return []Field{{Field: "require_auth_at", Message: "is a minute to 30 days from now"}}
	}
	return nil
}
