package config

import (
	"reflect"
	"strings"
	"testing"
)

const directory = "https://acme.example/directory"

func TestACMEKeys(t *testing.T) {
	file := writeFile(t, strings.Join([]string{
		`data = "d"`, `[acme]`, `directory = "` + directory + `"`, `agree_terms = "on"`,
		`contact = ["Ops@Provider.Example"]`, `account_key = "/k/../account.key"`,
		`names = ["mta-sts", "Web.Example.NET"]`, `http_listen = ":80"`, `eab_key_id = "kid-1"`,
		`eab_key_file = "/k/eab"`, `ca_file = "/k/ca.pem"`, `key_number = 2`,
		`[web]`, `listen = ":443"`, `mta_sts = "enforce"`, `mta_sts_days = 365`,
	}, "\n"))
	c, err := LoadServer(Sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	want := ACME{
		Directory: directory, AgreeTerms: true, Contact: []string{"Ops@provider.example"}, AccountKey: "/account.key",
		Names: []string{"mta-sts", "web.example.net"}, HTTPListen: []string{":80"},
		EABKeyID: "kid-1", EABKeyFile: "/k/eab", CAFile: "/k/ca.pem", KeyNumber: 2,
	}
	if !reflect.DeepEqual(c.ACME, want) {
		t.Errorf("got %+v, want %+v", c.ACME, want)
	}
	if c.Web.STS != STSEnforce || c.Web.STSDays != 365 {
		t.Errorf("web: %+v", c.Web)
	}
	if !c.Place("example.com", "mail.example.com").TLS {
		t.Error("mail programs are told that there is no TLS")
	}
	got := c.ACME.CertificateNames("example.com", "mail.example.com")
	if want := []string{"mail.example.com", "mta-sts.example.com", "web.example.net"}; !reflect.DeepEqual(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
	c.ACME.Names = []string{"mail", "mail.example.com"}
	if got := c.ACME.CertificateNames("example.com", "mail.example.com"); len(got) != 1 {
		t.Errorf("a name twice: %q", got)
	}
}

// TestACMEMistakes: what is missing or does not fit is said at once, and each in words.
func TestACMEMistakes(t *testing.T) {
	usual := map[string]string{
		"data": "d", "acme.directory": directory, "acme.agree_terms": "on", "acme.account_key": "k", "acme.http_listen": ":80",
	}
	names := func(n int) string { return strings.TrimSuffix(strings.Repeat("a.example,", n), ",") }
	numbered := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = "n" + strings.Repeat("x", i) + ".example"
		}
		return strings.Join(list, ",")
	}
	for _, tt := range []struct {
		name  string
		flags map[string]string
		want  []string
	}{
		{"complete", nil, nil},
		{"by HTTPS alone", map[string]string{"acme.http_listen": "", "web.listen": ":443"}, nil},
		{"no way for the CA", map[string]string{"acme.http_listen": "", "web.listen": "127.0.0.1:8080,unix:/run/x"}, []string{
			"--acme-directory: acme.directory: acme.http_listen is missing, and web.listen has no HTTPS: " +
				"the CA must see at port 80 or 443 whether the names are yours",
		}},
		{"all at once", map[string]string{
			"acme.agree_terms": "off", "acme.account_key": "", "tls.cert": "c", "tls.key": "k", "acme.eab_key_id": "x",
		}, []string{
			"--acme-eab-key-id: acme.eab_key_id: acme.eab_key_file is missing",
			"--acme-directory: acme.directory: tls.cert and tls.key are set too; the certificate comes from one of the two",
			"--acme-agree-terms: acme.agree_terms: read the terms of service of the CA at acme.example, then set it to on",
			"--acme-directory: acme.directory: acme.account_key is missing",
		}},
		{"a binding without its name", map[string]string{"acme.eab_key_file": "f"}, []string{
			"--acme-eab-key-file: acme.eab_key_file: acme.eab_key_id is missing",
		}},
		{"no door but that of proofs", map[string]string{
			"listen.pop3": "", "listen.pop3s": "", "listen.mx": "", "listen.submission": "", "listen.smtps": "",
		}, []string{"listen: every door is off: nothing to serve"}},
		{"no directory", map[string]string{"acme.directory": "", "acme.names": "mta-sts", "tls.cert": "c", "tls.key": "k"}, []string{
			"--acme-agree-terms: acme.agree_terms: acme.directory is missing", "--acme-names: acme.names: acme.directory is missing",
			"--acme-http-listen: acme.http_listen: acme.directory is missing",
		}},
		{"two doors at one address", map[string]string{"acme.http_listen": ":25"}, []string{
			"--acme-http-listen: acme.http_listen: :25 is the address of listen.mx already",
		}},
		{"no https", map[string]string{"acme.directory": "http://acme.example/directory"}, []string{
			`--acme-directory: acme.directory: "http://acme.example/directory" is not the https:// URL of a CA's directory`,
		}},
		{"a policy that nobody serves", map[string]string{"web.mta_sts": "testing"}, []string{
			"--web-mta-sts: web.mta_sts: web.listen is missing, which would serve the policy",
		}},
		{"as many names as may be", map[string]string{"acme.names": numbered(MaxNames)}, nil},
		{"too many names", map[string]string{"acme.names": numbered(MaxNames + 1)}, []string{"--acme-names: acme.names: at most 20 of them"}},
		{"a name twice", map[string]string{"acme.names": names(2)}, []string{`--acme-names: acme.names: "a.example" is named twice`}},
		{"a wildcard", map[string]string{"acme.names": "*.example.com"}, []string{`--acme-names: acme.names: "*.example.com" is not a host name`}},
		{"no address", map[string]string{"acme.contact": "ops"}, []string{`--acme-contact: acme.contact: "ops" is not a mail address`}},
		{"days", map[string]string{"web.mta_sts_days": "366"}, []string{`--web-mta-sts-days: web.mta_sts_days: "366" is not a whole number of 1 to 365`}},
		{"no days", map[string]string{"web.mta_sts_days": "0"}, []string{`--web-mta-sts-days: web.mta_sts_days: "0" is not a whole number of 1 to 365`}},
		{"mode", map[string]string{"web.mta_sts": "on"}, []string{`--web-mta-sts: web.mta_sts: "on" is not one of off, testing, enforce, none`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			flags := map[string]string{}
			for _, set := range []map[string]string{usual, tt.flags} {
				for k, v := range set {
					flags[k] = v
				}
			}
			_, err := LoadServer(Sources{Flags: flags})
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}
