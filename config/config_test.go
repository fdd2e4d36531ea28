package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "latchkey.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func TestDefaults(t *testing.T) {
	c, err := Load(Sources{Flags: map[string]string{"data": "d"}})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Data: "d",
		Listen: Listen{
			POP3: []string{":110"}, POP3S: []string{":995"}, MX: []string{":25"}, Submission: []string{":587"}, SMTPS: []string{":465"},
			Sniff: []string{"pop3", "mx", "submission", "old_pop3", "old_submission"},
		},
		ACME:       ACME{KeyNumber: 1},
		Web:        Web{STS: STSOff, STSDays: 14},
		Log:        Log{Level: "info", Format: "text"},
		Limits:     Limits{Connections: 2000, ConnectionsPerAddress: 50, MessagesPerMailbox: 600},
		Relay:      Relay{SmarthostTLS: SmarthostVerify, DNSSEC: DNSSECLoopback, TLSReports: true, Port: 25, Connections: 200, ConnectionsPerHost: 20},
		Reputation: Reputation{Lists: []string{"zen.spamhaus.org", "bl.spamcop.net", "psbl.surriel.com"}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

func TestPrecedence(t *testing.T) {
	file := writeFile(t, "data = 'file'\nhostname = 'file.example'\n[log]\nlevel = 'warn'\n[limits]\nconnections = 7\n")
	vars := map[string]string{"LATCHKEY_DATA": "env", "LATCHKEY_HOSTNAME": "env.example", "LATCHKEY_LISTEN_POP3S": ""}
	c, err := Load(Sources{File: file, LookupEnv: env(vars), Flags: map[string]string{"data": "flag"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, got, want string }{
		{"flag over environment", c.Data, "flag"},
		{"environment over file", c.Hostname, "env.example"},
		{"file over default", c.Log.Level, "warn"},
		{"file's number", fmt.Sprint(c.Limits.Connections), "7"},
		{"default", c.Log.Format, "text"},
		{"empty switches off", fmt.Sprint(c.Listen.POP3S), "[]"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, tt.got, tt.want)
		}
	}
}

func TestEveryMistakeAtOnce(t *testing.T) {
	file := writeFile(t, strings.Join([]string{
		/*  1 */ `data = "/var/lib/latchkey/x"`,
		/*  2 */ `hostnam = "mail.example.com"`,
		/*  3 */ `data = "again"`,
		/*  4 */ `hostname = "-bad-"`,
		/*  5 */ `pop3 = ":110"`,
		/*  6 */ `this is no TOML`,
		/*  7 */ `[listen]`,
		/*  8 */ `pop3 = 110`,
		/*  9 */ `pop3s = ["127.0.0.1:995", 7]`,
		/* 10 */ `mx = "mail.example.com:25"`,
		/* 11 */ `submission = "127.0.0.1"`,
		/* 12 */ `smtps = "127.0.0.1:66000"`,
		/* 13 */ `[limits]`,
		/* 14 */ `connections = "many"`,
		/* 15 */ `connections_per_address = 0`,
		/* 16 */ `[log]`,
		/* 17 */ `level = "loud"`,
		/* 18 */ `format = "text`,
		/* 19 */ `[relay]`,
		/* 20 */ `smarthost = "x"`,
		/* 21 */ `[tls]`,
		/* 22 */ `cert = "c.pem"`,
	}, "\n"))
	_, err := LoadServer(Sources{
		File: file, LookupEnv: env(map[string]string{"LATCHKEY_LOG_FORMAT": "xml"}),
		Flags: map[string]string{"limits.connections": "-1"},
	})
	var mistakes Mistakes
	if !errors.As(err, &mistakes) {
		t.Fatalf("got %v, want Mistakes", err)
	}
	want := []string{
		":2: unknown key hostnam; did you mean hostname?",
		":3: key data is already defined",
		":4: hostname: \"-bad-\" is not a host name",
		":5: unknown key pop3; it belongs under [listen]",
		":6: ",
		":8: listen.pop3: must be a text in quotes, or a list of them",
		":9: listen.pop3s: must be a list of texts in quotes, none of them empty",
		":10: listen.mx: \"mail.example.com:25\": the host is an IP address, localhost, or empty for all",
		":11: listen.submission: \"127.0.0.1\" is not host:port (an IPv6 host stands in brackets)",
		":12: listen.smtps: \"127.0.0.1:66000\": the port is a number of 0 to 65535",
		":14: limits.connections: must be a whole number, without quotes",
		":15: limits.connections_per_address: \"0\" is not a whole number of 1 to 100000",
		":17: log.level: \"loud\" is not one of debug, info, warn, error",
		":18: ",
		":20: relay.smarthost: \"x\" is not host:port (an IPv6 host stands in brackets)",
		"LATCHKEY_LOG_FORMAT: log.format: \"xml\" is not one of text, json",
		"--limits-connections: limits.connections: \"-1\" is not a whole number of 1 to 100000",
		":22: tls.cert: tls.key is missing",
	}
	got := strings.Split(strings.ReplaceAll(err.Error(), file, ""), "\n")
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing %q", want[i])
		case i >= len(want):
			t.Errorf("unexpected %q", got[i])
		case !strings.HasPrefix(got[i], want[i]):
			t.Errorf("mistake %d: got %q, want %q", i, got[i], want[i])
		}
	}
}

