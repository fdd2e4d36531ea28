package main

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"

	"latchkey/internal/clientsetup"
	"latchkey/internal/mtasts"
	"latchkey/webmanager/guide"
	"latchkey/webmanager/pages"
	"latchkey/webmanager/setup"
)

// helpPath is where the help guide is, beside the pages.
const helpPath = "/help"

// help is what is public beside the pages: the help guide, what mail programs ask to set themselves up, and the domain's MTA-STS policy.
type help struct {
	guide  *guide.Guide
	setup  *setup.Handler
	policy *mtasts.Policy
}

// newHelp makes it; base is where browsers find the pages, "" if that is not known.
func (o *opener) newHelp(base string) (*help, error) {
	h := &help{policy: stsPolicy(o.config, o.process.hostname)}
	options := setup.Options{Facts: o.facts, Base: base, Logger: o.process.log}
	if base != "" {
		options.Help = base + helpPath
	}
	if o.tls != nil {
		options.Certificate = func() (*tls.Certificate, error) { return o.tls.GetCertificate(nil) }
	}
	h.setup = setup.New(options)
	var err error
	h.guide, err = guide.New(guide.Options{Root: helpPath, Layout: framed, Values: o.setupOf, Example: o.exampleSetup, Logger: o.process.log})
	return h, err
}

// framed puts a page of the guide among the others.
func framed(_ http.ResponseWriter, r *http.Request, p guide.Page) {
	pages.Frame(r, pages.Framed{
		Status: p.Status, Lang: string(p.Lang), Title: p.Title, Body: p.Body, Other: p.Other, OtherLang: p.OtherLang, OtherName: p.OtherName,
	})
}

// handles reports whether a path is one of the guide's, or one that mail programs or servers ask for.
func (h *help) handles(path string) bool {
	return path == mtasts.Path || path == helpPath || strings.HasPrefix(path, helpPath+"/") || setup.Handles(path)
}

// ServeHTTP answers at a path that it handles.
func (h *help) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == mtasts.Path {
		servePolicy(w, r, h.policy)
		return
	}
	if setup.Handles(r.URL.Path) {
		h.setup.ServeHTTP(w, r)
		return
	}
	h.guide.ServeHTTP(w, r)
}

// facts are where the server stands, and what the domain's owner decided.
func (o *opener) facts(ctx context.Context) (clientsetup.Place, clientsetup.Rules, error) {
	s, err := o.store.Settings(ctx)
	if err != nil {
		return clientsetup.Place{}, clientsetup.Rules{}, err
	}
	return o.config.Place(s.Domain, o.process.hostname), clientsetup.Rules{
		RequireAuth: s.AuthRequired(o.now()), TrustedNetworks: s.TrustedNetworks, POPBeforeSMTP: s.POPBeforeSMTP, OutgoingMail: s.OutgoingMail,
		AuthOnMX: s.AuthOnMX, CleartextLogin: s.CleartextLogin, OldClientLogin: s.OldClientLogin, OldClientNetworks: s.OldClientNetworks,
		MessageSize: s.MessageSize,
	}, nil
}

// setupOf is how a mail program reaches the mailbox of whoever signed in; ok is unset for others.
func (o *opener) setupOf(r *http.Request) (clientsetup.Setup, bool) {
	actor, ok := pages.Person(r.Context())
	if !ok || actor.Account == 0 {
		return clientsetup.Setup{}, false
	}
	place, rules, err := o.facts(r.Context())
	if err != nil {
		return clientsetup.Setup{}, false
	}
	account, err := o.store.Account(r.Context(), actor.Account)
	if err != nil {
		return clientsetup.Setup{}, false
	}
	return clientsetup.New(place, rules, clientsetup.Mailbox{Address: account.Name + "@" + place.Domain, OldClientLogin: account.OldClientLogin}), true
}

// exampleSetup is that of an address which stands for anybody's.
func (o *opener) exampleSetup(ctx context.Context) (clientsetup.Setup, error) {
	place, rules, err := o.facts(ctx)
	return clientsetup.New(place, rules, clientsetup.Mailbox{Address: "you@" + place.Domain}), err
}
