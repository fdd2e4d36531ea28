package webmanager

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// sentBy stores a message of a mailbox, with a device, to others.
func (f *fixture) sentBy(name string, device store.DeviceID, subject string, to ...string) store.Receipt {
	f.Helper()
	key, err := store.LoadSubjectKey(f.Context(), f.store)
	if err != nil {
		f.Fatal(err)
	}
	d, err := f.store.NewDraft(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	e := store.Envelope{
		ReversePath: f.parse(name + "@" + domain), Submitter: f.account(name).ID, Received: received, Subject: key.Tokens(subject),
		Origin: store.Origin{Door: "submission", Remote: netip.MustParseAddr("192.0.2.9"), Device: device},
	}
	for _, text := range to {
		r := store.Recipient{Address: f.parse(text)}
		if box, local := strings.CutSuffix(text, "@"+domain); local {
			r.Account = f.account(box).ID
		}
		e.Recipients = append(e.Recipients, r)
	}
	receipt, err := d.Commit(f.Context(), e)
	if err != nil {
		f.Fatal(err)
	}
	return receipt
}

func (f *fixture) parse(text string) mailaddr.Address {
	f.Helper()
	a, err := mailaddr.Parse(text)
	if err != nil {
		f.Fatal(err)
	}
	return a
}

// TestTrailNames: mailboxes and devices are called by their names while they are there.
func TestTrailNames(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	device := f.device("anna", "Scanner")
	r := f.sentBy("anna", device.ID, "x", "bert@example.com")
	get := func() string {
		t.Helper()
		var result TrailResult
		f.do("GET", "/v1/trail?for="+r.Message.String(), nil, &result)
		if len(result.Messages) != 1 || len(result.Messages[0].Events) != 2 {
			t.Fatalf("trail %+v", result)
		}
		a, s := result.Messages[0].Events[0], result.Messages[0].Events[1]
		return fmt.Sprintf("%s by %s, in %s", a.Mailbox, a.Device, s.Mailbox)
	}
	if got := get(); got != "anna by Scanner, in bert" {
		t.Errorf("got %q", got)
	}
	f.do("DELETE", Path("accounts", "anna", "devices", "Scanner"), nil, nil)
	if err := f.store.RemoveAccount(t.Context(), f.account("bert").ID); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != "anna by , in " {
		t.Errorf("after they are gone: got %q", got)
	}
}

// TestTrailSearch: each parameter, and pages.
func TestTrailSearch(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	var ids []string
	for i := range 5 {
		to, subject := "bert@example.com", "Invoice"
		if i%2 == 1 {
			to, subject = "x@one.example", "Holidays"
		}
		ids = append(ids, f.sentBy("anna", 0, subject, to).Message.String())
	}
	for query, want := range map[string]string{
		"":                                  "4 3 2 1 0",
		"limit=2":                           "4 3 next",
		"limit=2&before=" + ids[3]:          "2 1 next",
		"limit=2&before=" + ids[1]:          "0",
		"limit=5":                           "4 3 2 1 0",
		"from=anna&limit=1":                 "4 next",
		"to=bert":                           "4 2 0",
		"to=bert@example.com&subject=x+may": "",
		"subject=INVOICE":                   "4 2 0",
		"subject=invoice&to=x@one.example":  "",
		"mailbox=bert":                      "4 2 0",
		"mailbox=anna&for=x@one.example":    "3 1",
		"since=2099-04-01T12:00:00Z":        "4 3 2 1 0",
		"until=2099-04-01T12:00:00Z":        "",
		"for=" + ids[2]:                     "2",
		"for=" + url.QueryEscape("<x@y>"):   "",
	} {
		var result TrailResult
		f.do("GET", "/v1/trail?"+query, nil, &result)
		var got []string
		for _, m := range result.Messages {
			for i, id := range ids {
				if id == m.ID.String() {
					got = append(got, fmt.Sprint(i))
				}
			}
		}
		if result.Next != "" {
			got = append(got, "next")
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	r := f.deliver() // with a Message-ID
	var result TrailResult
	f.do("GET", "/v1/trail?for=1@example.com", nil, &result) // without its brackets
	if len(result.Messages) != 1 || result.Messages[0].ID != r.Message {
		t.Errorf("Message-ID without brackets: got %+v", result)
	}
}

// TestQueueFilters: by addresses and by the host that was last asked, up to a number.
func TestQueueFilters(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	first, second := f.deliver().Jobs, f.deliver().Jobs
	f.finish("one.example", store.Deferred, store.Peer{Host: "mx.one.example"}, "451 later")
	for query, want := range map[string]int{
		"": 4, "sender=anna@example.com": 4, "sender=bert@example.com": 0, "recipient=x@one.example": 2, "host=MX.ONE.example": 2, "host=mx.two.example": 0,
		fmt.Sprintf("up_to=%d", first[1]): 2, fmt.Sprintf("host=mx.one.example&up_to=%d", second[0]-1): 1,
	} {
		var q QueuePage
		f.do("GET", "/v1/queue?"+query, nil, &q)
		if len(q.Jobs) != want || q.Next != 0 {
			t.Errorf("%s: %d jobs, next %d, want %d", query, len(q.Jobs), q.Next, want)
		}
	}
}

// TestRemoveWithBounce: the deliveries are left to the relay, with the reason, and the audit log has both.
func TestRemoveWithBounce(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	jobs := f.deliver().Jobs
	for _, tt := range []struct{ reason, want string }{{"", removedByHand}, {"a mistake", "a mistake"}} {
		var r QueueResult
		f.do("POST", "/v1/queue/remove", QueueAction{IDs: append(jobs, 99), Bounce: true, Reason: tt.reason}, &r)
		if fmt.Sprint(r.Done, r.Gone, r.Refused) != fmt.Sprintf("%v [99] []", jobs) {
			t.Errorf("got %+v", r)
		}
		if j := f.job(jobs[0]); j.GivenUp != tt.want || !j.NextAttempt.Equal(noon) {
			t.Errorf("got %+v, want it given up for %q", j, tt.want)
		}
		if got := f.actions("queue")[0]; !strings.Contains(got, `"reason":"`+tt.want+`","bounce":true`) {
			t.Errorf("audit: %s", got)
		}
	}
	if err := f.client.Do(t.Context(), "POST", "/v1/queue/remove", QueueAction{IDs: jobs, Reason: "x"}, nil); !isCode(err, CodeInvalid) {
		t.Errorf("a reason without a bounce: %v", err)
	}
}
