package boltstore

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// trailStore is a store that does not wait for the device, and with which the tests of the trail can turn the clock.
func trailStore(t testing.TB, c *testClock, events uint64) *Store {
	t.Helper()
	o := Options{Now: c.now, bounds: testBounds()}
	o.bounds.events = events
	s, _ := fresh(t, o)
	s.db.NoSync = true
	return s
}

// checkClean fails the test if Check finds anything.
func checkClean(t testing.TB, s *Store) {
	t.Helper()
	if problems, err := s.Check(t.Context()); err != nil || len(problems) > 0 {
		t.Errorf("Check: %+v, %v", problems, err)
	}
}

// trailKeys returns the last events of the blocks and of the runs that wait.
func trailKeys(t testing.TB, s *Store) (blocks, open []uint64) {
	t.Helper()
	if err := s.settle(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := s.read(t.Context(), func(v *view) error {
		note := func(to *[]uint64) func(*pieces) error {
			return func(p *pieces) error {
				*to = append(*to, p.last)
				return nil
			}
		}
		return errors.Join(v.eachTrail(bTrail, note(&blocks)), v.eachTrail(bTrailOpen, note(&open)))
	}); err != nil {
		t.Fatal(err)
	}
	return blocks, open
}

// eventsOf returns events that are octets long in a run, in one transaction. There must be room for some; next is the next Seq.
func eventsOf(t testing.TB, octets int, next uint64) []store.TrailEvent {
	t.Helper()
	r := newTrailRun()
	var events []store.TrailEvent
	add := func(text int) {
		e := store.TrailEvent{
			Message: 7, Time: time.Now(), Kind: store.TrailDeferred, Sender: mustAddress("a@out.example"), Recipient: mustAddress("anna@" + domain),
			Text: strings.Repeat("x", text),
		}
		if len(events) > 0 {
			e.Time = events[0].Time
		} else {
			e.Kind, e.Recipient = store.TrailAccepted, mailaddr.Address{}
		}
		e.Seq = next + uint64(len(events))
		events = append(events, e)
		if err := r.add(&e); err != nil {
			t.Fatal(err)
		}
	}
	// One more such event is a step, the places of recipient and host, and the text behind two octets of its length.
	const same = 5
	add(200)
	for add(50); octets-r.octets() > maxTrailText; {
		add(min(maxTrailText, octets-r.octets()-same-200) - same)
	}
	if add(octets - r.octets() - same); r.octets() != octets {
		t.Fatalf("made %d octets of events, want %d", r.octets(), octets)
	}
	return events
}

// TestSealRest: what a transaction leaves over is a block from a bound on, and waits below it.
func TestSealRest(t *testing.T) {
	for octets := sealRest - 1; octets <= sealRest+1; octets++ {
		now := time.Now()
		s := trailStore(t, clockAt(now), 1000)
		events := eventsOf(t, octets, 1)
		writeEvents(t, s, events)
		if blocks, open := trailKeys(t, s); (len(blocks) == 1) != (octets >= sealRest) || len(blocks)+len(open) != 1 {
			t.Errorf("%d octets: blocks %v, waiting %v", octets, blocks, open)
		}
		wantTrail(t, s, 7, events)
		checkClean(t, s)
	}
}

// TestSealAt: a transaction makes a block as soon as there are enough events, and goes on with an empty run.
func TestSealAt(t *testing.T) {
	for octets := sealAt - 1; octets <= sealAt+1; octets++ {
		now := time.Now()
		s := trailStore(t, clockAt(now), 1000)
		events := eventsOf(t, octets, 1)
		more := store.TrailEvent{Message: 7, Time: now, Kind: store.TrailDelivered, Recipient: mustAddress("anna@" + domain)}
		events = append(events, more)
		writeEvents(t, s, events)
		if blocks, open := trailKeys(t, s); len(blocks) != 1 || (len(open) == 1) != (octets >= sealAt) {
			t.Errorf("%d octets: blocks %v, waiting %v", octets, blocks, open)
		}
		wantTrail(t, s, 7, events)
		checkClean(t, s)
	}
}

// TestSealOpen: what waits becomes one block as soon as it is enough, also with the largest transaction that may wait.
func TestSealOpen(t *testing.T) {
	for missing := -1; missing <= 1; missing++ {
		now := time.Now()
		s := trailStore(t, clockAt(now), 1000)
		var events []store.TrailEvent
		wait := func(more int) {
			made := openEvents(t, more, uint64(len(events)+1))
			writeEvents(t, s, made)
			events = append(events, made...)
		}
		for range 3 {
			wait(maxOpen / 4)
		}
		wait(maxOpen - openTotal(t, s) - missing)
		want := 0
		if missing > 0 {
			want = maxOpen - missing
		}
		if waits := openTotal(t, s); waits != want {
			t.Errorf("%d octets short: %d wait, want %d", missing, waits, want)
		}
		if missing > 0 {
			wait(sealRest)
		}
		if blocks, open := trailKeys(t, s); len(blocks) != 1 || len(open) != 0 {
			t.Errorf("%d octets short: blocks %v, waiting %v", missing, blocks, open)
		}
		wantTrail(t, s, 7, events)
		checkClean(t, s)
	}
}

// openEvents returns events that take octets while they wait.
func openEvents(t testing.TB, octets int, next uint64) []store.TrailEvent {
	t.Helper()
	for made := octets - 100; ; {
		events := eventsOf(t, made, next)
		_, open := encodeRun(t, events)
		if len(open) == octets {
			return events
		}
		if made += octets - len(open); made > octets {
			t.Fatalf("no events take %d octets", octets)
		}
	}
}

// openTotal is how many octets wait.
func openTotal(t testing.TB, s *Store) (n int) {
	t.Helper()
	if err := s.read(t.Context(), func(v *view) error {
		tally, err := decodeTally(v.get(bMeta, []byte(metaTally)))
		n = int(tally.Open)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// wantTrail compares the trail of a message with all the events that were written of it.
func wantTrail(t testing.TB, s *Store, id store.MessageID, want []store.TrailEvent) {
	t.Helper()
	got, err := s.MessageTrail(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("message %s has %d events, want %d", id, len(got), len(want))
	}
	for i, e := range want {
		if e.Time = e.Time.UTC().Round(0); !reflect.DeepEqual(got[i], e) {
			t.Fatalf("event %d of message %s: got %+v, want %+v", i, id, got[i], e)
		}
	}
}

// TestTrailOfManyRecipients: a message whose events take several blocks is whole, and found by the first and the last of its recipients.
func TestTrailOfManyRecipients(t *testing.T) {
	now := time.Now()
	s := trailStore(t, clockAt(now), store.MaxTrailEvents)
	e := store.Envelope{Received: now, ReversePath: mustAddress("list@out.example"), HeaderID: "<many@out.example>"}
	for i := range store.MaxRecipients {
		e.Recipients = append(e.Recipients, store.Recipient{Address: mustAddress(fmt.Sprintf("subscriber.%d.%x@host%d.example", i, i*i, i%977))})
	}
	d, err := s.NewDraft(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, "Subject: many\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := d.Commit(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if blocks, _ := trailKeys(t, s); len(blocks) < 2 {
		t.Fatalf("the events take blocks %v, want several", blocks)
	}
	events, err := s.MessageTrail(t.Context(), r.Message)
	if err != nil || len(events) != 1+store.MaxRecipients {
		t.Fatalf("%d events, %v, want %d", len(events), err, 1+store.MaxRecipients)
	}
	for i, event := range events[1:] {
		if event.Recipient != e.Recipients[i].Address || event.Seq != events[0].Seq+uint64(i)+1 {
			t.Fatalf("event %d is %+v, want that of %s", i, event, e.Recipients[i].Address)
		}
	}
	first, last := e.Recipients[0].Address, e.Recipients[store.MaxRecipients-1].Address
	for _, q := range []store.TrailQuery{
		{HeaderID: e.HeaderID}, {Sender: e.ReversePath}, {Recipient: first}, {Recipient: last}, {HeaderID: e.HeaderID, Recipient: first},
		{HeaderID: e.HeaderID, Recipient: last}, {Sender: e.ReversePath, Recipient: last, Until: now.Add(1)}, {Address: last, Since: now, HeaderID: e.HeaderID},
	} {
		if page, err := s.SearchTrail(t.Context(), q, 10); err != nil || !slices.Equal(page.Messages, []store.MessageID{r.Message}) {
			t.Errorf("%+v: %v, %v, want message %s once", q, page, err, r.Message)
		}
	}
	for _, q := range []store.TrailQuery{
		{HeaderID: e.HeaderID, Recipient: e.ReversePath}, {Sender: e.ReversePath, Recipient: last, Until: now}, {Recipient: last, Before: r.Message},
	} {
		if page, err := s.SearchTrail(t.Context(), q, 10); err != nil || len(page.Messages) > 0 {
			t.Errorf("%+v: %v, %v, want nothing", q, page, err)
		}
	}
	checkClean(t, s)
}

// randomQuery asks for one to three things.
func randomQuery(rng *rand.Rand, now time.Time, last store.MessageID) (q store.TrailQuery) {
	person := func() mailaddr.Address { return mustAddress(fmt.Sprintf("p%d@%s", rng.IntN(310), domain)) }
	for range 1 + rng.IntN(3) {
		switch rng.IntN(8) {
		case 0:
			q.Address = person()
		case 1:
			q.Sender = person()
		case 2:
			q.Recipient = person()
		case 3:
			q.HeaderID = fmt.Sprintf("<%d@out.example>", rng.IntN(1100))
		case 4:
			q.Subject = []store.SubjectToken{store.SubjectToken(rng.IntN(22)), store.SubjectToken(rng.IntN(22))}[:1+rng.IntN(2)]
		case 5:
			q.Account = store.AccountID(1 + rng.IntN(22))
		case 6:
			q.Since = now.Add(-time.Duration(rng.Int64N(int64(35 * 24 * time.Hour))))
			q.Until = q.Since.Add(time.Duration(rng.Int64N(int64(20 * 24 * time.Hour))))
		case 7:
			q.Before = 1 + store.MessageID(rng.Uint64N(uint64(last)+1))
		}
	}
	return q
}

// matching are the messages that a query finds in a list of events, by the words of the contract.
func matching(told []store.TrailEvent, q *store.TrailQuery) (ids []store.MessageID) {
	has := make(map[store.MessageID]store.TrailFacts)
	for i := range told {
		if _, accepted := has[told[i].Message]; accepted || told[i].Kind == store.TrailAccepted {
			has[told[i].Message] |= q.Facts(&told[i])
		}
	}
	for id, facts := range has {
		if facts.Have(q.Wanted()) && (q.Before == 0 || id < q.Before) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b store.MessageID) int { return cmp.Compare(b, a) })
	return ids
}

// allPages follows a search to its end.
func allPages(t testing.TB, s *Store, q store.TrailQuery, limit int) (ids []store.MessageID) {
	t.Helper()
	for {
		page, err := s.SearchTrail(t.Context(), q, limit)
		if err != nil || len(page.Messages) > limit || page.Next != 0 && q.Before != 0 && page.Next >= q.Before {
			t.Fatalf("SearchTrail(%+v, %d) = %v, %v", q, limit, page, err)
		}
		ids = append(ids, page.Messages...)
		if q.Before = page.Next; page.Next == 0 {
			return ids
		}
	}
}

// TestTrailModel: random transactions of all sizes, and every answer is compared with what a list of the events says.
func TestTrailModel(t *testing.T) {
	seeds, writes, searches := uint64(2), 40, 50
	if testing.Short() {
		seeds, writes, searches = 1, 20, 10
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 1))
		now := time.Now()
		bound := 5000 + rng.Uint64N(10_000)
		clock := clockAt(now)
		s := trailStore(t, clock, bound)
		var all []store.TrailEvent
		var last store.MessageID
		for range writes {
			n := 1 + rng.IntN([]int{3, 100, 2000}[rng.IntN(3)])
			events := randomEvents(rng, n, now, &last)
			writeEvents(t, s, events)
			all = append(all, events...)
			if rng.IntN(4) == 0 {
				now = now.Add(time.Duration(rng.Int64N(int64(5 * 24 * time.Hour))))
				clock.set(now)
			}
		}
		told := slices.DeleteFunc(slices.Clone(all[max(len(all)-int(bound), 0):]), func(e store.TrailEvent) bool { return e.Time.Before(now.Add(-store.TrailAge)) })
		for range 30 {
			id := 1 + store.MessageID(rng.Uint64N(uint64(last)+1))
			wantTrail(t, s, id, slices.DeleteFunc(slices.Clone(told), func(e store.TrailEvent) bool { return e.Message != id }))
		}
		for range searches {
			q, limit := randomQuery(rng, now, last), 1+rng.IntN(200)
			want := matching(told, &q)
			got := allPages(t, s, q, limit)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d: SearchTrail(%+v, %d) = %v, want %v", seed, q, limit, got, want)
			}
		}
		checkClean(t, s)
	}
}

