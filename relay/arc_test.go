package relay

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/dkim"
	"latchkey/internal/mailaddr"
	"latchkey/internal/resolver"
	"latchkey/relay/signing"
	"latchkey/store"
)

// records is the DNS for SPF: TXT alone.
type records struct{ *dns }

func (r records) Records(ctx context.Context, name, rrtype string) ([]string, error) {
	if rrtype != "TXT" {
		return nil, nil
	}
	return r.texts(ctx, name)
}

// texts is TXT, where none is no error.
func (r records) texts(ctx context.Context, name string) ([]string, error) {
	list, err := r.TXT(ctx, strings.TrimSuffix(name, "."))
	if errors.Is(err, resolver.ErrNotFound) {
		return nil, nil
	}
	return list, err
}

// seals makes the runner seal and sign, with keys of its own that are published.
func (r *rig) seals() *signing.Ring {
	r.t.Helper()
	ring := r.signs()
	r.opts.Sealer = &signing.Sealer{Ring: ring, Hostname: "mail.example.org", TXT: records{r.dns}.texts, DNS: records{r.dns}}
	keys, err := ring.Keys(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.dns.set(func() {
		for _, k := range keys {
			r.dns.txt[dkim.Name(k.Selector, "example.org")] = []string{k.Record}
		}
	})
	return ring
}

// scanOf is a message as a stranger would judge it.
func scanOf(t *testing.T, message string) *dkim.Scan {
	t.Helper()
	s := dkim.NewScan()
	if _, err := s.Write([]byte(message)); err != nil {
		t.Fatal(err)
	}
	return s
}

// stranger is a domain elsewhere that signs and seals.
type stranger struct {
	domain string
	key    dkim.Key
}

// strangersKey is the key of all of them: one takes its time.
var strangersKey = sync.OnceValues(func() (crypto.Signer, error) { return dkim.Generate(dkim.RSA) })

func (r *rig) stranger(domain string) *stranger {
	r.t.Helper()
	private, err := strangersKey()
	if err != nil {
		r.t.Fatal(err)
	}
	record, err := dkim.RecordOf(private.Public())
	if err != nil {
		r.t.Fatal(err)
	}
	r.dns.set(func() { r.dns.txt[dkim.Name("k", domain)] = []string{record} })
	return &stranger{domain, dkim.Key{Selector: "k", Private: private}}
}

func (s *stranger) sign(t *testing.T, message string) string {
	t.Helper()
	d := dkim.NewDigest()
	if _, err := d.Write([]byte(message)); err != nil {
		t.Fatal(err)
	}
	field, err := d.Sign(s.domain, time.Now(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(field) + message
}

func (s *stranger) seal(t *testing.T, message string, validation dkim.Status) string {
	t.Helper()
	set, err := scanOf(t, message).Seal(dkim.Set{
		Domain: s.domain, Key: s.key, Now: time.Now(), Validation: validation, Results: []string{"mx." + s.domain, "arc=" + string(validation)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(set) + message
}

// came is how a message of a stranger came, and who sends it on where.
type came struct {
	body string
	from string
	on   store.Onward
	utf8 bool
	tls  store.TLSDemand
}

// sendOnThis queues a stranger's message as it came in, to be sent on.
func (r *rig) sendOnThis(c came, to ...string) store.Receipt {
	r.t.Helper()
	if c.on.By.IsZero() {
		c.on = r.byAlice(false)
	}
	if c.from == "" {
		c.from = "x@far.example"
	}
	e := store.Envelope{
		ReversePath: addr(r.t, c.from), Received: time.Now(), HeaderLen: int64(strings.Index(c.body, "\r\n\r\n") + 4), UTF8: c.utf8, TLS: c.tls,
		Origin: store.Origin{Door: "mx", Remote: netip.MustParseAddr("203.0.113.7"), Hello: "mx.far.example"},
	}
	for _, a := range to {
		e.Recipients = append(e.Recipients, store.Recipient{Address: addr(r.t, a), Onward: c.on})
	}
	d, err := r.store.NewDraft(r.t.Context())
	if err == nil {
		_, err = d.Write([]byte(c.body))
	}
	if err != nil {
		r.t.Fatal(err)
	}
	receipt, err := d.Commit(r.t.Context(), e)
	if err != nil {
		r.t.Fatal(err)
	}
	return receipt
}

const strangersLetter = "Received: from mx.far.example\r\n\tby mail.example.org; Sat, 28 Nov 2026 12:00:00 +0000\r\nFrom: x@far.example\r\nSubject: hello\r\n\r\nA line.\r\n.dot\r\n"

// unfolded is a message with its header on long lines.
func unfolded(s string) string { return strings.ReplaceAll(s, "\r\n\t", " ") }

// TestSealed: what is sent on is sealed, with what is known of its way here: the first set of a chain, or the next one.
func TestSealed(t *testing.T) {
	for _, tt := range []struct {
		name string
		body func(t *testing.T, far *stranger) string
		want []string // in the newest results and seal
		end  dkim.Status
	}{
		{"plain", func(*testing.T, *stranger) string { return strangersLetter },
			[]string{"ARC-Seal: i=1;", "cv=none", `mail.example.org; dkim=none; spf=pass smtp.mailfrom=far.example; arc=none smtp.remote-ip="203.0.113.7"`}, dkim.Pass},
		{"signed", func(t *testing.T, far *stranger) string { return far.sign(t, strangersLetter) },
			[]string{"i=1; mail.example.org; dkim=pass header.d=far.example header.s=k header.a=rsa-sha256 header.b="}, dkim.Pass},
		{"signed and changed", func(t *testing.T, far *stranger) string { return far.sign(t, strangersLetter) + "more\r\n" },
			[]string{"dkim=fail (the body was changed) header.d=far.example"}, dkim.Pass},
		{"a chain", func(t *testing.T, far *stranger) string { return far.seal(t, strangersLetter, dkim.None) },
			[]string{"ARC-Seal: i=2; a=rsa-sha256; cv=pass;", "arc=pass"}, dkim.Pass},
		{"a chain of three", func(t *testing.T, far *stranger) string {
			return far.seal(t, far.seal(t, far.seal(t, strangersLetter, dkim.None), dkim.Pass), dkim.Pass)
		}, []string{"ARC-Seal: i=4; a=rsa-sha256; cv=pass;"}, dkim.Pass},
		{"a chain that broke", func(t *testing.T, far *stranger) string { return far.seal(t, strangersLetter, dkim.None) + "more\r\n" },
			[]string{"ARC-Seal: i=2; a=rsa-sha256; cv=fail;", "arc=fail"}, dkim.Fail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, r *rig) {
				r.seals()
				far := r.stranger("far.example")
				r.dns.set(func() { r.dns.txt["far.example"] = []string{"v=spf1 ip4:203.0.113.7 -all"} })
				s := r.site("remote.example", "192.0.2.1", &server{caps: []string{"SIZE"}})
				body := tt.body(t, far)
				r.sendOnThis(came{body: body}, "b@remote.example")
				r.runFor(time.Second)
				letters := s.taken()
				if len(letters) != 1 {
					t.Fatalf("%d letters\n%s", len(letters), r.logged)
				}
				data := letters[0].data
				for _, want := range tt.want {
					if !strings.Contains(unfolded(data), want) {
						t.Errorf("no %q in\n%s", want, data)
					}
				}
				if !strings.HasPrefix(data, "ARC-Seal: ") || !strings.HasSuffix(data, "\r\nDelivered-To: alice@example.org\r\n"+body) {
					t.Errorf("sent\n%s", data)
				}
				if !strings.Contains(letters[0].mail, fmt.Sprintf("SIZE=%d", len(data))) {
					t.Errorf("%s for %d octets", letters[0].mail, len(data))
				}
				if c := scanOf(t, data).Chain(context.Background(), records{r.dns}.texts); c.Status != tt.end {
					t.Errorf("the chain is %s (%v)\n%s", c.Status, c.Err, data)
				}
			})
		})
	}
}

// TestNotSealed: mail of our own users is signed instead, a report that goes back is left alone, a chain that said itself that it failed is
// left alone, and without a key, a From or a readable header mail is sent on as it came.
func TestNotSealed(t *testing.T) {
	for name, arrange := range map[string]func(t *testing.T, r *rig, far *stranger){
		"our own": func(t *testing.T, r *rig, _ *stranger) { r.queue(post{}, "b@remote.example") },
		"a report that goes back": func(t *testing.T, r *rig, _ *stranger) {
			r.queue(post{stranger: true, from: "-", body: strangersLetter}, "b@remote.example")
		},
		"failed before": func(t *testing.T, r *rig, far *stranger) {
			r.sendOnThis(came{body: far.seal(t, far.seal(t, strangersLetter, dkim.None)+"more\r\n", dkim.Fail)}, "b@remote.example")
		},
		"no From": func(t *testing.T, r *rig, _ *stranger) {
			r.sendOnThis(came{body: "Subject: x\r\n\r\nx\r\n"}, "b@remote.example")
		},
		"no header": func(t *testing.T, r *rig, _ *stranger) {
			r.sendOnThis(came{body: "nothing like one\r\n\r\nx\r\n"}, "b@remote.example")
		},
		"no RSA key": func(t *testing.T, r *rig, _ *stranger) {
			ring := r.opts.Sealer.(*signing.Sealer).Ring
			keys, err := ring.Keys(t.Context())
			if err == nil {
				err = ring.Retire(t.Context(), keys[0].Selector, true)
			}
			if err != nil || keys[0].Algorithm != dkim.RSA {
				t.Fatal(err)
			}
			r.sendOnThis(came{body: strangersLetter}, "b@remote.example")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.seals()
				far := r.stranger("far.example")
				s := r.site("remote.example", "192.0.2.1", &server{})
				arrange(t, r, far)
				r.runFor(time.Second)
				letters := s.taken()
				if len(letters) != 1 || strings.Contains(letters[0].data, "mail.example.org;\r\n\tdkim") {
					t.Errorf("letters %+v\n%s", letters, r.logged)
				}
			})
		})
	}
}

