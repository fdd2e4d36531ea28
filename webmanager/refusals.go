package webmanager

import (
	"net/http"
	"net/netip"

	"latchkey/internal/refusal"
)

// Explanation says what a refusal means, and when it was made lately.
type Explanation struct {
	Name  refusal.Name `json:"name"`
	Code  string       `json:"code"`
	SMTP  string       `json:"smtp,omitempty"`
	POP3  string       `json:"pop3,omitempty"`
	Cause string       `json:"cause"`
	Cure  string       `json:"cure"`
	// Events are the last ones, the newest first, at most refusal.MaxRecent; they are forgotten when the server ends.
	Events []refusal.Event `json:"events"`
}

// explainRefusal explains the refusal of a code or a name; the query may name an address, of which alone the events are wanted.
func (a *API) explainRefusal(r *http.Request) (any, error) {
	row, ok := refusal.Find(r.PathValue("code"))
	if !ok {
		return nil, &Error{Code: CodeNotFound, Message: "there is no refusal of that code or name; docs/refusals.md lists them"}
	}
	var remote netip.Addr
	if text := r.URL.Query().Get("address"); text != "" {
		var err error
		if remote, err = netip.ParseAddr(text); err != nil {
			return nil, invalid(Field{"address", "is an IP address"})
		}
		remote = remote.Unmap().WithZone("")
	}
	e := Explanation{Name: row.Name, Code: row.Name.Code(), Cause: row.Cause, Cure: row.Cure, Events: a.refusals.List(row.Name, remote)}
	if e.Events == nil {
		e.Events = []refusal.Event{}
	}
	e.SMTP, e.POP3 = row.Replies()
	return e, nil
}