// TestTrailFalsePositives: a filter that takes another word for one of its own costs time and gives no wrong answer.
func TestTrailFalsePositives(t *testing.T) {
	now := time.Now()
	s := trailStore(t, clockAt(now), store.MaxTrailEvents)
	m := newTraffic()
	m.now = now
	var events []store.TrailEvent
	for range 3000 {
		events = m.message(events)
	}
	writeEvents(t, s, events)
	var filters []filter
	var heads []blockHead
	if err := s.read(t.Context(), func(v *view) error {
		return v.eachTrail(bTrail, func(p *pieces) error {
			b, err := p.octets(maxTrailValue)
			h, _ := decodeBlockHead(b)
			heads, filters = append(heads, h), append(filters, slices.Clone(h.filterOf(b)))
			return err
		})
	}); err != nil {
		t.Fatal(err)
	}
	const want = 20
	ids, texts := 0, 0
	for i := 0; ids < want || texts < want; i++ {
		if i == 1_000_000 {
			t.Fatalf("only %d and %d words of %d are taken for others", ids, texts, i)
		}
		text, id := fmt.Sprintf("<%d@nowhere.example>", i), store.MessageID(1_000_000+i)
		for k, f := range filters {
			if texts < want && f.has(textWord(text)) {
				texts++
				if got, err := s.SearchTrail(t.Context(), store.TrailQuery{HeaderID: text}, 10); err != nil || len(got.Messages) > 0 {
					t.Errorf("%s: %v, %v", text, got, err)
				}
			}
			if ids < want && f.has(messageWord(id)) && !heads[k].accepts(uint64(id)) {
				ids++
				if got, err := s.MessageTrail(t.Context(), id); err != nil || len(got) > 0 {
					t.Errorf("message %s: %v, %v", id, got, err)
				}
			}
		}
	}
}

