package smtp

import (
	"context"
	"fmt"
	"io"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/store"
)

// awayFixture has a clock that the test turns, and bob away.
func awayFixture(t *testing.T, door Door, edit ...func(*Options)) (*fixture, *time.Time) {
	t.Helper()
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	edit = append(edit, func(o *Options) { o.SRS = testSRS(t); o.Now = func() time.Time { return now } })
	f := newFixture(t, door, edit...)
	f.leave("bob")
	return f.serve(), &now
}

// leave switches the vacation answers of a mailbox on.
func (f *fixture) leave(name string) {
	f.t.Helper()
	f.update(name, func(a *store.Account) { a.Vacation = store.Vacation{On: true, Text: "I am away.\nGrüße"} })
}

// personal is a letter to bob with further fields, which end with a line end.
func personal(fields string) string {
	return "From: x@remote.example\r\nTo: Bob <bob@example.com>\r\nSubject: hello\r\nMessage-ID: <1@remote.example>\r\n" + fields + "\r\nsecret words\r\n.\r\n"
}

// wants posts a letter, and expects so many more answers in the queue.
func (f *fixture) wants(answers int, c *client, from, letter string, rcpts ...string) {
	f.t.Helper()
	before := len(f.jobs())
	if len(rcpts) == 0 {
		rcpts = []string{"<bob@example.com>"}
	}
	if got := c.post(from, letter, rcpts...); !strings.HasPrefix(got, "250 2.0.0") {
		f.t.Fatal(got)
	}
	if got := len(f.jobs()) - before; got != answers {
		f.t.Errorf("%d answers to %s, want %d", got, from, answers)
	}
}

