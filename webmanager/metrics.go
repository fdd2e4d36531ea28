package webmanager

import (
	"net/http"

	"latchkey/internal/certs"
	"latchkey/store"
)

// Metrics are figures of the store, and how the certificates of the running server stand.
type Metrics struct {
	store.Metrics
	Certificates []certs.State `json:"certificates,omitempty"`
}

func (a *API) showMetrics(*http.Request) (any, error) {
	metered, ok := a.store.(store.Metered)
	if !ok {
		return nil, &Error{Code: CodeNotFound, Message: "this store does not measure itself"}
	}
	m := Metrics{Metrics: metered.Metrics()}
	if a.certificates != nil {
		m.Certificates = a.certificates()
	}
	return m, nil
}
