package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"latchkey/store"
)

var maildropTests = []test{
	{"UniqueIDs", TestUniqueIDs},
	{"SnapshotIsFixed", TestSnapshotIsFixed},
	{"SnapshotKeepsDeletedMessages", TestSnapshotKeepsDeletedMessages},
	{"SnapshotOutlivesAccount", TestSnapshotOutlivesAccount},
	{"ReaderOutlivesMaildrop", TestReaderOutlivesMaildrop},
	{"OpenMessageOfOthers", TestOpenMessageOfOthers},
	{"OpenHeader", TestOpenHeader},
	{"OpenHeaderOfDeleted", TestOpenHeaderOfDeleted},
	{"MessagesThatWriteThemselves", TestMessagesThatWriteThemselves},
	{"Expunge", TestExpunge},
	{"ExpungeForeign", TestExpungeForeign},
	{"ExpungeTwice", TestExpungeTwice},
	{"SpaceIsGivenBack", TestSpaceIsGivenBack},
	{"SuspendedMaildrop", TestSuspendedMaildrop},
	{"UnknownMaildrop", TestUnknownMaildrop},
}

var uniqueID = regexp.MustCompile(`^[0-9a-f]{24}$`)

// TestUniqueIDs: one form, ascending, never given again: not after deletion of the last, not after the store was opened again
// (RFC 1939 §7).
func TestUniqueIDs(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	var given []string
	for i := range 4 {
		r := h.send(message(fmt.Sprint("m", i)), to(anna), to(bob))
		for _, c := range r.Copies {
			if !uniqueID.MatchString(c.UID) || !strings.HasSuffix(c.UID, fmt.Sprintf("%016x", uint64(c.ID))) {
				t.Errorf("unique-id %q of copy %d is not the one of store.UniqueID", c.UID, c.ID)
			}
			given = append(given, c.UID)
		}
		if i%2 == 0 {
			before := h.list(anna.ID)
			h.expunge(bob.ID, r.Copies[1].ID)
			h.reopen()
			if after := h.list(anna.ID); !slices.EqualFunc(before, after, sameMessage) {
				t.Errorf("listing changed from %+v to %+v", before, after)
			}
		}
	}
	if !slices.IsSorted(given) || len(slices.Compact(slices.Clone(given))) != len(given) {
		t.Errorf("unique-ids do not ascend: %q", given)
	}
}

func sameMessage(a, b store.Message) bool {
	if !a.Received.Equal(b.Received) {
		return false
	}
	a.Received = b.Received
	return a == b
}

// TestSnapshotIsFixed: what arrives or goes later does not change a snapshot; a new one has every acknowledged commit.
func TestSnapshotIsFixed(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	first := h.send(message("one"), to(anna))
	h.send(message("two"), to(anna))
	old := h.maildrop(anna.ID)
	listed := h.messages(old)
	third := h.send(message("three"), to(anna))
	h.expunge(anna.ID, first.Copies[0].ID)
	if got := h.messages(old); len(got) != 2 || !slices.EqualFunc(got, listed, sameMessage) {
		t.Errorf("the snapshot lists %+v, want %+v", got, listed)
	}
	_, err := old.OpenMessage(h.ctx, third.Copies[0].ID)
	h.want(err, store.ErrNotFound)
	h.wantBodies(anna.ID, message("two"), message("three"))
	h.must(old.Close())
	h.must(old.Close())
	if _, err := old.OpenMessage(h.ctx, listed[1].ID); err == nil {
		t.Error("a closed maildrop opened a message")
	}
	if err := old.Expunge(h.ctx, []store.CopyID{listed[1].ID}, nil); err == nil {
		t.Error("a closed maildrop deleted a message")
	}
	h.wantBodies(anna.ID, message("two"), message("three"))
}

