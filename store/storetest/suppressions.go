package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"latchkey/store"
)

var suppressionTests = []test{
	{"NoteFailures", TestNoteFailures},
	{"FailuresFarApart", TestFailuresFarApart},
	{"PutSuppression", TestPutSuppression},
	{"MostSuppressions", TestMostSuppressions},
	{"SuppressionBounds", TestSuppressionBounds},
	{"ListSuppressions", TestListSuppressions},
}

func (h *harness) failure(addr string, after time.Duration) store.Failure {
	return store.Failure{Address: address(addr), At: h.now.Add(after), Text: "550 5.1.1 unknown\r\n" + fmt.Sprint(after)}
}

func sameSuppression(a, b store.Suppression) bool {
	if !a.First.Equal(b.First) || !a.Last.Equal(b.Last) || !a.Until.Equal(b.Until) {
		return false
	}
	a.First, a.Last, a.Until = b.First, b.Last, b.Until
	return a == b
}

func (h *harness) wantSuppressions(want ...store.Suppression) {
	h.t.Helper()
	got, err := h.s.ListSuppressions(h.ctx, "", len(want)+1)
	h.must(err)
	if !slices.EqualFunc(got, want, sameSuppression) {
		h.t.Errorf("suppressions\n%+v\nwant\n%+v", got, want)
	}
	for _, w := range want {
		one, err := h.s.Suppression(h.ctx, w.Address)
		h.must(err)
		if !sameSuppression(one, w) {
			h.t.Errorf("of %s: %+v, want %+v", w.Address, one, w)
		}
	}
}

// TestNoteFailures: the first failure is counted, the second within the window suppresses, a further one prolongs; in one call or in several.
func TestNoteFailures(t *testing.T, f Factory) {
	h := open(t, f)
	const day = 24 * time.Hour
	h.must(h.s.NoteFailures(h.ctx, nil))
	h.must(h.s.NoteFailures(h.ctx, []store.Failure{h.failure("a@x.example", 0)}))
	once := store.Suppression{Address: address("a@x.example"), Failures: 1, First: h.now, Last: h.now, Reason: "550 5.1.1 unknown  0s"}
	h.wantSuppressions(once)
	h.reopen()
	h.wantSuppressions(once)
	h.must(h.s.NoteFailures(h.ctx, []store.Failure{h.failure("a@x.example", day), h.failure("b@x.example", day), h.failure("b@x.example", 2*day)}))
	a := store.Suppression{
		Address: address("a@x.example"), Failures: 2, First: h.now, Last: h.now.Add(day), Until: h.now.Add(day + store.SuppressTime),
		Reason: "550 5.1.1 unknown  24h0m0s",
	}
	b := store.Suppression{
		Address: address("b@x.example"), Failures: 2, First: h.now.Add(day), Last: h.now.Add(2 * day), Until: h.now.Add(2*day + store.SuppressTime),
		Reason: "550 5.1.1 unknown  48h0m0s",
	}
	h.wantSuppressions(a, b)
	h.must(h.s.NoteFailures(h.ctx, []store.Failure{h.failure("a@x.example", 3*day)})) // by a message that was on its way
	a.Failures, a.Last, a.Until, a.Reason = 3, h.now.Add(3*day), h.now.Add(3*day+store.SuppressTime), "550 5.1.1 unknown  72h0m0s"
	h.reopen()
	h.wantSuppressions(a, b)
	if !a.Active(a.Until.Add(-1)) || a.Active(a.Until) {
		t.Error("Until is not the end")
	}
	h.must(h.s.RemoveSuppression(h.ctx, a.Address))
	h.want(h.s.RemoveSuppression(h.ctx, a.Address), store.ErrNotFound)
	_, err := h.s.Suppression(h.ctx, a.Address)
	h.want(err, store.ErrNotFound)
	h.reopen()
	h.wantSuppressions(b)
}

// TestFailuresFarApart: at the end of the window counting begins anew, one moment before it the second failure counts.
func TestFailuresFarApart(t *testing.T, f Factory) {
	h := open(t, f)
	for _, apart := range []time.Duration{store.SuppressWindow - 1, store.SuppressWindow} {
		addr := fmt.Sprintf("a%d@x.example", apart)
		h.must(h.s.NoteFailures(h.ctx, []store.Failure{h.failure(addr, 0)}))
		h.must(h.s.NoteFailures(h.ctx, []store.Failure{h.failure(addr, apart)}))
		s, err := h.s.Suppression(h.ctx, address(addr))
		h.must(err)
		if got := s.Active(h.now.Add(apart)); got != (apart < store.SuppressWindow) {
			t.Errorf("%v apart: suppressed %v: %+v", apart, got, s)
		}
	}
	// What is over is forgotten with the next failure, whoever's it is.
	h.must(h.s.NoteFailures(h.ctx, []store.Failure{h.failure("c@x.example", 100*24*time.Hour)}))
	if all, err := h.s.ListSuppressions(h.ctx, "", 10); err != nil || len(all) != 1 {
		t.Errorf("left: %+v, %v", all, err)
	}
}