func TestFileForms(t *testing.T) {
	tests := []struct {
		name, file string
		want       func(Config) bool
		mistake    string
	}{
		{"list", "[listen]\npop3 = ['127.0.0.1:110', '[::1]:110']", func(c Config) bool { return len(c.Listen.POP3) == 2 }, ""},
		{"commas", "listen.pop3 = '127.0.0.1:110, [::1]:110'", func(c Config) bool { return len(c.Listen.POP3) == 2 }, ""},
		{"inline table", "listen = { pop3 = '' }", func(c Config) bool { return len(c.Listen.POP3) == 0 }, ""},
		{"empty list is off", "[listen]\npop3 = []", func(c Config) bool { return len(c.Listen.POP3) == 0 }, ""},
		{"localhost", "[listen]\nmx = 'localhost:25'", func(c Config) bool { return c.Listen.MX[0] == "localhost:25" }, ""},
		{"sniff, a list", "[listen]\nsniff = ['mx', 'old_pop3']", func(c Config) bool {
			return c.Listen.Sniffs("mx") && c.Listen.Sniffs("old_pop3") && !c.Listen.Sniffs("pop3")
		}, ""},
		{"sniff, commas", "listen.sniff = 'mx, pop3'", func(c Config) bool { return c.Listen.Sniffs("pop3") && len(c.Listen.Sniff) == 2 }, ""},
		{"sniff, off", "listen.sniff = ''", func(c Config) bool { return len(c.Listen.Sniff) == 0 }, ""},
		{"sniff, a door with TLS", "listen.sniff = ['pop3s']", nil, ":1: listen.sniff: \"pop3s\" is not one of pop3, mx, submission, old_pop3, old_submission"},
		{"sniff, twice", "listen.sniff = 'mx,mx'", nil, ":1: listen.sniff: \"mx\" is named twice"},
		{"sniff, a number", "listen.sniff = 1", nil, ":1: listen.sniff: must be a text in quotes, or a list of them"},
		{"old clients", "[listen]\nold_pop3 = ':1110'\nold_pop3s = ':1995'\nold_submission = ':1587'\nold_smtps = ':1465'", func(c Config) bool {
			l := c.Listen
			return l.OldPOP3[0] == ":1110" && l.OldPOP3S[0] == ":1995" && l.OldSubmission[0] == ":1587" && l.OldSMTPS[0] == ":1465"
		}, ""},
		{"empty file", "", func(c Config) bool { return c.Log.Level == "info" }, ""},
		{"no final line end", "hostname = 'a.example'", func(c Config) bool { return c.Hostname == "a.example" }, ""},
		{"CRLF", "hostname = 'a.example'\r\n[log]\r\nlevel = 'debug'\r\n", func(c Config) bool { return c.Log.Level == "debug" }, ""},
		{"IDN", "hostname = 'bücher.example'", func(c Config) bool { return c.Hostname == "xn--bcher-kva.example" }, ""},
		{"address named twice", "[listen]\nmx = ':25,:25'", nil, ":2: listen.mx: \":25\" is named twice"},
		{"table for text", "hostname = { a = 1 }", nil, ":1: hostname: must be a text in quotes"},
		{"text for table", "listen = 'x'", nil, ":1: "},
		{"table twice", "[log]\n[log]\n", nil, ":2: "},
		{"array of tables", "[[listen]]\nmx = ''\n", nil, ":1: "},
		{"control character", "data = \"a\\u0007b\"", nil, ":1: data: a path has no control characters"},
		{"bad UTF-8", "hostname = '\xff'", nil, ":1: "},
		{"literal as host name", "hostname = '[192.0.2.1]'", nil, ":1: hostname: "},
		{"key in a known table", "[log]\nlevell = 'info'", nil, ":2: unknown key log.levell; did you mean log.level?"},
		{"text not closed at the end", "hostname = 'a", nil, ":1: "},
		{"date", "hostname = 2026-01-01", nil, ":1: hostname: must be a text in quotes"},
		{"float", "limits.connections = 1.5", nil, ":1: limits.connections: must be a whole number, without quotes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := writeFile(t, tt.file)
			c, err := Load(Sources{File: file, Flags: map[string]string{"data": "d"}})
			if tt.want != nil {
				if err != nil || !tt.want(c) {
					t.Fatalf("got %+v, %v", c, err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(strings.ReplaceAll(err.Error(), file, ""), tt.mistake) {
				t.Fatalf("got %v, want %s", err, tt.mistake)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	ports := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("127.0.0.1:%d", 1000+i)
		}
		return strings.Join(list, ",")
	}
	for _, k := range []struct {
		key, value string
		ok         bool
	}{
		{"limits.connections", "0", false}, {"limits.connections", "1", true},
		{"limits.connections", "99999", true}, {"limits.connections", "100000", true}, {"limits.connections", "100001", false},
		{"limits.messages_per_mailbox", "0", false}, {"limits.messages_per_mailbox", "1", true},
		{"limits.messages_per_mailbox", "100000", true}, {"limits.messages_per_mailbox", "100001", false},
		{"limits.connections_per_address", "0", false}, {"limits.connections_per_address", "1", true},
		{"limits.connections_per_address", "100000", true}, {"limits.connections_per_address", "100001", false},
		{"limits.connections", "1e3", false}, {"limits.connections", "", false},
		{"listen.mx", ports(MaxAddresses - 1), true}, {"listen.mx", ports(MaxAddresses), true}, {"listen.mx", ports(MaxAddresses + 1), false},
		{"listen.mx", "127.0.0.1:65535", true}, {"listen.mx", "127.0.0.1:65536", false}, {"listen.mx", "127.0.0.1:-1", false},
		{"web.url", "", true}, {"web.url", "https://mail.example.com", true}, {"web.url", "http://[::1]:8080/", true},
		{"web.url", "mail.example.com", false}, {"web.url", "ftp://mail.example.com", false}, {"web.url", "https://u:p@mail.example.com", false},
		{"web.url", "https://mail.example.com/path", false}, {"web.url", "https://mail.example.com?x", false}, {"web.url", "https://a\nb", false},
		{"web.url", "https://" + long(maxWebURL-8), true}, {"web.url", "https://" + long(maxWebURL-7), false},
		{"tls.cert", long(maxPath - 1), true}, {"tls.cert", long(maxPath), true}, {"tls.cert", long(maxPath + 1), false},
	} {
		_, err := Load(Sources{Flags: map[string]string{"data": "d", k.key: k.value}})
		if (err == nil) != k.ok {
			t.Errorf("%s of %d octets %.30q: got %v, want ok %v", k.key, len(k.value), k.value, err, k.ok)
		}
	}
	for _, size := range []int{MaxFileSize - 1, MaxFileSize, MaxFileSize + 1} {
		_, err := Load(Sources{File: writeFile(t, "#"+long(size-1)), Flags: map[string]string{"data": "d"}})
		if (err == nil) != (size <= MaxFileSize) {
			t.Errorf("file of %d octets: got %v", size, err)
		}
	}
	for _, n := range []int{maxSyntaxMistakes - 1, maxSyntaxMistakes, maxSyntaxMistakes + 1} {
		_, err := Load(Sources{File: writeFile(t, strings.Repeat("bad line\n", n)), Flags: map[string]string{"data": "d"}})
		if got := strings.Count(err.Error(), "\n") + 1; got != min(n, maxSyntaxMistakes) {
			t.Errorf("%d bad lines: %d reported", n, got)
		}
	}
}

func TestServerFits(t *testing.T) {
	tests := []struct {
		name  string
		flags map[string]string
		want  []string
	}{
		{"complete", map[string]string{"tls.cert": "c", "tls.key": "k"}, nil},
		{"no certificate", nil, []string{
			`listen.pop3s: needs tls.cert and tls.key, or acme.directory; or set it to "" to switch it off`,
			`listen.submission: needs tls.cert and tls.key, or acme.directory; or set it to "" to switch it off`,
			`listen.smtps: needs tls.cert and tls.key, or acme.directory; or set it to "" to switch it off`,
		}},
		{"clear doors need none", map[string]string{"listen.pop3s": "", "listen.submission": "", "listen.smtps": ""}, nil},
		{"key alone", map[string]string{"tls.key": "k"}, []string{"--tls-key: tls.key: tls.cert is missing"}},
		{"one address twice", map[string]string{"tls.cert": "c", "tls.key": "k", "listen.pop3": ":25"}, []string{
			"listen.mx: :25 is the address of listen.pop3 already",
		}},
		{"any port twice", map[string]string{"tls.cert": "c", "tls.key": "k", "listen.pop3": "127.0.0.1:0", "listen.mx": "127.0.0.1:0"}, nil},
		{"old doors", map[string]string{
			"listen.pop3s": "", "listen.submission": "", "listen.smtps": "",
			"listen.old_pop3": ":1", "listen.old_pop3s": ":2", "listen.old_submission": ":3", "listen.old_smtps": ":4",
		}, []string{
			`--listen-old-pop3s: listen.old_pop3s: needs tls.cert and tls.key, or acme.directory; or set it to "" to switch it off`,
			`--listen-old-smtps: listen.old_smtps: needs tls.cert and tls.key, or acme.directory; or set it to "" to switch it off`,
		}},
		{"an old door at a usual one's address", map[string]string{"tls.cert": "c", "tls.key": "k", "listen.old_submission": ":587"}, []string{
			"--listen-old-submission: listen.old_submission: :587 is the address of listen.submission already",
		}},
		{"pages on this host need none", map[string]string{
			"listen.pop3s": "", "listen.submission": "", "listen.smtps": "", "web.listen": "127.0.0.1:80,[::1]:80,localhost:81,unix:/run/x.sock",
		}, nil},
		{"pages elsewhere", map[string]string{
			"listen.pop3s": "", "listen.submission": "", "listen.smtps": "", "web.listen": "127.0.0.1:80,192.0.2.1:443",
		}, []string{`--web-listen: web.listen: needs tls.cert and tls.key, or acme.directory; or set it to "" to switch it off`}},
		{"pages everywhere", map[string]string{
			"listen.pop3s": "", "listen.submission": "", "listen.smtps": "", "web.listen": ":80",
		}, []string{`--web-listen: web.listen: needs tls.cert and tls.key, or acme.directory; or set it to "" to switch it off`}},
		{"all off", map[string]string{"listen.pop3": "", "listen.pop3s": "", "listen.mx": "", "listen.submission": "", "listen.smtps": ""}, []string{
			"listen: every door is off: nothing to serve",
		}},
		{"no data", map[string]string{"data": "", "tls.cert": "c", "tls.key": "k"}, []string{
			"data: no data directory: give --data, LATCHKEY_DATA, or data in the file",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flags := map[string]string{"data": "d"}
			for k, v := range tt.flags {
				flags[k] = v
			}
			_, err := LoadServer(Sources{Flags: flags})
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	_, err := Load(Sources{File: filepath.Join(t.TempDir(), "none.toml"), Flags: map[string]string{"data": "d"}})
	if err == nil || !strings.Contains(err.Error(), "none.toml: cannot be read: no such file") {
		t.Errorf("got %v", err)
	}
}

// TestOutlineHasEveryTable: a key in a table that the outline lacks could never be set from a file.
func TestOutlineHasEveryTable(t *testing.T) {
	for _, k := range Keys() {
		value := "'x'"
		if k.kind == number {
			value = "1"
		}
		entries, values, mistakes := parse([]byte(k.Name + " = " + value))
		if len(entries) != 1 || entries[0].name != k.Name || lookup(values, k.Name) == nil || mistakes != nil {
			t.Errorf("%s: got %v, %v, %v", k.Name, entries, values, mistakes)
		}
	}
}

func TestDocumentIsUpToDate(t *testing.T) {
	path := filepath.Join("..", "docs", "configuration.md")
	if *update {
		if err := os.WriteFile(path, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != Markdown() {
		t.Errorf("docs/configuration.md is not what the table says (%v); run go generate ./config", err)
	}
	example := strings.SplitN(strings.SplitN(Markdown(), "```toml\n", 2)[1], "```", 2)[0]
	if _, err := LoadServer(Sources{File: writeFile(t, example)}); err != nil {
		t.Errorf("the example of docs/configuration.md: %v", err)
	}
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{"", "data = 'x'", "[listen]\npop3 = [1]", "bad", "a = '''\nb", "x = {", "listen = 1", "[[tls]]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		entries, _, mistakes := parse([]byte(content))
		lines := strings.Count(content, "\n") + 1
		for _, e := range entries {
			if e.line < 1 || e.line > lines {
				t.Fatalf("%s at line %d of %d", e.name, e.line, lines)
			}
		}
		if len(mistakes) > maxSyntaxMistakes+1 {
			t.Fatalf("%d mistakes", len(mistakes))
		}
	})
}