// TestSnapshotKeepsDeletedMessages: what another session deletes stays readable, small or large, opened before or after.
func TestSnapshotKeepsDeletedMessages(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	large := message("large") + strings.Repeat("0123456789abcde\r\n", 20_000)
	r := h.send(message("one"), to(anna)).Copies[0].ID
	l := h.send(large, to(anna)).Copies[0].ID
	md, other := h.maildrop(anna.ID), h.maildrop(anna.ID)
	reader, err := md.OpenMessage(h.ctx, l)
	h.must(err)
	head := make([]byte, 100)
	_, err = io.ReadFull(reader, head)
	h.must(err)
	h.expunge(anna.ID, r, l)
	h.send(message("new"), to(anna))
	if got := string(head) + h.readAll(reader); got != large {
		t.Error("the half read message changed when another session deleted it")
	}
	for _, snapshot := range []store.Maildrop{md, other} {
		if h.read(snapshot, r) != message("one") || h.read(snapshot, l) != large {
			t.Error("a deleted message does not read as before in an older snapshot")
		}
		h.must(snapshot.Close())
	}
	h.wantBodies(anna.ID, message("new"))
	h.wantBodyCount(1)
}

// TestSnapshotOutlivesAccount: removal of the account is deletion by another session too.
func TestSnapshotOutlivesAccount(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	id := h.send(message("one"), to(anna)).Copies[0].ID
	md := h.maildrop(anna.ID)
	h.must(h.s.RemoveAccount(h.ctx, anna.ID))
	if got := h.read(md, id); got != message("one") {
		t.Errorf("message reads %q after its account was removed", got)
	}
	h.must(md.Expunge(h.ctx, []store.CopyID{id}, []store.CopyID{id}))
	h.must(md.Close())
	h.wantBodyCount(0)
}

// TestReaderOutlivesMaildrop: an open message may be read and closed after the maildrop was closed, even when deleted.
func TestReaderOutlivesMaildrop(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	large := message("large") + strings.Repeat("0123456789abcde\r\n", 20_000)
	for _, body := range []string{message("small"), large} {
		id := h.send(body, to(anna)).Copies[0].ID
		md := h.maildrop(anna.ID)
		reader, err := md.OpenMessage(h.ctx, id)
		h.must(err)
		h.must(md.Expunge(h.ctx, []store.CopyID{id}, nil))
		h.must(md.Close())
		if got := h.readAll(reader); got != body {
			t.Errorf("read %d octets after the maildrop was closed, want %d", len(got), len(body))
		}
	}
	h.wantBodyCount(0)
}

// TestMessagesThatWriteThemselves: a reader of a message that implements io.WriterTo writes what it would have given to Read, from any
// place on, and passes on what its writer says.
func TestMessagesThatWriteThemselves(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	broken := errors.New("broken")
	for _, text := range []string{message("small"), message("large") + strings.Repeat("0123456789abcde\r\n", 20_000)} {
		md := h.maildrop(anna.ID)
		with := to(anna)
		with.Prefix = []byte("Delivered-To: anna\r\n")
		id := h.send(text, with).Copies[0].ID
		h.must(md.Close())
		md = h.maildrop(anna.ID)
		want := string(with.Prefix) + text
		for _, read := range []int{0, 1, len(with.Prefix), len(with.Prefix) + 5, len(want)} {
			r, err := md.OpenMessage(h.ctx, id)
			h.must(err)
			from, ok := r.(io.WriterTo)
			if !ok {
				h.must(r.Close())
				break
			}
			var got bytes.Buffer
			_, err = io.CopyN(&got, r, int64(read))
			h.must(err)
			n, err := from.WriteTo(struct{ io.Writer }{&got})
			if err != nil || n != int64(len(want)-read) || got.String() != want {
				t.Errorf("after %d octets: wrote %d, %v; %d octets in all, want %d", read, n, err, got.Len(), len(want))
			}
			h.must(r.Close())
			r, err = md.OpenMessage(h.ctx, id)
			h.must(err)
			if n, err := r.(io.WriterTo).WriteTo(&failAfter{left: read, err: broken}); read < len(want) && (n != int64(read) || !errors.Is(err, broken)) {
				t.Errorf("a writer that fails after %d octets: wrote %d, %v", read, n, err)
			}
			h.must(r.Close())
		}
		h.must(md.Close())
	}
}

