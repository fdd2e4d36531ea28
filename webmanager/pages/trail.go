package pages

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/store"
	"latchkey/webmanager"
)

// trailPages are about what became of messages.
func (s *Server) trailPages() []pageRoute {
	return []pageRoute{
		{"GET /trail", "GET /v1/trail", (*exchange).showTrail},
		{"POST /trail/proof", "POST /v1/proofs", (*exchange).issueProof},
		{"GET /proof", open, (*exchange).showProof},
		{"GET /explain", open, (*exchange).askExplain},
		{"GET /explain/{code}", open, (*exchange).explain},
		{"GET /audit", "GET /v1/audit", (*exchange).showAudit},
	}
}

// trailLimit is how many messages one page of the trail shows.
const trailLimit = 10

// trailData is a page of the trail.
type trailData struct {
	webmanager.TrailResult
	// Asked is set once something was searched for; Query is that, Next the address of the page after.
	Asked bool
	Query url.Values
	More  string
}

// trailFields are the fields of the search.
var trailFields = []string{"for", "from", "to", "subject", "mailbox", "since", "until"}

func (x *exchange) showTrail() error {
	typed := x.r.URL.Query()
	data := trailData{Query: url.Values{}, Asked: len(typed) > 0}
	query := url.Values{"limit": {strconv.Itoa(trailLimit)}}
	for _, name := range trailFields {
		text := strings.TrimSpace(typed.Get(name))
		if text == "" {
			continue
		}
		data.Query.Set(name, text)
		if day, err := time.Parse(time.DateOnly, text); err == nil && (name == "since" || name == "until") {
			if name == "until" {
				day = day.AddDate(0, 0, 1) // that day is meant too
			}
			text = day.Format(time.RFC3339)
		}
		query.Set(name, text)
	}
	if before := typed.Get("before"); before != "" {
		query.Set("before", before)
	}
	if err := x.get(webmanager.Path("trail"), query, &data.TrailResult); err != nil {
		return x.again(err, func(x *exchange) error { return x.show("trail", x.t("trail.title"), data) })
	}
	if data.Next != "" {
		more := url.Values{"before": {data.Next}}
		for name, values := range data.Query {
			more[name] = values
		}
		data.More = "/trail?" + more.Encode()
	}
	return x.show("trail", x.t("trail.title"), data)
}

// Field is what was searched for in a field.
func (d trailData) Field(name string) string { return d.Query.Get(name) }

// step is one step of a message in plain words.
func step(l lang, e webmanager.TrailStep) string {
	to := e.Recipient.String()
	var words string
	switch e.Kind {
	case store.TrailAccepted:
		words = accepted(l, e)
	case store.TrailStored:
		words = text(l, "step.stored", to)
	case store.TrailQueued:
		words = text(l, "step.queued", to)
	case store.TrailDelivered:
		words = delivered(l, e)
	case store.TrailFetched, store.TrailDeleted:
		words = text(l, "step."+string(e.Kind), to)
		if e.Origin.Door == "local" {
			words = text(l, "step.expired", to)
		} else if e.Origin.Remote.IsValid() {
			words += text(l, "step.at", e.Origin.Remote)
		}
	case store.TrailReported:
		return text(l, "step.reported", to)
	case store.TrailDeferred, store.TrailFailed, store.TrailHeld, store.TrailReleased, store.TrailRemoved, store.TrailGivenUp, store.TrailLeftOut:
		words = text(l, "step."+string(e.Kind), to)
	default:
		words = string(e.Kind) + " " + to
	}
	if e.Text != "" && e.Kind != store.TrailAccepted {
		words += " " + text(l, "step.words", e.Text)
	}
	return words
}

// accepted says who gave a message to this server.
func accepted(l lang, e webmanager.TrailStep) string {
	if e.Origin.Door == "local" {
		return text(l, "step.made")
	}
	words := text(l, "step.accepted", e.Sender.String())
	if e.Sender.IsZero() {
		words = text(l, "step.notice")
	}
	if e.Mailbox != "" {
		words += text(l, "step.by", e.Mailbox)
	}
	if e.Device != "" {
		words += text(l, "step.device", e.Device)
	}
	if e.Origin.Remote.IsValid() {
		words += text(l, "step.at", e.Origin.Remote)
	}
	if e.Origin.TLS == "" && e.Origin.Remote.IsValid() {
		words += text(l, "step.clear")
	}
	return words
}

