package pages

import (
	"errors"
	"net/http"
	"strings"

	"latchkey/webmanager"
)

// apiPrefix is before the paths of the JSON API. It takes tokens and no cookies, so that no page of others can call it.
const apiPrefix = "/api"

// api serves the JSON API to programs that show a token (RFC 6750 §2.1).
func (s *Server) api(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	actor, err := webmanager.Actor{}, webmanager.ErrNoToken
	if strings.EqualFold(scheme, "Bearer") {
		actor, err = s.o.API.TokenActor(r.Context(), strings.TrimSpace(token))
	}
	switch {
	case errors.Is(err, webmanager.ErrNoToken):
		w.Header().Set("WWW-Authenticate", `Bearer realm="latchkey"`)
		webmanager.WriteRefusal(w, &webmanager.Error{Code: webmanager.CodeNoToken, Message: "a token is needed: Authorization: Bearer lkt_..."})
		return
	case err != nil:
		s.log.Error("a token could not be looked at", "err", err)
		webmanager.WriteRefusal(w, &webmanager.Error{Code: webmanager.CodeInternal, Message: "something failed inside; the server's log has the cause"})
		return
	}
	actor.Remote = remote(r)
	inner := r.Clone(webmanager.WithActor(r.Context(), actor))
	inner.URL.Path = strings.TrimPrefix(r.URL.Path, apiPrefix)
	inner.URL.RawPath = strings.TrimPrefix(r.URL.RawPath, apiPrefix)
	s.o.API.ServeHTTP(w, inner)
}

// describe serves the description of the JSON API.
func (s *Server) describe(w http.ResponseWriter, _ *http.Request) {
	text, err := s.openAPI()
	if err != nil {
		s.log.Error("the API cannot be described", "err", err)
		webmanager.WriteRefusal(w, &webmanager.Error{Code: webmanager.CodeInternal, Message: "something failed inside; the server's log has the cause"})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // a client that has gone needs no answer
}
