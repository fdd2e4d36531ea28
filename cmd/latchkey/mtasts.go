package main

import (
	"net/http"
	"time"

	"latchkey/config"
	"latchkey/internal/mtasts"
)

// stsPolicy is the MTA-STS policy that the configuration has the pages serve: mail for the domain comes to this host, as its MX record says. nil:
// none is served.
func stsPolicy(c config.Config, hostname string) *mtasts.Policy {
	modes := map[config.STSMode]mtasts.Mode{
		config.STSTesting: mtasts.Testing, config.STSEnforce: mtasts.Enforce, config.STSNone: mtasts.None,
	}
	mode, ok := modes[c.Web.STS]
	if !ok {
		return nil
	}
	return &mtasts.Policy{Mode: mode, MX: []string{hostname}, MaxAge: time.Duration(c.Web.STSDays) * 24 * time.Hour}
}

// servePolicy answers at mtasts.Path (RFC 8461 §3.3), with the media type of RFC 8461 §3.2.
func servePolicy(w http.ResponseWriter, r *http.Request, p *mtasts.Policy) {
	switch {
	case p == nil:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(p.Text())) // whoever asked may have gone
}
