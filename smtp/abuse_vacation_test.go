package smtp

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"latchkey/store"
	"latchkey/store/memstore"
)

// TestAbuse23StormOfForgedSenders: ten thousand letters of ten thousand forged senders, each to a mailbox that is away, are delivered; strangers get so
// many answers a day and no more, and the sender who wrote first is not answered again because of those who came after him.
func TestAbuse23StormOfForgedSenders(t *testing.T) {
	storm := 10_000
	if testing.Short() {
		storm = 2000
	}
	f, now := awayFixture(t, MX)
	begin, c := *now, f.greeted()
	answers := func() int {
		n := 0
		for after := store.JobID(0); ; {
			jobs, next, err := f.store.ListJobs(context.Background(), store.QueueFilter{}, after, 10_000)
			f.must(err)
			if n += len(jobs); next == 0 {
				return n
			}
			after = next
		}
	}
	for i := range storm {
		*now = now.Add(7 * 24 * time.Hour / time.Duration(storm)) // over seven days
		var out strings.Builder
		fmt.Fprintf(&out, "MAIL FROM:<x%d@remote%d.example>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\n", i, i)
		c.send(out.String())
		c.expect("250 ")
		c.expect("250 ")
		c.expect("354 ")
		c.send(personal(""))
		c.expect("250 2.0.0")
		if at := now.Sub(begin); at <= 24*time.Hour && i%100 == 0 {
			if n := answers(); n > 2*store.AnswersPerDay {
				t.Fatalf("%d answers after %v", n, at)
			}
		}
	}
	n := answers()
	if most := (7 + 1) * store.AnswersPerDay; n > most || n < 7*store.AnswersPerDay {
		t.Errorf("%d answers in seven days, want about %d a day", n, store.AnswersPerDay)
	}
	if u, err := f.store.Usage(context.Background(), f.ids["bob"]); err != nil || u.Messages != int64(storm) {
		t.Errorf("bob has %d messages, %v", u.Messages, err)
	}
	*now = begin.Add(7 * 24 * time.Hour)
	f.wants(0, c, "x0@remote0.example", personal("")) // nobody's mark was pushed out
	if seen, err := f.store.ListHabits(context.Background(), f.ids["bob"], store.HabitAnswered, 2*store.MaxAnswered); err != nil || len(seen) != n || n >= store.MaxAnswered {
		t.Errorf("%d senders are remembered of %d, %v", len(seen), n, err)
	}
}

// TestAbuse23StormOnADomain: whoever goes from mailbox to mailbox does not get more answers out of the domain than it gives a day.
func TestAbuse23StormOnADomain(t *testing.T) {
	f, _ := awayFixture(t, MX)
	const boxes = store.AnswersPerDomainDay/store.AnswersPerDay + 2
	for i := range boxes {
		_, err := f.store.AddAccount(context.Background(), store.Account{Name: fmt.Sprintf("user%d", i), Vacation: store.Vacation{On: true, Text: "away"}})
		f.must(err)
	}
	c := f.greeted()
	for i := range store.AnswersPerDay {
		for k := range boxes {
			to := fmt.Sprintf("user%d@example.com", k)
			if got := c.post(fmt.Sprintf("x%d-%d@remote.example", i, k), "To: "+to+"\r\n\r\nx\r\n.\r\n", "<"+to+">"); !strings.HasPrefix(got, "250 2.0.0") {
				t.Fatal(got)
			}
		}
	}
	n := strings.Count(f.log.String(), `msg="vacation answered"`)
	if n != store.AnswersPerDomainDay {
		t.Errorf("%d answers of the domain in a moment, want %d", n, store.AnswersPerDomainDay)
	}
}

// pump carries what a server has queued to another one, as the relay does, and returns how many messages that were.
func (f *fixture) pump(from *memstore.Store, to *client) (n int) {
	f.t.Helper()
	ctx := context.Background()
	jobs, _, err := from.ListJobs(ctx, store.QueueFilter{}, 0, 1000)
	f.must(err)
	for _, j := range jobs {
		text := octetsOf(f.t, from, j.ID)
		if got := to.post(j.ReversePath.String(), text+".\r\n", j.Recipient.Path()); !strings.HasPrefix(got, "250 2.0.0") {
			f.t.Errorf("%s to %s: %s", j.ReversePath.Path(), j.Recipient, got)
		}
		f.must(from.RemoveJobs(ctx, j.ID))
		n++
	}
	return n
}

