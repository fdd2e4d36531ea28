package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"latchkey/store"
)

var listingTests = []test{
	{"StatIsFixed", TestStatIsFixed},
	{"ListedLate", TestListedLate},
	{"ListedAfterRemoval", TestListedAfterRemoval},
	{"ClosedWithoutList", TestClosedWithoutList},
	{"ExpungeWithoutList", TestExpungeWithoutList},
	{"ListCancelled", TestListCancelled},
	{"ListsBesideChanges", TestListsBesideChanges},
}

// largeBody is a body that gets a file of its own.
func largeBody(name string) string {
	return message(name) + strings.Repeat("0123456789abcde\r\n", 20_000)
}

// TestStatIsFixed: Stat says what the maildrop held when the snapshot was taken, and needs no list.
func TestStatIsFixed(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	var want store.Usage
	empty := h.maildrop(anna.ID)
	for i := range 5 {
		id := h.send(message(strings.Repeat("x", i)), to(anna)).Copies[0].ID
		before, err := h.s.Usage(h.ctx, anna.ID)
		h.must(err)
		md := h.maildrop(anna.ID)
		h.send(message("later"), to(anna))
		if i%2 == 0 {
			h.expunge(anna.ID, id)
		}
		if got := md.Stat(); got != before || got.Messages == want.Messages {
			t.Errorf("the snapshot holds %+v, want %+v", got, before)
		}
		want = before
		h.must(md.Close())
		if got := md.Stat(); got != before {
			t.Errorf("the closed snapshot held %+v, want %+v", got, before)
		}
	}
	if got := empty.Stat(); got != (store.Usage{}) || len(h.messages(empty)) != 0 {
		t.Errorf("the first snapshot holds %+v, want nothing", got)
	}
	h.must(empty.Close())
}

// TestListedLate: a snapshot that is listed late, after others deleted and delivered, lists and yields what one does that was listed at
// once. What the engine knows by when of all that is varied.
func TestListedLate(t *testing.T, f Factory) {
	for looks := range 8 {
		t.Run(fmt.Sprintf("%03b", looks), func(t *testing.T) {
			h := open(t, f)
			anna, bob := h.account("anna"), h.account("bob")
			// settle makes an engine whose readers of the trail wait bring everything up to date, in some of the runs.
			settle := func(at int, id store.MessageID) {
				if looks&(1<<at) != 0 {
					_, err := h.s.MessageTrail(h.ctx, id)
					h.must(err)
				}
			}
			prefixed := to(anna)
			prefixed.Prefix = []byte("Delivered-To: anna\r\n")
			bodies := []string{message("one"), largeBody("two"), message("three"), message("four"), largeBody("five"), message("six")}
			var ids []store.CopyID
			var last store.MessageID
			for i, body := range bodies {
				recipients := []store.Recipient{prefixed}
				if i%3 != 0 {
					recipients = append(recipients, to(bob))
				}
				r := h.send(body, recipients...)
				ids, last = append(ids, r.Copies[0].ID), r.Message
			}
			h.expunge(anna.ID, ids[2]) // is in none of them
			settle(0, last)
			late, untouched, atOnce := h.maildrop(anna.ID), h.maildrop(anna.ID), h.maildrop(anna.ID)
			want := h.messages(atOnce)

			one, two := h.maildrop(anna.ID), h.maildrop(anna.ID)
			h.must(two.Expunge(h.ctx, []store.CopyID{ids[4], ids[0]}, nil))
			new1 := h.send(message("new"), to(anna))
			settle(1, new1.Message)
			between := h.maildrop(anna.ID)
			new2 := h.send(largeBody("newer"), to(anna))
			h.expunge(anna.ID, new1.Copies[0].ID, new2.Copies[0].ID, ids[1])
			h.must(one.Expunge(h.ctx, []store.CopyID{ids[0], ids[1], ids[3]}, ids))
			settle(2, new2.Message)
			h.must(errors.Join(one.Close(), two.Close(), untouched.Close()))

			for _, md := range []store.Maildrop{late, atOnce} {
				got := h.messages(md)
				for i := range got { // see TestFetchedByOthers
					got[i].Fetched = got[i].Fetched && md == atOnce
				}
				if !slices.EqualFunc(got, want, sameMessage) {
					t.Errorf("listed %+v, want %+v", got, want)
				}
				for i, id := range ids {
					if i == 2 {
						_, err := md.OpenMessage(h.ctx, id)
						h.want(err, store.ErrNotFound)
					} else if got := h.read(md, id); got != "Delivered-To: anna\r\n"+bodies[i] {
						t.Errorf("message %d reads otherwise when it is listed late", i)
					}
				}
				for _, id := range []store.CopyID{new1.Copies[0].ID, new2.Copies[0].ID} {
					_, err := md.OpenMessage(h.ctx, id)
					h.want(err, store.ErrNotFound)
				}
			}
			if got := h.messages(between); len(got) != 4 || got[3].ID != new1.Copies[0].ID || h.read(between, got[3].ID) != message("new") {
				t.Errorf("the snapshot in between lists %+v", got)
			}
			h.wantBodies(anna.ID, "Delivered-To: anna\r\n"+bodies[5])
			h.must(errors.Join(late.Close(), atOnce.Close(), between.Close()))
			h.wantBodyCount(4) // bob has four
		})
	}
}

