package webmanager

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"latchkey/guard"
	"latchkey/internal/certs"
	"latchkey/internal/refusal"
	"latchkey/internal/relayprobe"
	"latchkey/internal/zone"
	"latchkey/relay"
	"latchkey/relay/signing"
	"latchkey/store"
)

// Bounds of requests and answers.
const (
	// MaxBodySize bounds a request's body in octets; the longest useful one is an alias with store.MaxAliasTargets addresses.
	MaxBodySize = 512 << 10
	// MaxListLimit bounds the entries of one answer, DefaultListLimit is used when none is asked for.
	MaxListLimit     = 1000
	DefaultListLimit = 100
	// maxAuditText bounds what an audit entry keeps of the state before and after, in octets.
	maxAuditText = 8 << 10
	// maxConflicts is how often a change is tried again when somebody else changed the same record in between.
	maxConflicts = 5
)

// Store is what the API needs of a store.
type Store interface {
	store.Accounts
	store.SettingsStore
	store.Audit
	store.Trail
	store.Stats
	store.Grants
	store.Clients
	store.Devices
	store.Spool
	store.Habits
	store.Suppressions
	store.Counters
	store.Secrets
	Usage(ctx context.Context, account store.AccountID) (store.Usage, error)
	DomainUsage(ctx context.Context) (store.Usage, error)
	OpenMaildrop(ctx context.Context, account store.AccountID) (store.Maildrop, error)
	Job(ctx context.Context, id store.JobID) (store.Job, error)
	ListJobs(ctx context.Context, f store.QueueFilter, after store.JobID, limit int) (jobs []store.Job, next store.JobID, err error)
	HoldJobs(ctx context.Context, reason string, ids ...store.JobID) error
	ReleaseJobs(ctx context.Context, due time.Time, ids ...store.JobID) error
	RemoveJobs(ctx context.Context, ids ...store.JobID) error
	GiveUpJobs(ctx context.Context, due time.Time, reason string, ids ...store.JobID) error
	Check(ctx context.Context) ([]store.Problem, error)
}

// Hasher makes password verifiers; *auth.Authenticator is one.
type Hasher interface {
	Hash(ctx context.Context, password string) (store.Verifier, error)
}

// Options are what an API is made of. Store and Hasher must be set.
type Options struct {
	Store  Store
	Hasher Hasher
	// Bans keeps who may not log in; nil: nobody can be asked.
	Bans Bans
	// Conduct is that of the running server; nil: there is none.
	Conduct *guard.Conduct
	// Reputation is that of the running server; nil: there is none.
	Reputation Reputation
	// SlowProviders are those to which the running server sends slowly; nil: there is no such server.
	SlowProviders func() []relay.Slow
	// Logger gets causes that no client sees; nil discards them.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// RelayProof runs the relay proof on demand; nil: it cannot be asked for.
	RelayProof func(context.Context) (relayprobe.Report, error)
	// Refusals are those that were made lately; nil: nobody remembers them.
	Refusals *refusal.Recent
	// Tally counts in the running server; nil: there is none, and the store has all daily figures.
	Tally *store.Tally
	// Keys are the domain's DKIM keys.
	Keys *signing.Ring
	// DNS is asked for what is published; nil: nobody can be asked.
	DNS zone.DNS
	// Place is where the server stands, as the configuration has it; the domain and the keys are not looked at. nil: nothing is known.
	Place func(context.Context) (zone.Place, error)
	// Policy fetches the MTA-STS policy that a domain serves; nil: nobody can.
	Policy zone.FetchPolicy
	// Certificates says how those of the running server's doors stand; nil: there is no server.
	Certificates func() []certs.State
	// Prover checks the present password of whoever changes his own; nil: nobody can.
	Prover Prover
	// WebURL is where the pages are served, without a slash at its end; nil, or an empty text: nowhere.
	WebURL func() string
	// Version and Go are told to whoever asks.
	Version, Go string
}