// TestTrailAgeEdge: an event is told as long as it is not older than the bound, to the nanosecond, wherever it lies.
func TestTrailAgeEdge(t *testing.T) {
	for _, octets := range []int{1000, sealRest} {
		now := time.Now()
		clock := clockAt(now)
		s := trailStore(t, clock, 100_000)
		events := eventsOf(t, octets, 1)
		writeEvents(t, s, events)
		start := events[0].Time
		for _, tt := range []struct {
			age  time.Duration
			told int
		}{{store.TrailAge - 1, len(events)}, {store.TrailAge, len(events)}, {store.TrailAge + 1, 0}} {
			now = start.Add(tt.age)
			clock.set(now)
			got, err := s.MessageTrail(t.Context(), 7)
			if err != nil || len(got) != tt.told {
				t.Errorf("%d octets after %s: %d events, %v, want %d", octets, tt.age, len(got), err, tt.told)
			}
			page, err := s.SearchTrail(t.Context(), store.TrailQuery{Sender: mustAddress("a@out.example")}, 10)
			if err != nil || len(page.Messages) != min(tt.told, 1) {
				t.Errorf("%d octets after %s: messages %v, %v", octets, tt.age, page, err)
			}
		}
	}
}

// TestTrailBoundEdge: as many events are told as the bound says, wherever they lie.
func TestTrailBoundEdge(t *testing.T) {
	const bound = 3000
	now := time.Now()
	s := trailStore(t, clockAt(now), bound)
	m := newTraffic()
	m.now = now
	written := 0
	for _, messages := range []int{1200, 299, 1, 1, 700, 1, 900} {
		var events []store.TrailEvent
		for range messages {
			events = m.message(events)
		}
		writeEvents(t, s, events)
		written += messages
		first := max(written-bound/2, 0) + 1
		for id := max(first-1, 1); id <= first; id++ {
			events, err := s.MessageTrail(t.Context(), store.MessageID(id))
			if want := 2 * min(id-first+1, 1); err != nil || len(events) != want {
				t.Errorf("after %d messages: message %d has %d events, %v, want %d", written, id, len(events), err, want)
			}
		}
	}
	checkClean(t, s)
}

