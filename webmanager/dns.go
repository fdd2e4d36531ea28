package webmanager

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"latchkey/internal/zone"
	"latchkey/relay/signing"
)

// dnsTime bounds a comparison with the DNS: some thirty questions, each of which a silent name server may hold up.
const dnsTime = time.Minute

// DNSRecords is what the domain should publish.
type DNSRecords struct {
	Records []zone.Record `json:"records"`
	// Zone is the same as lines of a zone file, with comments.
	Zone string `json:"zone"`
}

// DNSFindings compare what is published with what should be.
type DNSFindings struct {
	Findings []zone.Finding `json:"findings"`
}

// errNoDNS is given where nobody can ask the DNS.
var errNoDNS = &Error{Code: CodeUnavailable, Message: "the DNS cannot be asked from here: the name servers in relay.nameservers are not usable"}

// place is where the server stands: what the configuration says, and the domain and keys of the store.
func (a *API) place(ctx context.Context) (zone.Place, error) {
	var p zone.Place
	if a.where != nil {
		var err error
		if p, err = a.where(ctx); err != nil {
			return p, err
		}
	}
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return p, err
	}
	p.Domain = settings.Domain
	if p.Hostname == "" {
		p.Hostname = p.Domain
	}
	if a.keys == nil {
		return p, nil
	}
	keys, err := a.keys.Keys(ctx)
	for _, k := range keys {
		retired := k.State == signing.Retired
		p.Keys = append(p.Keys, zone.Key{
			Selector: k.Selector, Record: k.Record, Signs: k.State == signing.Signing, Retired: retired, Over: retired && !a.now().Before(k.Until()),
		})
	}
	return p, err
}

// daneOf reads dane=true, which says that the zone is signed, so that TLSA records are wanted.
func daneOf(r *http.Request) (bool, error) {
	text := r.URL.Query().Get("dane")
	if text == "" {
		return false, nil
	}
	dane, err := strconv.ParseBool(text)
	if err != nil {
		return false, &Error{Code: CodeInvalid, Message: "dane is true or false"}
	}
	return dane, nil
}

func (a *API) showDNS(r *http.Request) (any, error) {
	p, err := a.place(r.Context())
	if err != nil {
		return nil, err
	}
	if p.DANE, err = daneOf(r); err != nil {
		return nil, err
	}
	records := zone.Wanted(p)
	return &DNSRecords{Records: records, Zone: zone.Text(p, records)}, nil
}

func (a *API) checkDNS(r *http.Request) (any, error) {
	dane, err := daneOf(r)
	if err != nil {
		return nil, err
	}
	findings, err := a.lookAtDNS(r.Context(), dane)
	if err != nil {
		return nil, err
	}
	return &DNSFindings{Findings: findings}, nil
}

// lookAtDNS compares the DNS with what should be published, TLSA records among it if dane is set, and keeps for the overview what it found without them.
func (a *API) lookAtDNS(ctx context.Context, dane bool) ([]zone.Finding, error) {
	if a.dns == nil {
		return nil, errNoDNS
	}
	p, err := a.place(ctx)
	if err != nil {
		return nil, err
	}
	p.DANE = dane
	bounded, cancel := context.WithTimeout(ctx, dnsTime)
	defer cancel()
	findings := zone.Check(bounded, p, a.dns, a.policy)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !dane {
		a.looked.keep(a.now(), findings)
	}
	return findings, nil
}
