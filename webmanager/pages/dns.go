package pages

import (
	"net/http"
	"slices"

	"latchkey/internal/dkim"
	"latchkey/internal/zone"
	"latchkey/relay/signing"
	"latchkey/webmanager"
)

// dnsPages are about what the domain publishes, and its DKIM keys.
func (s *Server) dnsPages() []pageRoute {
	return []pageRoute{
		{"GET /dns", "GET /v1/dns", (*exchange).showDNS},
		{"POST /dns/check", "GET /v1/dns/check", (*exchange).checkDNS},
		{"POST /dns/keys", "POST /v1/dkim", (*exchange).addKeys},
		{"POST /dns/keys/look", "POST /v1/dkim/check", (*exchange).lookForKeys},
		{"POST /dns/keys/step", "POST /v1/dkim/{selector}/activate", (*exchange).stepKey},
	}
}

// dnsData is the page of what the domain publishes.
type dnsData struct {
	webmanager.DNSRecords
	Keys []keyView
}

// keyView is a DKIM key with the steps that its state allows.
type keyView struct {
	webmanager.DKIMKey
	Steps []string
}

// keySteps are the steps by state, the likely one first.
var keySteps = map[signing.State][]string{
	signing.New: {"activate", "remove"}, signing.Signing: {"retire"}, signing.Retired: {"remove"},
}

func (x *exchange) showDNS() error {
	var data dnsData
	if err := x.get(webmanager.Path("dns"), nil, &data.DNSRecords); err != nil {
		return err
	}
	var keys webmanager.DKIMKeys
	if err := x.get(webmanager.Path("dkim"), nil, &keys); err != nil {
		return err
	}
	for _, k := range keys.Keys {
		data.Keys = append(data.Keys, keyView{k, keySteps[k.State]})
	}
	return x.show("dns", x.t("dns.title"), data)
}

// dnsFinding is how one record stands, with what it should be.
type dnsFinding struct {
	zone.Finding
	Wanted []string
}

// checkDNS compares what is published. It asks name servers, which may take its time, so that there is a button for it.
func (x *exchange) checkDNS() error {
	var found webmanager.DNSFindings
	if err := x.get(webmanager.Path("dns", "check"), nil, &found); err != nil {
		return x.again(err, (*exchange).showDNS)
	}
	var records webmanager.DNSRecords
	if err := x.get(webmanager.Path("dns"), nil, &records); err != nil {
		return err
	}
	list := make([]dnsFinding, 0, len(found.Findings))
	for _, f := range found.Findings {
		one := dnsFinding{Finding: f}
		for _, r := range records.Records {
			if r.Name == f.Name && r.Type == f.Type {
				one.Wanted = append(one.Wanted, r.Data)
			}
		}
		list = append(list, one)
	}
	// What must be mended comes first.
	order := []zone.State{zone.Wrong, zone.Unknown, zone.Note, zone.OK}
	slices.SortStableFunc(list, func(a, b dnsFinding) int { return slices.Index(order, a.State) - slices.Index(order, b.State) })
	return x.show("dnscheck", x.t("dns.checked"), list)
}

func (x *exchange) addKeys() error {
	body := webmanager.NewDKIMKeys{Rotate: x.form("rotate") == "yes"}
	for _, algorithm := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		if x.r.PostForm.Has(string(algorithm)) {
			body.Algorithms = append(body.Algorithms, algorithm)
		}
	}
	var made webmanager.DKIMKeys
	if err := x.do(http.MethodPost, webmanager.Path("dkim"), body, &made); err != nil {
		return x.again(err, (*exchange).showDNS)
	}
	return x.done("/dns", x.t("dns.keysmade", len(made.Keys)))
}

func (x *exchange) lookForKeys() error {
	if err := x.do(http.MethodPost, webmanager.Path("dkim", "check"), struct{}{}, nil); err != nil {
		return x.again(err, (*exchange).showDNS)
	}
	return x.done("/dns", x.t("dns.looked"))
}

// keyStep is a step that was refused, and may be forced.
type keyStep struct{ Selector, Step string }

// stepKey takes a step in the life of a key. Where the API advises against it, whoever asked is told why, and may insist.
func (x *exchange) stepKey() error {
	d := keyStep{x.form("selector"), x.form("step")}
	if !slices.Contains([]string{"activate", "retire", "remove"}, d.Step) {
		return &webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("error.form")}
	}
	body := webmanager.DKIMStep{Force: x.form("force") == "yes"}
	err := x.do(http.MethodPost, webmanager.Path("dkim", d.Selector, d.Step), body, nil)
	if isCode(err, webmanager.CodeConflict) && !body.Force {
		return x.again(err, func(x *exchange) error { return x.show("dnsforce", x.t("dns.step."+d.Step), d) })
	}
	if err != nil {
		return x.again(err, (*exchange).showDNS)
	}
	return x.done("/dns", x.t("dns.done."+d.Step, d.Selector))
}
