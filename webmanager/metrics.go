package webmanager

import (
	"net/http"

	"latchkey/store"
)

func (a *API) showMetrics(*http.Request) (any, error) {
	metered, ok := a.store.(store.Metered)
	if !ok {
		return nil, &Error{Code: CodeNotFound, Message: "this store does not measure itself"}
	}
	return metered.Metrics(), nil
}
