package webmanager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// put puts a message, whose lines end with \n here, into a mailbox, and returns its unique-id.
func (f *fixture) put(name, message string) string {
	f.Helper()
	d, err := f.store.NewDraft(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	wire := strings.ReplaceAll(message, "\n", "\r\n")
	if _, err := d.Write([]byte(wire)); err != nil {
		f.Fatal(err)
	}
	header, _, _ := strings.Cut(wire, "\r\n\r\n")
	receipt, err := d.Commit(f.Context(), store.Envelope{
		Received: received, HeaderLen: int64(min(len(header)+4, len(wire))), Origin: store.Origin{Door: "mx"},
		Recipients: []store.Recipient{{Address: f.parse(name + "@" + domain), Account: f.account(name).ID}},
	})
	if err != nil {
		f.Fatal(err)
	}
	return receipt.Copies[0].UID
}

// drop is all that a session of POP3 sees of a mailbox, with what the trail says of it.
func (f *fixture) drop(name string) (list []string) {
	f.Helper()
	drop, err := f.store.OpenMaildrop(f.Context(), f.account(name).ID)
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = drop.Close() }()
	messages, err := drop.Messages(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	for m := range messages {
		r, err := drop.OpenMessage(f.Context(), m.ID)
		if err != nil {
			f.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			f.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%+v %q", m, text))
	}
	var trail TrailResult
	f.do("GET", "/v1/trail?mailbox="+name, nil, &trail)
	return append(list, fmt.Sprintf("%+v", trail))
}

// uids are the unique-ids of a mailbox, the oldest first.
func (f *fixture) uids(name string) (list []string) {
	f.Helper()
	var page MailPage
	f.do("GET", "/v1/accounts/"+name+"/messages?limit=100", nil, &page)
	for _, m := range slices.Backward(page.List) {
		list = append(list, m.UID)
	}
	return list
}

// as is a client of an actor.
func (f *fixture) as(call int) *Client { return InProcess(f.api, actorFor(f, call)) }

// TestLookChangesNothing: a look into a maildrop, by its owner or by others, leaves it as it is: its messages, unique-ids, what was fetched, and the
// trail; and what was fetched before stays so.
func TestLookChangesNothing(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "postmaster")
	first := f.put("anna", "Subject: one\n\nbody\n")
	f.put("anna", "Subject: two\nContent-Type: text/html\n\n<p>body\n")
	drop, err := f.store.OpenMaildrop(t.Context(), f.account("anna").ID)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := drop.Messages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for m := range messages {
		if m.UID == first {
			err = errors.Join(err, drop.Expunge(t.Context(), nil, []store.CopyID{m.ID}))
		}
	}
	if err = errors.Join(err, drop.Close()); err != nil {
		t.Fatal(err)
	}
	before := f.drop("anna")
	if !strings.Contains(before[0], "Fetched:true") || !strings.Contains(before[1], "Fetched:false") {
		t.Fatalf("the mailbox is not as the test wants it: %q", before)
	}
	look := func(client *Client) {
		t.Helper()
		for _, uid := range f.uids("anna") {
			path := "/v1/accounts/anna/messages/" + uid
			var mail Mail
			if err := client.Do(t.Context(), "GET", path, nil, &mail); err != nil || mail.Text != "body" || mail.UID != uid {
				t.Errorf("%+v, %v", mail, err)
			}
			body, err := client.Stream(t.Context(), "GET", path+"/raw", MessageType, nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(body)
			if err = errors.Join(err, body.Close()); err != nil || !strings.HasSuffix(string(text), "body\r\n") {
				t.Errorf("%q, %v", text, err)
			}
		}
	}
	look(f.as(callMailboxOwn))
	if after := f.drop("anna"); !slices.Equal(before, after) {
		t.Errorf("a look of its owner changed\n%q\nto\n%q", before, after)
	}
	entries := len(f.audit())
	look(f.as(callOwner))
	after := f.drop("anna")
	if !slices.Equal(before[:2], after[:2]) {
		t.Errorf("a look of the domain's owner changed\n%q\nto\n%q", before, after)
	}
	if len(after) != len(before)+1 || !strings.Contains(after[2], "Subject: Somebody looked into your mailbox") || !strings.Contains(after[2], "owner opened a message in the mailbox anna") {
		t.Errorf("its owner was not told, once: %q", after)
	}
	if n := len(f.audit()) - entries; n != 4 {
		t.Errorf("%d entries in the audit log, want 4", n)
	}
}

// TestLookIsSeen: whoever opens a message of another is in the audit log with which; nobody is told of his own looks; and others are told once a day
// for each who looks.
func TestLookIsSeen(t *testing.T) {
	f := newFixture(t)
	now := noon
	f.api.now = func() time.Time { return now }
	f.add("anna", "postmaster")
	uid := f.put("anna", "Subject: one\n\nbody\n")
	path := "/v1/accounts/anna/messages/" + uid
	show := func(client *Client) {
		t.Helper()
		if err := client.Do(t.Context(), "GET", path, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	notices := func() int { return len(f.uids("anna")) - 1 }
	before := len(f.audit())
	show(f.as(callMailboxOwn))
	f.uids("anna")
	if len(f.audit()) != before || notices() != 0 {
		t.Error("somebody was told of a look of the owner's own, or of a list")
	}
	show(f.as(callOwner))
	if e := f.audit()[0]; e.Action != "maildrop.read" || e.Object != "anna" || e.Actor != "owner" || !strings.Contains(e.After, uid) {
		t.Errorf("got %+v", e)
	}
	show(f.as(callOwner))
	if notices() != 1 || len(f.audit()) != before+2 {
		t.Errorf("%d notices, %d entries", notices(), len(f.audit())-before)
	}
	show(f.as(callOperator))
	if notices() != 2 {
		t.Errorf("%d notices for two who looked", notices())
	}
	now = now.Add(lookTold)
	show(f.as(callOwner))
	if notices() != 3 {
		t.Errorf("%d notices a day later", notices())
	}
}

// silent is a store that keeps no audit log.
type silent struct{ Store }

func (silent) AppendAudit(context.Context, store.AuditEntry) error { return errors.New("no room") }

// TestNoLookUnseen: where a look cannot be written down there is none; the owner of the mailbox needs no such note.
func TestNoLookUnseen(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	uid := f.put("anna", "Subject: one\n\nbody\n")
	f.api.store = silent{f.store}
	for _, path := range []string{"/v1/accounts/anna/messages/" + uid, "/v1/accounts/anna/messages/" + uid + "/raw"} {
		for call, want := range map[int]bool{callMailboxOwn: true, callOwner: false, callOperator: false} {
			body, err := f.as(call).Stream(t.Context(), "GET", path, MessageType, nil)
			if (err == nil) != want {
				t.Errorf("%s by %d: %v", path, call, err)
			}
			if err == nil {
				_, _ = io.Copy(io.Discard, body)
				_ = body.Close()
			}
		}
	}
}

// TestMailPages: the newest come first, in pages that overlap nowhere, also when the message that a page ended with is gone.
func TestMailPages(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	for i := range 5 {
		f.put("anna", fmt.Sprintf("Subject: number %d\nFrom: =?utf-8?Q?J=C3=B6rg?= <j@other.example>\nDate: Wed, 01 Apr 2026 10:00:00 +0000\n\nbody\n", i))
	}
	subjects := func(query string) (list []string, next string) {
		var page MailPage
		f.do("GET", "/v1/accounts/anna/messages"+query, nil, &page)
		if page.Messages < 4 || page.Octets == 0 {
			t.Errorf("got %+v", page)
		}
		for _, m := range page.List {
			if m.From != "Jörg <j@other.example>" || m.Date.Hour() != 10 || m.Received.IsZero() || m.Size == 0 {
				t.Errorf("got %+v", m)
			}
			list = append(list, strings.TrimPrefix(m.Subject, "number "))
		}
		return list, page.Next
	}
	want := func(query, want string) (next string) {
		t.Helper()
		list, next := subjects(query)
		if got := strings.Join(list, " "); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
		return next
	}
	want("", "4 3 2 1 0")
	want("?limit=5", "4 3 2 1 0")
	next := want("?limit=2", "4 3")
	if next = want("?limit=2&before="+next, "2 1"); next == "" {
		t.Fatal("there is one more")
	}
	drop, err := f.store.OpenMaildrop(t.Context(), f.account("anna").ID)
	if err != nil {
		t.Fatal(err)
	}
	messages, _ := drop.Messages(t.Context())
	for m := range messages {
		if m.UID == next {
			err = drop.Expunge(t.Context(), []store.CopyID{m.ID}, nil)
		}
	}
	if err = errors.Join(err, drop.Close()); err != nil {
		t.Fatal(err)
	}
	if last := want("?limit=2&before="+next, "0"); last != "" {
		t.Errorf("nothing is before, and %q is said to be", last)
	}
	for limit, ok := range map[string]bool{"0": false, "1": true, "100": true, "101": false, "x": false} {
		if err := f.client.Do(t.Context(), "GET", "/v1/accounts/anna/messages?limit="+limit, nil, nil); (err == nil) != ok {
			t.Errorf("limit %s: %v", limit, err)
		}
	}
}

// TestNoMail: mailboxes, and messages, that cannot be opened.
func TestNoMail(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert", "carl")
	uid := f.put("bert", "Subject: bert's\n\nbody\n")
	suspended := true
	f.do("PATCH", "/v1/accounts/carl", AccountChange{Suspended: &suspended}, nil)
	before := len(f.audit())
	for path, code := range map[string]Code{
		"/v1/accounts/nobody/messages":               CodeNotFound,
		"/v1/accounts/carl/messages":                 CodeConflict,
		"/v1/accounts/anna/messages/" + uid:          CodeNotFound, // another's
		"/v1/accounts/anna/messages/" + uid + "/raw": CodeNotFound,
		"/v1/accounts/bert/messages/x":               CodeNotFound,
	} {
		if err := f.client.Do(t.Context(), "GET", path, nil, nil); !isCode(err, code) {
			t.Errorf("%s: %v, want %s", path, err, code)
		}
	}
	if len(f.audit()) != before {
		t.Error("what was not shown is in the audit log")
	}
}

// damaged is a store in which messages break off behind so many octets.
type damaged struct {
	Store
	after int
}

type damagedDrop struct {
	store.Maildrop
	after int
}

func (d damaged) OpenMaildrop(ctx context.Context, id store.AccountID) (store.Maildrop, error) {
	drop, err := d.Store.OpenMaildrop(ctx, id)
	return damagedDrop{drop, d.after}, err
}

func (d damagedDrop) OpenMessage(ctx context.Context, id store.CopyID) (io.ReadCloser, error) {
	r, err := d.Maildrop.OpenMessage(ctx, id)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, int64(d.after)), breaksOff{}), r}, nil
}

type breaksOff struct{}

func (breaksOff) Read([]byte) (int, error) { return 0, store.ErrDamaged }

// TestDamagedMail: a message that the disk lost is said to be damaged; and half of one is never taken for the whole.
func TestDamagedMail(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	uid := f.put("anna", "Subject: one\n\nbody\n")
	path := "/v1/accounts/anna/messages/" + uid
	for _, after := range []int{0, 5} {
		f.api.store = damaged{f.store, after}
		if err := f.as(callMailboxOwn).Do(t.Context(), "GET", path, nil, nil); !isCode(err, CodeDamaged) {
			t.Errorf("%d: %v", after, err)
		}
		body, err := f.as(callMailboxOwn).Stream(t.Context(), "GET", path+"/raw", MessageType, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, body)
			_ = body.Close()
		}
		if !isCode(err, CodeDamaged) {
			t.Errorf("the download, %d: %v", after, err)
		}
	}
	f.api.store = f.store
}