// TestTrailPruning: what is beyond the bounds goes from the index with later transactions, each of which removes a bounded part.
func TestTrailPruning(t *testing.T) {
	now := time.Now()
	clock := clockAt(now)
	s := trailStore(t, clock, 100_000)
	const blocks, runs = 10, 12
	for range blocks {
		writeEvents(t, s, eventsOf(t, sealRest, 1))
	}
	small := eventsOf(t, 1000, 1)
	for range runs {
		writeEvents(t, s, small)
	}
	for i := 1; ; i++ {
		was, waited := trailKeys(t, s)
		if i == 1 && (len(was) != blocks || len(waited) != runs) {
			t.Fatalf("%d blocks and %d runs, want %d and %d", len(was), len(waited), blocks, runs)
		}
		now = small[0].Time.Add(store.TrailAge + time.Minute + time.Duration(i))
		clock.set(now)
		writeEvents(t, s, []store.TrailEvent{{Message: 8, Time: now, Kind: store.TrailStored, Recipient: mustAddress("anna@" + domain)}})
		is, waits := trailKeys(t, s)
		if n := len(was) - len(is); n != min(len(was), prunedTrail) {
			t.Errorf("transaction %d removed %d of %d blocks", i, n, len(was))
		}
		if n := len(waited) + 1 - len(waits); n != min(max(runs-(i-1)*prunedTrail, 0), prunedTrail) {
			t.Errorf("transaction %d removed %d of %d runs", i, n, len(waited))
		}
		checkClean(t, s)
		if len(is) == 0 && len(waits) == i {
			return // what is left is what these transactions wrote
		}
		if i > blocks+runs {
			t.Fatalf("blocks %v and runs %v stay", is, waits)
		}
	}
}

