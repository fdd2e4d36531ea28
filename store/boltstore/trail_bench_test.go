package boltstore

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"latchkey/store"
)

// traffic makes events as a domain of 500 mailboxes sees them: people at large providers and small hosts, newsletters whose reverse-path is
// another one for each message, mail between mailboxes. Message-IDs have the forms, and so the randomness, of the programs that make them.
type traffic struct {
	rng  *rand.Rand
	now  time.Time
	next store.MessageID
}

func newTraffic() *traffic {
	return &traffic{rng: rand.New(rand.NewPCG(1, 2)), now: time.Now().Add(-time.Hour).UTC()}
}

// zipf prefers low numbers as people do.
func (m *traffic) zipf(n int) int {
	f := m.rng.Float64()
	return int(float64(n) * f * f * f)
}

func (m *traffic) random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.rng.Uint32())
	}
	return b
}

func (m *traffic) hex(n int) string { return hex.EncodeToString(m.random(n)) }

func (m *traffic) person(n int) string {
	first := []string{"anna", "bob", "carl", "dora", "emil", "frida", "gustav", "hanna", "ivan", "jana", "karl", "lena", "max", "nina", "otto", "paula"}
	last := []string{"smith", "jones", "meyer", "novak", "rossi", "silva", "kim", "tanaka", "garcia", "dubois", "larsen", "kowalski", "popov"}
	return fmt.Sprintf("%s.%s%d", first[n%16], last[n/16%13], n/208)
}

// accepted is the acceptance of the next message.
func (m *traffic) accepted() store.TrailEvent {
	m.next++
	m.now = m.now.Add(time.Duration(m.rng.ExpFloat64() * 200_000))
	e := store.TrailEvent{Message: m.next, Time: m.now, Kind: store.TrailAccepted, Size: int64(2000 + m.rng.ExpFloat64()*30_000)}
	e.Origin = store.Origin{Door: "mx", With: "ESMTPS", Remote: netip.AddrFrom4([4]byte{203, 0, byte(m.zipf(256)), byte(m.zipf(256))})}
	switch k := m.rng.IntN(100); {
	case k < 35: // a large provider
		e.Sender = mustAddress(m.person(m.zipf(5000)) + "@gmail.com")
		e.HeaderID = "<CA" + base64.RawURLEncoding.EncodeToString(m.random(24)) + "=" + base64.RawURLEncoding.EncodeToString(m.random(6)) + "@mail.gmail.com>"
		n := m.rng.IntN(50)
		e.Origin.Hello = fmt.Sprintf("mail-lf1-f%d.google.com", n)
		e.Origin.Remote = netip.AddrFrom4([4]byte{209, 85, 167, byte(n)})
	case k < 50: // another one
		e.Sender = mustAddress(m.person(m.zipf(3000)) + "@outlook.com")
		host := fmt.Sprintf("DB9PR04MB%d", 8000+m.zipf(1000))
		e.HeaderID = "<" + host + base32.HexEncoding.EncodeToString(m.random(13))[:20] + "@" + host + ".eurprd04.prod.outlook.com>"
		e.Origin.Hello = fmt.Sprintf("EUR04-HE1-obe%d.outbound.protection.outlook.com", m.rng.IntN(20))
	case k < 75: // newsletters
		list := m.zipf(300)
		e.Sender = mustAddress(fmt.Sprintf("bounces+%d-%s-u%d=%s@em%d.news%d.example", list*977, m.hex(2), m.zipf(500), domain, list*31, list))
		e.HeaderID = "<" + base64.RawURLEncoding.EncodeToString(m.random(16)) + "@geopod-ismtpd-" + fmt.Sprint(m.rng.IntN(30)) + ">"
		e.Origin.Hello = fmt.Sprintf("o%d.news%d.example", m.rng.IntN(4), list)
	case k < 90: // small hosts
		host := m.zipf(2000)
		e.Sender = mustAddress(fmt.Sprintf("%s@firm%d.example", m.person(m.zipf(4)*97+host), host))
		e.HeaderID = fmt.Sprintf("<%s-%s-%s@firm%d.example>", m.hex(4), m.hex(4), m.hex(8), host)
		e.Origin.Hello = fmt.Sprintf("mail.firm%d.example", host)
	default: // own people
		e.Sender = mustAddress(m.person(m.zipf(500)) + "@" + domain)
		e.HeaderID = fmt.Sprintf("<%s-%s-4%s@%s>", m.hex(4), m.hex(2), m.hex(8), domain)
		e.Origin = store.Origin{Door: "submission", With: "ESMTPSA", Hello: "[192.168.1." + fmt.Sprint(m.zipf(200)) + "]", Remote: netip.AddrFrom4([4]byte{198, 51, 100, byte(m.zipf(40))})}
	}
	e.Subject = m.subject()
	if strings.Contains(e.Origin.With, "S") {
		e.Origin.TLS = "TLS 1.3"
	}
	return e
}

// word is the token of the n-th most usual word.
func (m *traffic) word(n int) store.SubjectToken { return store.SubjectToken(uint32(n+1) * 2654435761) }

// subject are the tokens of some words: 4,000 of them are in use, and a fifth is a number of its own.
func (m *traffic) subject() []store.SubjectToken {
	tokens := make([]store.SubjectToken, 1+m.rng.IntN(7))
	for i := range tokens {
		if tokens[i] = m.word(m.zipf(4000)); m.rng.IntN(5) == 0 {
			tokens[i] = store.SubjectToken(m.rng.Uint32())
		}
	}
	return tokens
}