// TestListedAfterRemoval: what a removed account had is listed and read by those who opened it before.
func TestListedAfterRemoval(t *testing.T, f Factory) {
	for _, swept := range []bool{false, true} {
		h := open(t, f)
		anna, bob := h.account("anna"), h.account("bob")
		var bodies []string
		for i := range 5 {
			bodies = append(bodies, message(fmt.Sprint(i)))
			h.send(bodies[i], to(anna), to(bob))
		}
		late, atOnce := h.maildrop(anna.ID), h.maildrop(anna.ID)
		want := h.messages(atOnce)
		h.expunge(anna.ID, want[3].ID)
		h.must(h.s.RemoveAccount(h.ctx, anna.ID))
		if swept {
			h.wantBodyCount(5)
			h.must(h.s.RemoveAccount(h.ctx, bob.ID))
			h.wantBodyCount(0)
		}
		got := h.messages(late)
		if !slices.EqualFunc(got, want, sameMessage) {
			t.Errorf("after the removal: %+v, want %+v", got, want)
		}
		for i, m := range got {
			if text := h.read(late, m.ID); text != bodies[i] {
				t.Errorf("after the removal message %d reads %q", i, text)
			}
		}
		h.must(errors.Join(late.Close(), atOnce.Close()))
	}
}

// TestClosedWithoutList: a snapshot that nobody asked for its list keeps nothing when it is closed.
func TestClosedWithoutList(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	r, l := h.send(message("one"), to(anna)).Copies[0].ID, h.send(largeBody("two"), to(anna)).Copies[0].ID
	md, other := h.maildrop(anna.ID), h.maildrop(anna.ID)
	h.must(other.Close())
	h.expunge(anna.ID, r, l)
	h.must(md.Expunge(h.ctx, nil, nil))
	h.must(errors.Join(md.Close(), md.Close(), other.Close()))
	h.wantBodyCount(0)
	_, err := md.Messages(h.ctx)
	h.want(err, store.ErrClosed)
}

// TestExpungeWithoutList: a snapshot deletes and notes what it holds, and nothing else, also if nobody has asked for its list.
func TestExpungeWithoutList(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	var ids []store.CopyID
	for _, name := range []string{"one", "two", "three"} {
		ids = append(ids, h.send(message(name), to(anna)).Copies[0].ID)
	}
	first, second := h.maildrop(anna.ID), h.maildrop(anna.ID)
	late := h.send(message("four"), to(anna)).Copies[0].ID
	h.must(first.Expunge(h.ctx, []store.CopyID{ids[0], late}, nil))
	h.must(second.Expunge(h.ctx, []store.CopyID{ids[0], ids[1], late, 1 << 60}, ids))
	h.must(errors.Join(first.Close(), second.Close()))
	h.wantBodies(anna.ID, message("three"), message("four"))
	h.wantUsage(anna.ID, int64(len(message("three")+message("four"))), 2)
}