// TestTrailIsBounded: however much is written, what is kept is the bound and a little more.
func TestTrailIsBounded(t *testing.T) {
	const bound = 4000
	writes := 30
	if testing.Short() {
		writes = 12
	}
	now := time.Now()
	s := trailStore(t, clockAt(now), bound)
	m := newTraffic()
	m.now = now
	for i := range writes {
		var events []store.TrailEvent
		for range []int{1, 300, 3000}[i%3] {
			events = m.message(events)
		}
		writeEvents(t, s, events)
	}
	blocks, open := trailKeys(t, s)
	if floor := uint64(2*m.next) - bound; len(blocks)+len(open) > 30 || blocks[0] <= floor || len(open) > 0 && open[0] <= floor {
		t.Errorf("blocks %v and runs %v after event %d with a bound of %d", blocks, open, 2*m.next, bound)
	}
	checkClean(t, s)
}

// TestTrailCost: how much of the index messages take when many flow, and how much a small transaction writes.
func TestTrailCost(t *testing.T) {
	now := time.Now()
	s := trailStore(t, clockAt(now), store.MaxTrailEvents)
	m := newTraffic()
	m.now = now
	const batch, most, mostPages = 4096, 90, 6
	batches := 10
	if testing.Short() {
		batches = 4
	}
	n := 0
	for range batches {
		var events []store.TrailEvent
		for range batch {
			events = m.message(events)
		}
		writeEvents(t, s, events)
		n += batch
	}
	if octets := float64(trailPages(t, s)) / float64(n); octets > most {
		t.Errorf("a message takes %.1f octets of the index, want at most %d", octets, most)
	}
	for i := 0; openTotal(t, s) < maxOpen-1000; i++ {
		var stats bolt.TxStats
		events := m.message(nil)
		if err := s.write(t.Context(), func(tx *txn) error {
			for i := range events {
				tx.event(&events[i])
			}
			tx.durable = append(tx.durable, func() { stats = tx.tx.Stats() })
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if pages := int(stats.PageCount); pages < 1 || pages > mostPages {
			t.Fatalf("transaction %d of one message wrote %d pages, want 1 to %d", i, pages, mostPages)
		}
	}
}

// TestDamagedTrail: a search goes past what is damaged, and says which events it could not look at if it would have; mail goes on.
func TestDamagedTrail(t *testing.T) {
	run := func(octets []byte) func([]byte) []byte { return func([]byte) []byte { return octets } }
	flip := func(i int) func([]byte) []byte {
		return func(b []byte) []byte { b[(i+len(b))%len(b)] ^= 1; return b }
	}
	for _, tt := range []struct {
		name  string
		id    bucketID
		piece int
		do    func([]byte) []byte
		found bool // the others are told without a word of it
	}{
		{"head", bTrail, 0, flip(20), false},
		{"filter", bTrail, 1, flip(5), false},
		{"events", bTrail, -1, flip(-1), true},
		{"short head", bTrail, 0, run([]byte{1, 2, 3}), false},
		{"run", bTrailOpen, 0, flip(-1), false},
		{"short run", bTrailOpen, 0, run([]byte{1}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			initData(t, dir)
			var log strings.Builder
			o := Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
			s := openData(t, dir, o)
			m := newTraffic()
			var blocks [2][]store.TrailEvent
			for i := range blocks {
				for range 1000 {
					blocks[i] = m.message(blocks[i])
				}
				writeEvents(t, s, blocks[i])
			}
			open := m.message(nil)
			writeEvents(t, s, open)
			closeData(t, s)
			last := blocks[0][len(blocks[0])-1].Seq
			if tt.id == bTrailOpen {
				last = open[1].Seq
			}
			changePiece(t, dir, tt.id, last, tt.piece, tt.do)
			s = openData(t, dir, o)
			defer closeData(t, s)
			bad := blocks[0]
			if tt.id == bTrailOpen {
				bad = open
			}
			gap := store.TrailGaps{{From: bad[0].Seq, To: last}}
			for _, of := range []*store.TrailEvent{&blocks[0][0], &blocks[1][0], &open[0]} {
				wantPast(t, s, of, of.Seq != bad[0].Seq, gap, of.Seq == bad[0].Seq || !tt.found)
			}
			problems, err := s.Check(t.Context())
			if err != nil || len(problems) == 0 || problems[0].Kind != "damaged record" {
				t.Errorf("Check: %+v, %v, want a damaged record", problems, err)
			}
			if err := send(s, newLedger(), "after", 10, false); err != nil {
				t.Errorf("mail after the damage: %v", err)
			}
			for range 3 { // enough to make a block of what waits
				writeEvents(t, s, eventsOf(t, sealRest-100, 1))
			}
			if waits := openTotal(t, s); tt.id == bTrailOpen && (waits != 0 || !strings.Contains(log.String(), "damaged part of the trail")) {
				t.Errorf("%d octets wait, log %q", waits, log.String())
			}
			if tt.id == bTrailOpen {
				checkClean(t, s)
			}
		})
	}
}

// changePiece changes a piece of the block or run that ends with an event; -1 is the last one.
func changePiece(t *testing.T, dir string, id bucketID, last uint64, piece int, do func([]byte) []byte) {
	t.Helper()
	change(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(id.String()))
		key := pieceKey(last, piece)
		if piece < 0 {
			key, _ = b.Cursor().Seek(key8(last + 1))
			c := b.Cursor()
			c.Seek(key)
			key, _ = c.Prev()
		}
		return edit(id, slices.Clone(key), do)(tx)
	})
}