// API is the http.Handler. Every request needs an [Actor] in its context.
type API struct {
	store   Store
	hasher  Hasher
	bans    Bans
	log     *slog.Logger
	now     func() time.Time
	conduct *guard.Conduct
	// reputation is nil where no server runs.
	reputation Reputation
	slow       func() []relay.Slow
	// refusals and tally are Options.Refusals and Options.Tally.
	refusals *refusal.Recent
	tally    *store.Tally
	// relayProof is Options.RelayProof.
	relayProof func(context.Context) (relayprobe.Report, error)
	// keys, dns and where are Options.Keys, Options.DNS and Options.Place.
	keys  *signing.Ring
	dns   zone.DNS
	where func(context.Context) (zone.Place, error)
	// certificates and policy are Options.Certificates and Options.Policy.
	certificates func() []certs.State
	policy       zone.FetchPolicy
	// looked is what the DNS was last found to say.
	looked dnsWatch
	// prover and webURL are Options.Prover and Options.WebURL.
	prover  Prover
	webURL  func() string
	version Version
	mux     *http.ServeMux
	// table has the routes by their patterns.
	table   map[string]route
	proving sync.Mutex // lets one request at a time make the key of proofs
	// tokens lets one request at a time change the tokens; links are those that sign the operator in.
	tokens sync.Mutex
	totp   sync.Mutex // lets one request at a time look at a code and note that it was used
	links  signInLinks
	// mailboxesKept and queueKept are what the overview had to look long for; the first by when its days begin.
	mailboxesKept kept[time.Time, mailboxFacts]
	queueKept     kept[struct{}, QueueFigures]
	// passkeys lets one request at a time change those of a mailbox; ceremonies are what they are made and shown with.
	passkeys   sync.Mutex
	ceremonies *ceremonies
	// readers holds a place for each message that is read for people.
	readers chan struct{}
	// Bounds of backups, smaller in tests.
	maxManifest int64
	backupStall time.Duration
}

// New returns an API.
func New(o Options) *API {
	a := &API{
		store: o.Store, hasher: o.Hasher, bans: o.Bans, log: o.Logger, now: o.Now, version: Version{Version: o.Version, Go: o.Go}, mux: http.NewServeMux(),
		maxManifest: MaxManifestSize, backupStall: backupStall, conduct: newConduct(o), reputation: o.Reputation, slow: o.SlowProviders,
		relayProof: o.RelayProof, refusals: o.Refusals, tally: o.Tally, keys: o.Keys, dns: o.DNS, where: o.Place,
		prover: o.Prover, webURL: o.WebURL, certificates: o.Certificates, policy: o.Policy, table: map[string]route{},
		readers: make(chan struct{}, maxReaders), ceremonies: newCeremonies(),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.looked.wanted = make(chan struct{}, 1)
	for _, rt := range a.routes() {
		a.table[rt.pattern()] = rt
		a.mux.HandleFunc(rt.pattern(), a.answer(rt))
	}
	a.mux.HandleFunc("/", a.answer(route{handle: func(*http.Request) (any, error) {
		return nil, &Error{Code: CodeNotFound, Message: "there is no such path"}
	}}))
	return a
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if RefuseMethod(a.mux, w, r, func() {
		WriteRefusal(w, &Error{Code: CodeMethod, Message: "there is such a path, but not with this method"})
	}) {
		return
	}
	a.mux.ServeHTTP(w, r)
}

// answer is the only place that writes replies and logs their causes.
func (a *API) answer(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				a.log.Error("panic in the management API", "panic", p, "stack", string(debug.Stack()))
				writeJSON(w, http.StatusInternalServerError, internalError())
			}
		}()
		if rt.raw == nil {
			r.Body = http.MaxBytesReader(w, r.Body, MaxBodySize)
		}
		var result any
		r, err := a.allow(r, &rt)
		switch {
		case err != nil:
		case rt.raw != nil:
			rt.raw(w, r)
			return
		default:
			result, err = rt.handle(r)
		}
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		if result == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		writeJSON(w, http.StatusOK, result)
	}
}

// refuse writes the answer for an error.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	refusal := a.refusal(r, err)
	writeJSON(w, refusal.Code.Status(), refusal)
}

// refusal makes the answer for an error, and logs a cause that the client does not see.
func (a *API) refusal(r *http.Request, err error) *Error {
	refusal := errorFor(err)
	if refusal.Code == CodeInternal {
		a.log.Error("management request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	return refusal
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that has gone needs no answer
}

// decode reads the body: one JSON object, of known fields only.
func decode(r *http.Request, into any) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return &Error{Code: CodeMediaType, Message: "the body must be application/json"}
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	var tooLarge *http.MaxBytesError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &tooLarge):
		return say("body_large", MaxBodySize).refusal(CodeTooLarge)
	case errors.As(err, &typ) && typ.Field != "":
		return invalid(say("wrong_type").of(typ.Field))
	default:
		return &Error{Code: CodeInvalid, Message: "the body is not the JSON object that is wanted: " + jsonMistake(err)}
	}
}

// jsonMistake is the decoder's own words, which name an unknown field or the offset; they hold nothing of the server's.
func jsonMistake(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return err.Error()
}

// listLimit reads the limit of a listing.
func listLimit(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return DefaultListLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxListLimit {
		return 0, invalid(say("whole_number_to", MaxListLimit).of("limit"))
	}
	return n, nil
}

// numberParameter reads an optional whole number of the query; 0 when it is not there.
func numberParameter(r *http.Request, name string) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, invalid(say("whole_number").of(name))
	}
	return n, nil
}