// TestListCancelled: a list that was called off is made the next time.
func TestListCancelled(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	id := h.send(message("one"), to(anna)).Copies[0].ID
	md := h.maildrop(anna.ID)
	ctx, cancel := context.WithCancel(h.ctx)
	cancel()
	_, err := md.Messages(ctx)
	h.want(err, context.Canceled)
	h.want(md.Expunge(ctx, []store.CopyID{id}, nil), context.Canceled)
	h.expunge(anna.ID, id)
	_, err = md.OpenHeader(ctx, id)
	h.want(err, context.Canceled)
	if got := h.messages(md); len(got) != 1 || h.read(md, id) != message("one") {
		t.Errorf("the snapshot lists %+v", got)
	}
	h.must(md.Close())
}

// TestListsBesideChanges: while others deliver and delete, every snapshot lists what it said that it holds, and all of that can be read.
func TestListsBesideChanges(t *testing.T, f Factory) {
	h := open(t, f)
	accounts := []store.Account{h.account("anna"), h.account("bob")}
	const senders, each, readers = 4, 40, 4
	var sending atomic.Int64
	sending.Store(senders)
	work := func(i int) error {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		if i < senders {
			defer sending.Add(-1)
			for n := range each {
				body := message(fmt.Sprint(i, n)) + strings.Repeat("x", rng.IntN(500))
				if n%20 == 19 {
					body = largeBody("large")
				}
				if err := deliver(h.ctx, h, body, to(accounts[0]), to(accounts[1])); err != nil {
					return err
				}
			}
			return nil
		}
		a := accounts[i%len(accounts)].ID
		var open []store.Maildrop
		for sending.Load() > 0 || len(open) > 0 {
			if sending.Load() > 0 && len(open) < 3 {
				md, err := h.s.OpenMaildrop(h.ctx, a)
				if err != nil {
					return err
				}
				open = append(open, md)
				continue
			}
			md := open[0]
			open = open[1:]
			var err error
			switch rng.IntN(4) {
			case 0:
			case 1:
				err = deleteSome(h.ctx, md, rng)
			default:
				err = compareList(h.ctx, md)
			}
			if err = errors.Join(err, md.Close()); err != nil {
				return err
			}
		}
		return nil
	}
	inParallel(senders+readers, func(i int) {
		if err := work(i); err != nil {
			t.Errorf("worker %d: %v", i, err)
			sending.Store(0)
		}
	})
	for _, a := range accounts {
		h.list(a.ID)
	}
}

// deleteSome deletes a third of what a snapshot lists.
func deleteSome(ctx context.Context, md store.Maildrop, rng *rand.Rand) error {
	messages, err := md.Messages(ctx)
	if err != nil {
		return err
	}
	var ids []store.CopyID
	for m := range messages {
		if rng.IntN(3) == 0 {
			ids = append(ids, m.ID)
		}
	}
	return md.Expunge(ctx, ids, nil)
}

// compareList says in what a snapshot's list differs from what it says that it holds, or cannot be read.
func compareList(ctx context.Context, md store.Maildrop) error {
	messages, err := md.Messages(ctx)
	if err != nil {
		return err
	}
	var sum store.Usage
	var last store.CopyID
	for m := range messages {
		if sum = sum.Plus(store.Usage{Octets: m.Size, Messages: 1}); m.ID <= last {
			return fmt.Errorf("copy %d is listed behind %d", m.ID, last)
		}
		last = m.ID
	}
	if is := md.Stat(); is != sum {
		return fmt.Errorf("the snapshot lists %+v, and says that it holds %+v", sum, is)
	}
	for m := range messages {
		r, err := md.OpenMessage(ctx, m.ID)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, r)
		if err = errors.Join(err, r.Close()); err != nil || n != m.Size {
			return fmt.Errorf("copy %d yields %d of %d octets: %w", m.ID, n, m.Size, err)
		}
	}
	return nil
}