// wantPast looks for the message of an event, by its Message-ID and by its id, in a trail with a gap. It is found or not, and the gap is told
// or not.
func wantPast(t *testing.T, s *Store, of *store.TrailEvent, found bool, gap store.TrailGaps, told bool) {
	t.Helper()
	page, err := s.SearchTrail(t.Context(), store.TrailQuery{HeaderID: of.HeaderID}, 10)
	ids := page.Messages
	events, trailErr := s.MessageTrail(t.Context(), of.Message)
	if (len(ids) == 1) != found || (len(events) > 0) != found {
		t.Errorf("%s: found %v and %d events", of.HeaderID, ids, len(events))
	}
	for _, err := range []error{err, trailErr} {
		var gaps store.TrailGaps
		if is := errors.As(err, &gaps); is != told || is && !slices.Equal(gaps, gap) || is != errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v, want %v: %v", of.HeaderID, err, gap, told)
		}
	}
}

// TestCheckFindsBlocks: blocks that are sound in themselves and are not what belongs there.
func TestCheckFindsBlocks(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, b []byte) (last uint64, spoilt []byte){
		"deaf filter": func(t *testing.T, b []byte) (uint64, []byte) {
			h, err := decodeBlockHead(b)
			if err != nil {
				t.Fatal(err)
			}
			return h.last, withFilter(t, b, h.filter)
		},
		"other place": func(_ *testing.T, b []byte) (uint64, []byte) { return 1, b },
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			s := trailStore(t, clockAt(now), 1000)
			writeEvents(t, s, eventsOf(t, sealRest, 1))
			blocks, _ := trailKeys(t, s)
			if err := s.write(t.Context(), func(tx *txn) error {
				return tx.eachTrail(bTrail, func(p *pieces) error {
					b, err := p.octets(maxTrailValue)
					last, spoilt := spoil(t, slices.Clone(b))
					tx.deletePieces(bTrail, blocks[0])
					tx.putPieces(bTrail, last, spoilt)
					p.last = blocks[0] // there is no other
					return err
				})
			}); err != nil {
				t.Fatal(err)
			}
			problems, err := s.Check(t.Context())
			if err != nil || len(problems) != 1 || problems[0].Kind != "damaged record" {
				t.Errorf("Check: %+v, %v, want one damaged record", problems, err)
			}
		})
	}
}

// testClock lets a test turn the clock while the store's goroutines look at it.
type testClock struct{ at atomic.Int64 }

func clockAt(t time.Time) *testClock {
	c := &testClock{}
	c.set(t)
	return c
}

func (c *testClock) set(t time.Time) { c.at.Store(t.UnixNano()) }
func (c *testClock) now() time.Time  { return time.Unix(0, c.at.Load()).UTC() }