// delivered says which host took a message.
func delivered(l lang, e webmanager.TrailStep) string {
	words := text(l, "step.delivered", e.Recipient.String(), e.Peer.Host)
	if e.Peer.TLS == "" {
		words += text(l, "step.clear")
	}
	return words
}

// stepClass is how a step looks: good news, bad news, or neither.
func stepClass(e webmanager.TrailStep) string {
	switch e.Kind {
	case store.TrailDelivered, store.TrailStored, store.TrailFetched:
		return "done"
	case store.TrailFailed, store.TrailLeftOut, store.TrailGivenUp, store.TrailRemoved, store.TrailHeld:
		return "fault"
	}
	return ""
}

// subjectOf is the heading of a message: its sender and recipients, as its subject is not kept.
func subjectOf(l lang, m webmanager.TrailMessage) string {
	from, to := "", []string{}
	for _, e := range m.Events {
		switch {
		case e.Kind == store.TrailAccepted && e.Origin.Door == "local":
			from = text(l, "trail.system")
		case e.Kind == store.TrailAccepted:
			from = e.Sender.String()
		case !e.Recipient.IsZero() && !slices.Contains(to, e.Recipient.String()):
			to = append(to, e.Recipient.String())
		}
	}
	if from == "" {
		from = text(l, "trail.system")
	}
	const shown = 3
	if more := len(to) - shown; more > 0 {
		to = append(to[:shown], text(l, "trail.andmore", more))
	}
	return text(l, "trail.heading", from, strings.Join(to, ", "))
}

// sizeOf is the size of a message, and its Message-ID.
func sizeOf(m webmanager.TrailMessage) string {
	for _, e := range m.Events {
		if e.Kind == store.TrailAccepted {
			return strings.TrimSuffix(size(e.Size)+" · "+e.HeaderID, " · ")
		}
	}
	return ""
}

// provable reports whether a proof of delivery can be made of a step.
func provable(e webmanager.TrailStep) bool {
	return e.Kind == store.TrailDelivered || e.Kind == store.TrailStored
}

// proofData is a proof that was just made.
type proofData struct {
	webmanager.ProofToken
	URL string
}

func (x *exchange) issueProof() error {
	body := webmanager.ProofRequest{Message: x.form("message"), Recipient: x.form("recipient")}
	var data proofData
	if err := x.do(http.MethodPost, webmanager.Path("proofs"), body, &data.ProofToken); err != nil {
		return err
	}
	data.URL = x.base() + "/proof?" + url.Values{"token": {data.Token}}.Encode()
	return x.show("proofmade", x.t("proof.made"), &data)
}

// base is where others find these pages: what the configuration says, or as this browser found them.
func (x *exchange) base() string {
	if x.s.o.URL != "" {
		return strings.TrimSuffix(x.s.o.URL, "/")
	}
	scheme := "http"
	if x.s.secure(x.r) {
		scheme = "https"
	}
	return (&url.URL{Scheme: scheme, Host: x.r.Host}).String()
}

// showProof says to anybody what a proof proves.
func (x *exchange) showProof() error {
	token := x.r.URL.Query().Get("token")
	if token == "" {
		return x.show("proof", x.t("proof.title"), nil)
	}
	var proof webmanager.Proof
	if err := x.do(http.MethodPost, webmanager.Path("proofs", "check"), webmanager.ProofCheck{Token: token}, &proof); err != nil {
		return x.again(err, func(x *exchange) error { return x.show("proof", x.t("proof.title"), nil) })
	}
	return x.show("proof", x.t("proof.title"), &proof)
}

// askExplain asks which refusal, or goes to the page of the one that was typed.
func (x *exchange) askExplain() error {
	if code := strings.TrimSpace(x.r.URL.Query().Get("code")); code != "" {
		http.Redirect(x.w, x.r, "/explain/"+url.PathEscape(code), http.StatusSeeOther)
		return nil
	}
	return x.show("explain", x.t("explain.title"), (*webmanager.Explanation)(nil))
}

// explain says what a refusal means: to anybody, and when it was made lately to those whom that concerns.
func (x *exchange) explain() error {
	var e webmanager.Explanation
	if err := x.get(webmanager.Path("refusals", x.r.PathValue("code")), nil, &e); err != nil {
		return x.again(err, func(x *exchange) error {
			return x.show("explain", x.t("explain.title"), (*webmanager.Explanation)(nil))
		})
	}
	if x.lang == german && x.s.o.InGerman != nil {
		if cause, cure, ok := x.s.o.InGerman(e.Name); ok {
			e.Cause, e.Cure = cause, cure
		}
	}
	return x.show("explain", x.t("explain.of", e.Code), &e)
}