// TestPutSuppression: what somebody put in stays as it is, whatever fails, until it is over.
func TestPutSuppression(t *testing.T, f Factory) {
	h := open(t, f)
	s := store.Suppression{Address: address("a@x.example"), First: h.now, Last: h.now, Until: h.now.Add(time.Hour), Manual: true, Reason: "asked for it"}
	h.must(h.s.PutSuppression(h.ctx, h.now, s))
	h.must(h.s.NoteFailures(h.ctx, []store.Failure{h.failure("a@x.example", time.Minute)}))
	h.reopen()
	h.wantSuppressions(s)
	s.Reason = ""
	h.must(h.s.PutSuppression(h.ctx, h.now, s))
	h.wantSuppressions(s)
	h.must(h.s.NoteFailures(h.ctx, []store.Failure{h.failure("a@x.example", time.Hour)}))
	h.wantSuppressions(store.Suppression{
		Address: s.Address, Failures: 1, First: h.now.Add(time.Hour), Last: h.now.Add(time.Hour), Reason: "550 5.1.1 unknown  1h0m0s",
	})
}

// TestMostSuppressions: beyond the bound what ends first is forgotten, and what somebody put in comes last.
func TestMostSuppressions(t *testing.T, f Factory) {
	h := open(t, f)
	manual := store.Suppression{Address: address("z@x.example"), First: h.now, Last: h.now, Until: h.now.Add(time.Second), Manual: true}
	h.must(h.s.PutSuppression(h.ctx, h.now, manual))
	n := 0
	for n < store.MaxSuppressions {
		var some []store.Failure
		for range min(store.MaxNotedFailures, store.MaxSuppressions-n) {
			some = append(some, h.failure(fmt.Sprintf("a%d@x.example", n), time.Duration(n)))
			n++
		}
		h.must(h.s.NoteFailures(h.ctx, some))
	}
	all, err := h.s.ListSuppressions(h.ctx, "", 2*store.MaxSuppressions)
	h.must(err)
	_, gone := h.s.Suppression(h.ctx, address("a0@x.example"))
	_, next := h.s.Suppression(h.ctx, address("a1@x.example"))
	_, hand := h.s.Suppression(h.ctx, manual.Address)
	if len(all) != store.MaxSuppressions || gone == nil || next != nil || hand != nil {
		t.Errorf("%d records; the first: %v, the second: %v, by hand: %v", len(all), gone, next, hand)
	}
}

// TestSuppressionBounds: what is out of bounds changes nothing.
func TestSuppressionBounds(t *testing.T, f Factory) {
	h := open(t, f)
	good := h.failure("a@x.example", 0)
	h.want(h.s.NoteFailures(h.ctx, []store.Failure{good, {At: h.now}}), store.ErrInvalid)
	h.want(h.s.NoteFailures(h.ctx, make([]store.Failure, store.MaxNotedFailures+1)), store.ErrBound)
	h.want(h.s.PutSuppression(h.ctx, h.now, store.Suppression{}), store.ErrInvalid)
	h.want(h.s.PutSuppression(h.ctx, h.now, store.Suppression{Address: good.Address, Reason: "a\nb"}), store.ErrInvalid)
	h.want(h.s.PutSuppression(h.ctx, h.now, store.Suppression{Address: good.Address, Failures: -1}), store.ErrInvalid)
	h.wantSuppressions()
	long := good
	for range store.MaxSuppressionReason {
		long.Text += "\u00e4"
	}
	h.must(h.s.NoteFailures(h.ctx, []store.Failure{long}))
	if s, err := h.s.Suppression(h.ctx, good.Address); err != nil || len(s.Reason) > store.MaxSuppressionReason {
		t.Errorf("a reason of %d octets, %v", len(s.Reason), err)
	}
}

// TestListSuppressions: in order, and in pages.
func TestListSuppressions(t *testing.T, f Factory) {
	h := open(t, f)
	var want []string
	for _, a := range []string{"A@x.example", "a@x.example", "a@y.example", "b@x.example"} {
		want = append(want, a)
		h.must(h.s.NoteFailures(h.ctx, []store.Failure{h.failure(a, 0)}))
	}
	var got []string
	for after := ""; ; {
		list, err := h.s.ListSuppressions(h.ctx, after, 3)
		h.must(err)
		if len(list) == 0 {
			break
		}
		for _, s := range list {
			after = s.Address.String()
			got = append(got, after)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}