// failAfter takes some octets and then fails.
type failAfter struct {
	left int
	err  error
}

func (w *failAfter) Write(p []byte) (int, error) {
	if len(p) <= w.left {
		w.left -= len(p)
		return len(p), nil
	}
	n := w.left
	w.left = 0
	return n, w.err
}

// TestOpenMessageOfOthers: a snapshot yields only what it holds.
func TestOpenMessageOfOthers(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	r := h.send(message("one"), to(anna), to(bob))
	md := h.maildrop(anna.ID)
	for _, id := range []store.CopyID{r.Copies[1].ID, r.Copies[1].ID + 1, 0} {
		_, err := md.OpenMessage(h.ctx, id)
		h.want(err, store.ErrNotFound)
	}
	h.must(md.Close())
}

// TestOpenHeader: it yields the copy's first HeaderLen octets, its own prefix first, to the octet, whatever follows.
func TestOpenHeader(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	prefix := "Return-Path: <sender@elsewhere.example>\r\n"
	prefixed := to(anna)
	prefixed.Prefix = []byte(prefix)
	long := strings.Repeat("X-Filler: "+strings.Repeat("y", 60)+"\r\n", 3000) + "\r\n"
	tests := []struct{ name, header, rest string }{
		{"plain", "Subject: one\r\n\r\n", "Text.\r\n"},
		{"no text", "Subject: one\r\n\r\n", ""},
		{"no end of the header", "Subject: one\r\n", ""},
		{"no header", "\r\n", "Text.\r\n"},
		{"nothing at all", "", ""},
		{"large text", "Subject: one\r\n\r\n", strings.Repeat("0123456789abcde\r\n", 20_000)},
		{"large header", long, strings.Repeat("0123456789abcde\r\n", 20_000)},
	}
	for _, test := range tests {
		h.send(test.header+test.rest, prefixed, to(bob))
	}
	for range 2 {
		for id, prefix := range map[store.AccountID]string{anna.ID: prefix, bob.ID: ""} {
			md := h.maildrop(id)
			for i, m := range h.messages(md) {
				r, err := md.OpenHeader(h.ctx, m.ID)
				h.must(err)
				if got, want := h.readAll(r), prefix+tests[i].header; got != want {
					t.Errorf("%s: the header has %d octets, want %d", tests[i].name, len(got), len(want))
				}
			}
			h.must(md.Close())
		}
		h.reopen()
	}
	md, other := h.maildrop(anna.ID), h.list(bob.ID)[0].ID
	for _, id := range []store.CopyID{other, other + 100, 0} {
		_, err := md.OpenHeader(h.ctx, id)
		h.want(err, store.ErrNotFound)
	}
	id := h.messages(md)[0].ID
	h.must(md.Close())
	if _, err := md.OpenHeader(h.ctx, id); err == nil {
		t.Error("a closed maildrop opened a header")
	}
}

// TestOpenHeaderOfDeleted: it stays readable in an older snapshot, and once it is open even after that.
func TestOpenHeaderOfDeleted(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	for _, rest := range []string{"Text.\r\n", strings.Repeat("0123456789abcde\r\n", 20_000)} {
		const header = "Subject: one\r\n\r\n"
		id := h.send(header+rest, to(anna)).Copies[0].ID
		md := h.maildrop(anna.ID)
		h.expunge(anna.ID, id)
		r, err := md.OpenHeader(h.ctx, id)
		h.must(err)
		again, err := md.OpenHeader(h.ctx, id)
		h.must(err)
		if got := h.readAll(r); got != header {
			t.Errorf("the header of a deleted message reads %q", got)
		}
		h.must(md.Close())
		if got := h.readAll(again); got != header {
			t.Errorf("the header reads %q after the maildrop was closed", got)
		}
	}
	h.wantBodyCount(0)
}

