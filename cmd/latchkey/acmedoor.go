package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"latchkey/guard"
	"latchkey/internal/certs"
)

// challengeDoor is the name of the doors where the CA looks for its proof over HTTP.
const challengeDoor = "acme"

// Bounds of the door: whoever comes has one short question.
const (
	challengeTime      = 10 * time.Second
	challengeIdle      = 30 * time.Second
	maxChallengeHeader = 8 << 10
)

// challengePath begins the paths of proofs (RFC 8555 §8.3).
const challengePath = "/.well-known/acme-challenge/"

// openChallenges takes the addresses of acme.http_listen.
func (o *opener) openChallenges() error {
	if !o.config.ACME.On() {
		return nil
	}
	p := o.process
	server := &proofServer{
		challenges: o.challenges, names: o.config.ACME.CertificateNames(p.domain, p.hostname), web: p.webURL(o.config),
		listener: guard.ListenerOptions{
			Proxies: o.config.Proxies, Limits: connections(o.config), Gate: o.gate, Known: o.auth.Known, Logger: p.log,
		},
	}
	server.http = &http.Server{
		Handler: server, ReadTimeout: challengeTime, WriteTimeout: challengeTime, IdleTimeout: challengeIdle, MaxHeaderBytes: maxChallengeHeader,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	for _, address := range o.config.ACME.HTTPListen {
		listener, err := listenAt(address)
		if err != nil {
			return fmt.Errorf("acme.http_listen: %w", err)
		}
		p.doors = append(p.doors, door{name: challengeDoor, listener: listener, server: server})
	}
	return nil
}

// proofServer gives the CA its proof, and sends everybody else to HTTPS. It serves nothing else in the clear.
type proofServer struct {
	challenges *certs.Challenges
	// names are those of the certificate, web is where the pages are; "" if there are none.
	names    []string
	web      string
	listener guard.ListenerOptions
	http     *http.Server
}

// Serve answers what comes to l until Shutdown or Close.
func (s *proofServer) Serve(l net.Listener) error {
	guarded := guard.NewListener(l, s.listener)
	defer func() { _ = guarded.Close() }() // nothing is lost with what was not handed out
	return s.http.Serve(guarded)
}

// Shutdown lets running requests end until ctx does.
func (s *proofServer) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close ends everything at once; it may be called after Shutdown.
func (s *proofServer) Close() error { return s.http.Close() }

// ServeHTTP answers one request.
func (s *proofServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET, and by https", http.StatusMethodNotAllowed)
		return
	}
	if strings.HasPrefix(r.URL.Path, challengePath) {
		text, ok := s.challenges.Response(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write([]byte(text)) // the CA may have gone
		return
	}
	target, ok := s.secure(r)
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.Redirect(w, r, target, http.StatusFound)
}

// secure is where what a request wants is by HTTPS: at the name that it asked for, if that is one of the certificate's. Nobody is sent elsewhere.
func (s *proofServer) secure(r *http.Request) (target string, ok bool) {
	base, err := url.Parse(s.web)
	if err != nil || base.Scheme != "https" {
		return "", false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !slices.Contains(s.names, host) {
		host = base.Hostname()
	}
	if port := base.Port(); port != "" {
		host = net.JoinHostPort(host, port)
	}
	return (&url.URL{Scheme: "https", Host: host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}).String(), true
}