// TestReadersAreBounded: so many messages are read at the same time; whoever waits for his turn and goes has not taken one.
func TestReadersAreBounded(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	uid := f.put("anna", "Subject: one\n\nbody\n")
	for range maxReaders {
		f.api.readers <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.api.readTurn(ctx); err == nil {
		t.Error("there is one turn more than may be")
	}
	if err := f.as(callMailboxOwn).Do(ctx, "GET", "/v1/accounts/anna/messages/"+uid, nil, nil); err == nil {
		t.Error("one more was read than may be")
	}
	<-f.api.readers
	if err := f.as(callMailboxOwn).Do(t.Context(), "GET", "/v1/accounts/anna/messages/"+uid, nil, nil); err != nil {
		t.Errorf("with room: %v", err)
	}
}

// TestDownloadHeaders: what comes with a message as it is.
func TestDownloadHeaders(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	message := "Content-Type: text/html\n\n<script>alert(1)</script>\n"
	uid := f.put("anna", message)
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/v1/accounts/anna/messages/"+uid+"/raw", nil)
	f.api.ServeHTTP(w, r.WithContext(WithActor(t.Context(), actorFor(f, callMailboxOwn))))
	body := w.Body.String()
	for name, want := range map[string]string{
		"Content-Type": MessageType, "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'",
		"Content-Disposition": `attachment; filename="` + uid + `.eml"`, "Content-Length": fmt.Sprint(len(body)), "Cache-Control": "no-store",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if body != strings.ReplaceAll(message, "\n", "\r\n") {
		t.Errorf("got %q", body)
	}
}

// TestQueueOfOne: the owner of a mailbox sees deliveries of what it sent, and is not told that there are others.
func TestQueueOfOne(t *testing.T) {
	f := provingFixture(t)
	f.sentBy("anna", 0, "x", "x@other.example")
	f.sentBy("bert", 0, "x", "y@other.example")
	client := f.as(callMailboxOwn)
	var page QueuePage
	if err := client.Do(t.Context(), "GET", "/v1/queue", nil, &page); err != nil || len(page.Jobs) != 1 || page.Jobs[0].Recipient.String() != "x@other.example" {
		t.Errorf("%+v, %v", page, err)
	}
	var all QueuePage
	f.do("GET", "/v1/queue", nil, &all)
	for _, j := range append(all.Jobs, store.Job{ID: 4711}) {
		var job store.Job
		err := client.Do(t.Context(), "GET", fmt.Sprintf("/v1/queue/%d", j.ID), nil, &job)
		if mine := j.Submitter == f.account("anna").ID; mine && (err != nil || job.ID != j.ID) || !mine && !isCode(err, CodeNotFound) {
			t.Errorf("%d: %+v, %v", j.ID, job, err)
		}
	}
}

// TestMay: the table of roles, asked without a request.
func TestMay(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	for pattern, who := range mayCall {
		for call, own := range map[int]int{callStranger: callStranger, callMailboxOwn: callMailboxOwn, callOwner: callOwner, callOperator: callOperator} {
			want := who[own] == 'Y' || (strings.HasSuffix(pattern, "/totp") || strings.HasSuffix(pattern, "/passkeys")) && call > callMailboxOwn // nobody's own here
			if err := f.api.May(actorFor(f, call), pattern); (err == nil) != want {
				t.Errorf("%s by %d: %v", pattern, call, err)
			}
		}
		if err := f.api.May(Actor{Role: RoleOperator, ReadOnly: true}, pattern); (err == nil) == f.api.table[pattern].changes {
			t.Errorf("%s by one who may only read: %v", pattern, err)
		}
	}
	if err := f.api.May(Actor{Role: RoleOperator}, "GET /v1/nothing"); !isCode(err, CodeForbidden) {
		t.Errorf("no route: %v", err)
	}
}