// TestExpunge: exactly the copies named are gone, durably, and of nobody else.
func TestExpunge(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	var ids []store.CopyID
	for _, name := range []string{"one", "two", "three", "four"} {
		ids = append(ids, h.send(message(name), to(anna), to(bob)).Copies[0].ID)
	}
	h.expunge(anna.ID) // none is a good answer too
	h.expunge(anna.ID, ids[2], ids[0], ids[2])
	for range 2 {
		h.wantBodies(anna.ID, message("two"), message("four"))
		h.wantUsage(anna.ID, int64(len(message("two")+message("four"))), 2)
		h.wantBodies(bob.ID, message("one"), message("two"), message("three"), message("four"))
		h.wantBodyCount(4)
		h.reopen()
	}
}

// TestExpungeForeign: ids of another maildrop, or of nothing, change nothing, and do not keep the others from going.
func TestExpungeForeign(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	r := h.send(message("one"), to(anna), to(bob))
	h.send(message("two"), to(anna))
	h.expunge(anna.ID, r.Copies[1].ID, 0, 1<<60)
	h.wantBodies(anna.ID, message("one"), message("two"))
	h.expunge(anna.ID, r.Copies[1].ID, r.Copies[0].ID, 1<<60)
	for range 2 {
		h.wantBodies(anna.ID, message("two"))
		h.wantBodies(bob.ID, message("one"))
		h.wantUsage(bob.ID, int64(len(message("one"))), 1)
		h.reopen()
	}
}

// TestExpungeTwice: an id that is gone already changes no counter.
func TestExpungeTwice(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	id := h.send(message("one"), to(anna)).Copies[0].ID
	h.send(message("two"), to(anna))
	first, second := h.maildrop(anna.ID), h.maildrop(anna.ID)
	for _, md := range []store.Maildrop{first, second, first} {
		h.must(md.Expunge(h.ctx, []store.CopyID{id}, []store.CopyID{id}))
		h.wantUsage(anna.ID, int64(len(message("two"))), 1)
	}
	h.must(first.Close())
	h.must(second.Close())
	h.reopen()
	h.wantUsage(anna.ID, int64(len(message("two"))), 1)
	h.wantBodies(anna.ID, message("two"))
}

// TestSpaceIsGivenBack: a body goes with its last copy and job.
func TestSpaceIsGivenBack(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	r := h.send(strings.Repeat("x", 200<<10), to(anna), to(bob), away("out@elsewhere.example"))
	h.expunge(anna.ID, r.Copies[0].ID)
	h.wantUsage(anna.ID, 0, 0)
	h.wantBodyCount(1)
	h.must(h.s.RemoveAccount(h.ctx, bob.ID))
	h.wantBodyCount(1)
	h.reopen()
	j := h.lease(h.now, 1, 1<<40)
	if len(j) != 1 {
		t.Fatalf("leased %d jobs, want 1", len(j))
	}
	h.finish(h.now, j[0], store.Delivered, h.now)
	h.wantBodyCount(0)
	h.reopen()
	h.wantBodyCount(0)
}

// TestSuspendedMaildrop: it cannot be opened, and opens as before when the account is resumed.
func TestSuspendedMaildrop(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	h.send(message("one"), to(anna))
	h.update(anna.ID, func(a *store.Account) { a.Suspended = true })
	h.reopen()
	_, err := h.s.OpenMaildrop(h.ctx, anna.ID)
	h.want(err, store.ErrSuspended)
	h.wantUsage(anna.ID, int64(len(message("one"))), 1)
	h.update(anna.ID, func(a *store.Account) { a.Suspended = false })
	h.wantBodies(anna.ID, message("one"))
}

// TestUnknownMaildrop: there is none without an account.
func TestUnknownMaildrop(t *testing.T, f Factory) {
	h := open(t, f)
	for _, id := range []store.AccountID{0, 1, 1 << 60} {
		_, err := h.s.OpenMaildrop(h.ctx, id)
		h.want(err, store.ErrNotFound)
		_, err = h.s.Usage(h.ctx, id)
		h.want(err, store.ErrNotFound)
	}
}