// TestSealWaitsForTheDNS: while a key of the chain cannot be looked up the message waits, but not for long: then the chain has failed, and
// the message arrives. A signature that cannot be judged keeps nothing back.
func TestSealWaitsForTheDNS(t *testing.T) {
	for _, back := range []time.Duration{8 * time.Minute, GiveUpAge} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.seals()
			far := r.stranger("far.example")
			s := r.site("remote.example", "192.0.2.1", &server{})
			away := func(err error) func() { return func() { r.dns.fails["k._domainkey.far.example"] = err } }
			r.dns.set(away(&resolver.Error{Class: resolver.ErrTemporary, Text: "no answer"}))
			r.sendOnThis(came{body: far.seal(t, strangersLetter, dkim.None)}, "b@remote.example")
			r.sendOnThis(came{body: far.sign(t, strangersLetter)}, "signed@remote.example")
			r.start()
			time.Sleep(min(back, time.Minute))
			synctest.Wait()
			if letters := s.taken(); len(letters) != 1 || !strings.Contains(unfolded(letters[0].data), "dkim=temperror (the key cannot be looked up now) header.d=far.example") {
				t.Fatalf("letters %+v", letters)
			}
			if jobs := r.jobs(); len(jobs) != 1 || !strings.Contains(jobs[0].LastText, "the DNS does not answer") {
				t.Fatalf("jobs %+v", jobs)
			}
			time.Sleep(min(back, time.Hour))
			r.dns.set(away(nil))
			time.Sleep(time.Hour)
			synctest.Wait()
			want := "cv=pass"
			if back > time.Hour {
				want = "cv=fail"
			}
			letters := s.taken()
			if len(letters) != 2 || !strings.Contains(letters[1].data, want) {
				t.Fatalf("away for %s: letters %+v, want %s\n%s", back, letters, want, r.logged)
			}
		})
	}
}