// octetsOf reads a queued message.
func octetsOf(t testing.TB, st interface {
	OpenJob(ctx context.Context, id store.JobID) (io.ReadCloser, error)
}, id store.JobID) string {
	t.Helper()
	r, err := st.OpenJob(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestVacationAnswer: a stranger gets one, from the null reverse-path, as the domain's own mail, with nothing of what he wrote but its subject and id.
func TestVacationAnswer(t *testing.T) {
	f, now := awayFixture(t, MX)
	f.update("bob", func(a *store.Account) { a.DisplayName = "Bob Ö." })
	f.wants(1, f.greeted(), "x@remote.example", personal(""))
	if text := f.oneMail("bob"); !strings.Contains(text, "secret words") {
		t.Errorf("bob has %q", text)
	}
	j := f.jobs()[0]
	if !j.ReversePath.IsZero() || j.Recipient != address("x@remote.example") || j.Notify != store.NotifyNever || !j.Ours || j.Submitter != 0 || j.UTF8 || j.EightBit ||
		!j.Received.Equal(*now) || j.Held {
		t.Errorf("job %+v", j)
	}
	octets := octetsOf(t, f.store, j.ID)
	if j.HeaderLen != int64(strings.Index(octets, "\r\n\r\n")+4) || strings.Contains(octets, "secret") {
		t.Errorf("header of %d octets in %q", j.HeaderLen, octets)
	}
	m, err := mail.ReadMessage(strings.NewReader(octets))
	f.must(err)
	for name, want := range map[string]string{
		"From": "=?utf-8?b?Qm9iIMOWLg==?= <bob@example.com>", "To": "<x@remote.example>", "Subject": "Auto: hello", "Auto-Submitted": "auto-replied",
		"In-Reply-To": "<1@remote.example>", "References": "<1@remote.example>", "Date": "Wed, 1 Jul 2026 12:00:00 +0000",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if log := f.log.String(); !strings.Contains(log, `msg="vacation answered"`) || strings.Contains(log, "I am away") {
		t.Errorf("log %s", log)
	}
}

// TestVacationWithin: one of our own users gets the answer into the mailbox, outgoing mail or not, and it is answered by nobody.
func TestVacationWithin(t *testing.T) {
	f, _ := awayFixture(t, Submission)
	f.leave("alice")
	f.settings(func(s *store.Settings) { s.OutgoingMail = false })
	f.wants(0, f.loggedIn("alice"), "alice@example.com", "From: alice@example.com\r\nTo: bob@example.com\r\n\r\nx\r\n.\r\n")
	text := f.oneMail("alice")
	if !strings.HasPrefix(text, "Return-Path: <>\r\nDelivered-To: alice@example.com\r\nFrom: <bob@example.com>\r\n") || !strings.Contains(text, "\r\nI am away.\r\n") {
		t.Errorf("alice has %q", text)
	}
	f.oneMail("bob")
	// To herself, by any of her names, nobody answers.
	for _, to := range []string{"alice", "alice+x", "sales"} {
		f.wants(0, f.loggedIn("alice"), "alice@example.com", "From: alice@example.com\r\nTo: "+to+"@example.com\r\n\r\nx\r\n.\r\n", "<"+to+"@example.com>")
	}
	if n := len(f.mail("alice")); n != 4 {
		t.Errorf("alice has %d messages, want 4", n)
	}
}

// TestVacationNotAnswered: to whom and to what no answer goes. Each letter is delivered all the same.
func TestVacationNotAnswered(t *testing.T) {
	alice := address("alice@example.com")
	for name, tt := range map[string]struct {
		from, fields string
		rcpts        []string
		set          func(f *fixture)
	}{
		"null reverse-path":   {from: ""},
		"mailing list":        {from: "x@remote.example", fields: "List-Id: <l.remote.example>\r\n"},
		"bulk":                {from: "x@remote.example", fields: "Precedence: bulk\r\n"},
		"automatic":           {from: "x@remote.example", fields: "Auto-Submitted: auto-generated\r\n"},
		"suppressed":          {from: "x@remote.example", fields: "X-Auto-Response-Suppress: OOF\r\n"},
		"our own answer back": {from: "x@remote.example", fields: "X-Loop: carol@example.com\r\n"},
		"no person":           {from: "noreply@remote.example"},
		"owner of a list":     {from: "owner-list@remote.example"},
		"stranger as one of us": {from: "alice@example.com", set: func(f *fixture) {
			f.settings(func(s *store.Settings) { s.OutsideSenders = []mailaddr.Address{alice} })
		}},
		"From of ours":       {from: "x@remote.example", fields: "From: alice@example.com\r\n"},
		"off":                {from: "x@remote.example", set: func(f *fixture) { f.update("bob", func(a *store.Account) { a.Vacation.On = false }) }},
		"not begun":          {from: "x@remote.example", set: func(f *fixture) { f.update("bob", func(a *store.Account) { a.Vacation.From = 2026_07_02 }) }},
		"over":               {from: "x@remote.example", set: func(f *fixture) { f.update("bob", func(a *store.Account) { a.Vacation.Until = 2026_06_30 }) }},
		"outgoing mail off":  {from: "x@remote.example", set: func(f *fixture) { f.settings(func(s *store.Settings) { s.OutgoingMail = false }) }},
		"suppressed address": {from: "x@remote.example", set: func(f *fixture) { f.suppress("x@remote.example", f.opts.Now().Add(time.Hour)) }},
		"alias of several":   {from: "x@remote.example", rcpts: []string{"<team@example.com>"}},
		"catch-all": {from: "x@remote.example", rcpts: []string{"<anybody@example.com>"}, set: func(f *fixture) {
			f.must(f.store.PutAlias(context.Background(), store.Alias{Name: "*", Targets: []store.AccountID{f.ids["bob"]}}))
		}},
		"somebody else's alias": {from: "x@remote.example", rcpts: []string{"<sales@example.com>"}},
		"budget of the mailbox": {from: "x@remote.example", set: func(f *fixture) { f.spend(store.AnswersOf(f.ids["bob"])) }},
		"budget of the domain":  {from: "x@remote.example", set: func(f *fixture) { f.spend(store.AnswersOfDomain()) }},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := awayFixture(t, MX)
			if tt.set != nil {
				tt.set(f)
			}
			f.wants(0, f.greeted(), tt.from, personal(tt.fields), tt.rcpts...)
			if strings.Contains(f.log.String(), `msg="vacation answered"`) {
				t.Error("it was answered")
			}
			if n := len(f.mail("bob")) + len(f.mail("alice")); n == 0 {
				t.Error("nobody has the letter")
			}
		})
	}
}

// spend takes all of a budget.
func (f *fixture) spend(b store.Budget) {
	f.t.Helper()
	_, err := f.store.Take(context.Background(), f.opts.Now(), b.Key, b.Limit.N, b.Limit)
	f.must(err)
}

// TestVacationNamed: the mailbox has to stand in To or Cc, by its name or by that which it was written to.
func TestVacationNamed(t *testing.T) {
	for _, tt := range []struct {
		to, rcpt string
		answers  int
	}{
		{"To: bob@example.com", "bob@example.com", 1},
		{"Cc: x@y.example, BOB@Example.com", "bob@example.com", 1},
		{"Resent-To: bob@example.com", "bob@example.com", 1},
		{"To: bob+tag@example.com", "bob+tag@example.com", 1},
		{"To: bob@example.com", "bob+tag@example.com", 1},
		{"To: desk@example.com", "desk@example.com", 1},
		{"To: bob@example.com", "desk@example.com", 1},
		{"To: desk@example.com", "bob@example.com", 0},
		{"To: list@remote.example", "bob@example.com", 0},
		{"X-To: bob@example.com", "bob@example.com", 0},
		{"To: undisclosed-recipients:;", "bob@example.com", 0},
	} {
		t.Run(tt.to+" for "+tt.rcpt, func(t *testing.T) {
			f, _ := awayFixture(t, MX)
			f.must(f.store.PutAlias(context.Background(), store.Alias{Name: "desk", Targets: []store.AccountID{f.ids["bob"]}}))
			f.wants(tt.answers, f.greeted(), "x@remote.example", "From: x@remote.example\r\n"+tt.to+"\r\n\r\nx\r\n.\r\n", "<"+tt.rcpt+">")
		})
	}
}

// TestVacationOnce: a sender is answered again when seven days have passed, and not a moment before, however the address is spelt; others are
// answered meanwhile, and so is the sender by another mailbox.
func TestVacationOnce(t *testing.T) {
	f, now := awayFixture(t, MX)
	f.leave("alice")
	begin, c := *now, f.greeted()
	f.wants(1, c, "x@remote.example", personal(""))
	f.wants(0, c, "x@remote.example", personal(""))
	f.wants(0, c, "X@REMOTE.example", personal(""))
	f.wants(1, c, "y@remote.example", personal(""))
	f.wants(1, c, "x@remote.example", "To: alice@example.com\r\n\r\nx\r\n.\r\n", "<alice@example.com>")
	*now = begin.Add(7*24*time.Hour - time.Nanosecond)
	f.wants(0, c, "x@remote.example", personal(""))
	*now = begin.Add(7 * 24 * time.Hour)
	f.wants(1, c, "x@remote.example", personal(""))
	f.wants(0, c, "x@remote.example", personal(""))
}

// TestVacationPerson: tags that change do not make a new sender.
func TestVacationPerson(t *testing.T) {
	for from, want := range map[string]string{
		"X@Remote.Example": "x@remote.example", "x+news@remote.example": "x@remote.example", "+x@remote.example": "+x@remote.example",
		"prvs=1234abcdef=x@remote.example": "x@remote.example", "prvs=x@remote.example": "prvs=x@remote.example",
		"btv1==1234abcdef==x@remote.example": "x@remote.example", "btv1==x@remote.example": "btv1==x@remote.example",
		"SRS0=hash=TT=remote.example=x@forwarder.example": "x@remote.example", "srs0+hash=TT=remote.example=x@forwarder.example": "x@remote.example",
		"srs0=hash=TT=remote.example@forwarder.example": "srs0=hash=tt=remote.example@forwarder.example",
	} {
		if got := person(address(from)); got != want {
			t.Errorf("%s is %s, want %s", from, got, want)
		}
	}
	f, _ := awayFixture(t, MX)
	c := f.greeted()
	f.wants(1, c, "prvs=1234abcdef=x@remote.example", personal(""))
	f.wants(0, c, "prvs=5678abcdef=x@remote.example", personal(""))
	f.wants(0, c, "x@remote.example", personal(""))
	if to := f.jobs()[0].Recipient; to != address("prvs=1234abcdef=x@remote.example") {
		t.Errorf("answered to %s", to) // RFC 3834 §4: the reverse-path, as it is
	}
}

// TestVacationAtOnce: of many letters of one sender at the same time one is answered.
func TestVacationAtOnce(t *testing.T) {
	f, _ := awayFixture(t, MX)
	var all sync.WaitGroup
	for range 8 {
		c := f.greeted()
		all.Go(func() { c.post("x@remote.example", personal(""), "<bob@example.com>") })
	}
	all.Wait()
	if got := f.queued(); got != "<> x@remote.example" {
		t.Errorf("queued\n%s", got)
	}
}

// TestVacationOfMany: a message that is for many mailboxes is answered by so many of them.
func TestVacationOfMany(t *testing.T) {
	for _, n := range []int{maxAnswers, maxAnswers + 1} {
		f, _ := awayFixture(t, MX)
		var rcpts, to []string
		for i := range n {
			name := fmt.Sprintf("user%d", i)
			_, err := f.store.AddAccount(context.Background(), store.Account{Name: name, Vacation: store.Vacation{On: true, Text: "away"}})
			f.must(err)
			to, rcpts = append(to, name+"@example.com"), append(rcpts, "<"+name+"@example.com>")
		}
		f.wants(maxAnswers, f.greeted(), "x@remote.example", "To: "+strings.Join(to, ", ")+"\r\n\r\nx\r\n.\r\n", rcpts...)
	}
}

// TestVacationSentOn: a mailbox that keeps nothing of what it sends on answers all the same, and its report stays apart from the letter.
func TestVacationSentOn(t *testing.T) {
	f, _ := awayFixture(t, MX)
	f.update("bob", func(a *store.Account) { a.Forward = store.Forward{To: []mailaddr.Address{address("b@other.example")}} })
	f.wants(2, f.greeted(), "x@remote.example", personal(""))
	if got := f.queued(); got != "<srs:x@remote.example> b@other.example by bob\n<> x@remote.example" {
		t.Errorf("queued\n%s", got)
	}
}

// TestVacationMixedAlias: what came by an alias that leads outside too was written to nobody in person.
func TestVacationMixedAlias(t *testing.T) {
	f, _ := awayFixture(t, MX)
	f.must(f.store.PutAlias(context.Background(), store.Alias{
		Name: "mixed", Targets: []store.AccountID{f.ids["bob"]}, Outside: []mailaddr.Address{address("z@other.example")},
	}))
	f.wants(1, f.greeted(), "x@remote.example", "To: mixed@example.com, bob@example.com\r\n\r\nx\r\n.\r\n", "<mixed@example.com>")
	if got := f.queued(); got != "<srs:x@remote.example> z@other.example by mixed" {
		t.Errorf("queued\n%s", got)
	}
}

// TestVacationRequireTLS: an answer is protected as what it answers (RFC 8689 §5).
func TestVacationRequireTLS(t *testing.T) {
	tx := &transaction{tls: store.TLSRequired}
	f, _ := awayFixture(t, MX)
	c := f.greeted()
	c.post("x@remote.example", personal(""), "<bob@example.com>")
	if j := f.jobs()[0]; j.TLS != store.TLSUnset {
		t.Errorf("without: %v", j.TLS)
	}
	s := &session{srv: f.srv, ctx: context.Background(), log: f.opts.Logger}
	a := &message.Answer{
		From: address("bob@example.com"), To: address("y@remote.example"), Hostname: testHost, ID: "1", Date: f.opts.Now(), Text: "away",
	}
	f.must(s.writeAnswer(context.Background(), tx, a, store.Route{Remote: []mailaddr.Address{a.To}}))
	if j := f.jobs()[1]; j.TLS != store.TLSRequired {
		t.Errorf("with: %v", j.TLS)
	}
}

// TestVacationOutsideOfProofs: a proof of the relay asks real mailboxes and answers for none; nobody is marked, and no mail of it leaves.
func TestVacationOutsideOfProofs(t *testing.T) {
	f, p := newProofFixture(t, nil)
	for _, name := range []string{"alice", "bob"} {
		f.leave(name)
	}
	if report := f.proved(p); !report.Passed {
		t.Errorf("with mailboxes that are away: %s", report.Fault)
	}
	settings, err := f.store.Settings(t.Context())
	f.must(err)
	proof := newProofStore(f.store, settings, "x")
	route, err := proof.Resolve(t.Context(), address("alice@example.com"))
	f.must(err)
	if len(route.Local) != 1 || len(route.Away) != 0 {
		t.Errorf("route %+v", route)
	}
	h := answered(time.Now(), f.ids["alice"], address("x@remote.example"))
	if ok, err := proof.ClaimHabit(t.Context(), h, store.AnswersApart); ok || err != nil {
		t.Errorf("claimed %t, %v", ok, err)
	}
	if seen, err := f.store.ListHabits(t.Context(), 0, store.HabitAnswered, 10); err != nil || len(seen) != 0 {
		t.Errorf("marked %+v, %v", seen, err)
	}
}

// suspending is a store in which mailboxes are suspended as soon as their mail is committed, as long as now is set.
type suspending struct {
	Store
	now bool
}

func (s *suspending) Account(ctx context.Context, id store.AccountID) (store.Account, error) {
	a, err := s.Store.Account(ctx, id)
	a.Suspended = a.Suspended || s.now
	return a, err
}

// TestVacationSuspendedMeanwhile: a mailbox that is suspended between the commit of a message and its answer gives none.
func TestVacationSuspendedMeanwhile(t *testing.T) {
	var st *suspending
	f, _ := awayFixture(t, MX, func(o *Options) { st = &suspending{Store: o.Store}; o.Store = st })
	c := f.greeted()
	st.now = true
	f.wants(0, c, "x@remote.example", personal(""))
	st.now = false
	f.wants(1, c, "x@remote.example", personal(""))
}