// message appends the events of the next message: accepted and stored.
func (m *traffic) message(events []store.TrailEvent) []store.TrailEvent {
	a := m.accepted()
	box := m.zipf(500)
	return append(events, a, store.TrailEvent{Message: a.Message, Time: a.Time, Kind: store.TrailStored, Sender: a.Sender, Recipient: mustAddress(m.person(box) + "@" + domain), Account: store.AccountID(box + 1)})
}

// trailPages is how much of the index file the trail takes, in octets.
func trailPages(t testing.TB, s *Store) (n int) {
	t.Helper()
	err := s.db.View(func(tx *bolt.Tx) error {
		for _, id := range []bucketID{bTrail, bTrailOpen} {
			stats := tx.Bucket([]byte(id.String())).Stats()
			n += stats.LeafAlloc + stats.BranchAlloc
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// writeEvents writes events in one transaction.
func writeEvents(t testing.TB, s *Store, events []store.TrailEvent) {
	t.Helper()
	if err := s.write(t.Context(), func(tx *txn) error {
		for i := range events {
			tx.event(&events[i])
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTrail writes the events of messages, some to a transaction, and says what a message costs.
func BenchmarkTrail(b *testing.B) {
	for _, batch := range []int{1, 20, 200, 1000, 4096} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			s, dir := fresh(b, Options{})
			m := newTraffic()
			var events []store.TrailEvent
			var spent time.Duration
			for rest := b.N; rest > 0; rest -= batch {
				events = events[:0]
				for range min(rest, batch) {
					events = m.message(events)
				}
				start := cpu(b)
				writeEvents(b, s, events)
				spent += cpu(b) - start
			}
			b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/msg")
			b.ReportMetric(float64(trailPages(b, s))/float64(b.N), "octets/msg")
			info, err := os.Stat(filepath.Join(dir, indexName))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size())/float64(b.N), "file/msg")
		})
	}
}

// BenchmarkTrailEncode is what encoding alone costs, a message.
func BenchmarkTrailEncode(b *testing.B) {
	m := newTraffic()
	r := newTrailRun()
	var spent time.Duration
	octets, raw, words, filters := 0, 0, 0, 0
	seq := uint64(0)
	var events []store.TrailEvent
	for rest := b.N; rest > 0; rest -= 200 {
		events = events[:0]
		for range min(rest, 200) {
			events = m.message(events)
		}
		start := cpu(b)
		for i := range events {
			seq++
			events[i].Seq = seq
			if err := r.add(&events[i]); err != nil {
				b.Fatal(err)
			}
			if r.octets() < sealAt && (rest > 200 || i < len(events)-1) {
				continue
			}
			raw, words = raw+r.octets(), words+len(r.words)
			block := encodeBlock(r)
			octets += len(block)
			h, err := decodeBlockHead(block)
			if err != nil {
				b.Fatal(err)
			}
			filters += h.filter
			r.reset()
		}
		spent += cpu(b) - start
	}
	for what, n := range map[string]int{"cpu-ns": int(spent), "octets": octets, "raw": raw, "filter": filters, "words": words} {
		b.ReportMetric(float64(n)/float64(b.N), what+"/msg")
	}
}

// BenchmarkTrailSearch looks for things in a trail of 1,000,000 events.
func BenchmarkTrailSearch(b *testing.B) {
	s, _ := fresh(b, Options{})
	m := newTraffic()
	var middle store.TrailEvent
	const messages, batch = store.MaxTrailEvents / 2, 4000
	for n := 0; n < messages; n += batch {
		var events []store.TrailEvent
		for range batch {
			events = m.message(events)
		}
		writeEvents(b, s, events)
		if n == messages/batch/2*batch {
			middle = events[0]
		}
	}
	search := func(what store.TrailQuery, limit, least int) func(*testing.B) {
		return func(b *testing.B) {
			for b.Loop() {
				if page, err := s.SearchTrail(b.Context(), what, limit); err != nil || len(page.Messages) < least {
					b.Fatalf("%d messages, %v", len(page.Messages), err)
				}
			}
		}
	}
	b.Run("message", func(b *testing.B) {
		for b.Loop() {
			if events, err := s.MessageTrail(b.Context(), middle.Message); err != nil || len(events) != 2 {
				b.Fatalf("%d events, %v", len(events), err)
			}
		}
	})
	b.Run("rare", search(store.TrailQuery{HeaderID: middle.HeaderID}, 20, 1))
	b.Run("absent", search(store.TrailQuery{HeaderID: "<nobody@nowhere.example>"}, 20, 0))
	b.Run("busy", search(store.TrailQuery{Address: mustAddress(m.person(0) + "@" + domain)}, 20, 20))
	b.Run("quiet", search(store.TrailQuery{Address: mustAddress(m.person(499) + "@" + domain)}, 20, 20))
	b.Run("words", search(store.TrailQuery{Subject: []store.SubjectToken{m.word(3), m.word(1999)}}, 20, 0))
	b.Run("hour", search(store.TrailQuery{Since: m.now.Add(-time.Hour), Until: m.now.Add(-time.Minute)}, 20, 1))
}