// TestAbuse23TwoWhoAreAway: two mailboxes with vacation answers, at two servers, of which one writes to the other: one answer, and that is the end.
func TestAbuse23TwoWhoAreAway(t *testing.T) {
	there := memstore.New("remote.example")
	defer func() { _ = there.Close() }()
	_, err := there.AddAccount(t.Context(), store.Account{Name: "x", Vacation: store.Vacation{On: true, Text: "away too"}})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := awayFixture(t, MX)
	g, _ := awayFixture(t, MX, func(o *Options) {
		o.Store, o.Auth, o.Hostname, o.Sending = there, &fakeAuth{store: there, cleartext: true}, testHost, nil
	})
	f.wants(1, f.greeted(), "x@remote.example", personal(""))
	if n := f.pump(f.store, g.greeted()); n != 1 {
		t.Errorf("%d answers reached the other one, want 1", n)
	}
	if n := f.pump(there, f.greeted()); n != 0 {
		t.Errorf("%d answers came back, want none", n)
	}
	u, err := there.Usage(t.Context(), 1)
	if err != nil || u.Messages != 1 {
		t.Errorf("the other one has %d messages, %v; want the answer", u.Messages, err)
	}
}

// TestAbuse23RudeRobot: a robot that answers everything at once, with none of the marks by which robots know each other, gets one answer; one that calls
// itself otherwise each time gets what the mailbox gives in a day.
func TestAbuse23RudeRobot(t *testing.T) {
	for _, tt := range []struct {
		name    string
		from    func(turn int) string
		answers int
	}{
		{"of one name", func(int) string { return "robot@remote.example" }, 1},
		{"of many names", func(turn int) string { return fmt.Sprintf("robot%d@remote.example", turn) }, store.AnswersPerDay},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, _ := awayFixture(t, MX)
			c, ctx := f.greeted(), context.Background()
			got := 0
			for turn := 0; turn < 10*store.AnswersPerDay; turn++ {
				c.post(tt.from(turn), personal(""), "<bob@example.com>")
				jobs := f.jobs()
				if len(jobs) == 0 {
					break // it has nothing to answer any more
				}
				got += len(jobs)
				f.must(f.store.RemoveJobs(ctx, jobs[0].ID))
			}
			if got != tt.answers || len(f.mail("bob")) != got+1 {
				t.Errorf("%d answers, %d messages of the robot; want %d", got, len(f.mail("bob")), tt.answers)
			}
		})
	}
}

// TestAbuse23Injection: nothing that a hostile sender writes becomes a field of the answer, or a recipient of it.
func TestAbuse23Injection(t *testing.T) {
	for name, tt := range map[string]struct{ from, fields string }{
		"subject":       {"x@remote.example", "Subject: =?utf-8?q?a=0D=0ABcc:_victim@elsewhere.example=0D=0A=0D=0Abody?=\r\n"},
		"subject of 8":  {"x@remote.example", "Subject: =?utf-8?b?DQpCY2M6IHZpY3RpbUBlbHNld2hlcmUuZXhhbXBsZQ==?=\r\n"},
		"quoted sender": {`"a> Bcc: victim@elsewhere.example"@remote.example`, ""},
		"message id":    {"x@remote.example", "Message-ID: <a@b>\r\n\tBcc: <victim@elsewhere.example>\r\n"},
		"references":    {"x@remote.example", "References: <a@b>,Bcc:<victim@elsewhere.example> Bcc:victim\r\n"},
		"reply to":      {"x@remote.example", "Reply-To: victim@elsewhere.example\r\nReturn-Path: <victim@elsewhere.example>\r\nErrors-To: victim@elsewhere.example\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := awayFixture(t, MX)
			letter := "From: x@remote.example\r\nTo: bob@example.com\r\n" + tt.fields + "\r\nsecret words\r\n.\r\n"
			f.wants(1, f.greeted(), tt.from, letter)
			j := f.jobs()[0]
			if j.Recipient != address(tt.from) {
				t.Errorf("to %s", j.Recipient)
			}
			octets := octetsOf(t, f.store, j.ID)
			for line := range strings.SplitSeq(octets[:j.HeaderLen], "\r\n") {
				if lower := strings.ToLower(line); strings.HasPrefix(lower, "bcc") || strings.HasPrefix(lower, "reply-to") || strings.HasPrefix(lower, "errors-to") {
					t.Errorf("line %q", line)
				}
			}
			if strings.Contains(octets, "secret") || !strings.Contains(octets[j.HeaderLen:], "I am away.\r\n") {
				t.Errorf("answer %q", octets)
			}
		})
	}
}