// TestSealedOnce: a message is judged when it has just come, and sent with that seal later too, when the keys of others may be gone.
func TestSealedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.seals()
		far := r.stranger("far.example")
		begin := time.Now()
		s := r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
			if strings.HasPrefix(c, "RCPT") && time.Since(begin) < 72*time.Hour {
				return "450 4.2.0 later"
			}
			return ""
		}})
		r.sendOnThis(came{body: far.seal(t, far.sign(t, strangersLetter), dkim.None)}, "b@remote.example")
		r.start()
		time.Sleep(time.Minute)
		r.dns.set(func() { delete(r.dns.txt, "k._domainkey.far.example") })
		time.Sleep(96 * time.Hour)
		synctest.Wait()
		letters := s.taken()
		if len(letters) != 1 || !strings.Contains(unfolded(letters[0].data), "dkim=pass header.d=far.example") || !strings.Contains(letters[0].data, "cv=pass") {
			t.Errorf("letters %+v\n%s", letters, r.logged)
		}
	})
}

// TestTraceIsASCII: a mailbox whose name is not ASCII sends plain mail on to a host that knows nothing else.
func TestTraceIsASCII(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.seals()
		s := r.site("remote.example", "192.0.2.1", &server{caps: []string{"SIZE"}})
		by, err := mailaddr.New("grüße", "example.org")
		if err != nil {
			t.Fatal(err)
		}
		r.sendOnThis(came{body: strangersLetter, on: store.Onward{By: by, ReversePath: addr(t, "srs0=h=tt=far.example=x@example.org")}}, "b@remote.example")
		r.runFor(time.Second)
		letters := s.taken()
		if len(letters) != 1 || !strings.Contains(letters[0].data, "\r\nDelivered-To: =?utf-8?q?gr=C3=BC=C3=9Fe?=@example.org\r\n") {
			t.Errorf("letters %+v\n%s", letters, r.logged)
		}
	})
}
