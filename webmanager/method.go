package webmanager

import (
	"net/http"
	"strings"
)

// RefuseMethod answers with 405 and Allow (RFC 9110 §15.5.6) where the path of a request is known, but not with its method, and reports whether it did:
// refuse writes what is left of the answer. A mux whose pattern "/" has all that is not known cannot see to that itself.
func RefuseMethod(mux *http.ServeMux, w http.ResponseWriter, r *http.Request, refuse func()) bool {
	if _, pattern := mux.Handler(r); pattern != "/" || r.URL.Path == "/" {
		return false
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := mux.Handler(&other); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		return false
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	refuse()
	return true
}
