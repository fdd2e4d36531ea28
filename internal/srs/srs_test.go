package srs

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
)

var noon = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)

func addr(t testing.TB, s string) mailaddr.Address {
	t.Helper()
	if s == "" {
		return mailaddr.Address{}
	}
	a, err := mailaddr.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func rewriter(t testing.TB, secret byte, domain string) *Rewriter {
	t.Helper()
	r, err := New(bytes.Repeat([]byte{secret}, KeySize), domain)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestThereAndBack: what goes out leads back, whatever became of its letters on the way.
func TestThereAndBack(t *testing.T) {
	r := rewriter(t, 1, "two.example")
	for _, a := range []string{
		"alice@one.example", "Alice.B+tag@one.example", "a=b==c@one.example", `"a b"@one.example`, "b\u00f6b@one.example", "bob@two.example",
		"SRS0=Xx7=AB=zero.example=Alice@one.example", "srs0+Xx7=AB=zero.example=x@one.example", "SRS1=abc=zero.example==Xx=AB=n.example=b@one.example",
	} {
		from := addr(t, a)
		on := r.Forward(from, noon)
		if on.Domain() != "two.example" || !r.Claims(on) || len(on.Local()) > mailaddr.MaxLocalLen {
			t.Errorf("%s goes on as %s", a, on)
			continue
		}
		want := a
		if strings.HasPrefix(a, "SRS1=") {
			want = "SRS0=Xx=AB=n.example=b@zero.example" // straight to the first forwarder
		}
		got, err := r.Reverse(on, noon)
		if err != nil || !strings.EqualFold(got.String(), strings.Replace(want, "srs0+", "SRS0+", 1)) {
			t.Errorf("%s comes back from %s as %s, %v", a, on, got, err)
		}
		lower, err := mailaddr.New(strings.ToLower(on.Local()), on.Domain())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Reverse(lower, noon); err != nil || !strings.EqualFold(got.String(), strings.Replace(want, "srs0+", "SRS0+", 1)) {
			t.Errorf("%s comes back in small letters as %s, %v", a, got, err)
		}
	}
	// Exactly, not only but for case.
	if got, err := r.Reverse(r.Forward(addr(t, "Alice@one.example"), noon), noon); err != nil || got.String() != "Alice@one.example" {
		t.Errorf("%s, %v", got, err)
	}
}

// TestStays: null stays null; what leads back here stays as it is, so that a circle does not make it longer; what has no room becomes null.
func TestStays(t *testing.T) {
	r := rewriter(t, 1, "two.example")
	once := r.Forward(addr(t, "alice@one.example"), noon)
	if got := r.Forward(once, noon.Add(time.Hour)); got != once {
		t.Errorf("%s became %s", once, got)
	}
	// SRS0= and two separators, the hash, the day, another separator: 18 octets in all.
	fits := addr(t, strings.Repeat("a", mailaddr.MaxLocalLen-18-len("one.example"))+"@one.example")
	long := addr(t, strings.Repeat("a", mailaddr.MaxLocalLen-17-len("one.example"))+"@one.example")
	if r.Forward(fits, noon).IsZero() {
		t.Errorf("no room for %s", fits)
	}
	for _, a := range []mailaddr.Address{{}, long, addr(t, "a@[192.0.2.1]"), addr(t, "SRS1=x@one.example"), addr(t, "SRS1=x===y@one.example")} {
		if got := r.Forward(a, noon); !got.IsZero() {
			t.Errorf("%s became %s", a, got)
		}
	}
}

// TestForged: nothing leads anywhere that was not made here: with another key, for another domain, by hand, or changed in any letter.
func TestForged(t *testing.T) {
	r, other := rewriter(t, 1, "two.example"), rewriter(t, 2, "two.example")
	on := r.Forward(addr(t, "alice@one.example"), noon)
	var tries []mailaddr.Address
	tries = append(tries, other.Forward(addr(t, "alice@one.example"), noon), rewriter(t, 1, "three.example").Forward(addr(t, "alice@one.example"), noon))
	for i := len(tag0); i < len(on.Local()); i++ {
		changed := []byte(on.Local())
		if changed[i]++; changed[i] == '@' {
			changed[i]++
		}
		if a, err := mailaddr.New(string(changed), on.Domain()); err == nil {
			tries = append(tries, a)
		}
	}
	for _, local := range []string{
		"SRS0=", "SRS0=aaaaaaaa", "SRS0==", "SRS0=====", "SRS0=aaaaaaaa=aa=one.example=alice", "SRS1=aaaaaaaa=one.example==x", "SRS1====", "SRS0+x", "alice",
		"SRS1=" + on.Local()[len(tag0):], // a hash of the other form
	} {
		a, err := mailaddr.New(local, "two.example")
		if err != nil {
			t.Fatal(err)
		}
		tries = append(tries, a)
	}
	for _, a := range tries {
		if got, err := r.Reverse(a, noon); err == nil {
			t.Errorf("%s leads to %s", a, got)
		}
	}
}

// TestAge: to the day, over the turn of the stamp, and by a clock that was a day fast.
func TestAge(t *testing.T) {
	r := rewriter(t, 1, "two.example")
	for _, begin := range []time.Time{noon, noon.AddDate(0, 0, 500), noon.AddDate(0, 0, 900)} {
		on := r.Forward(addr(t, "alice@one.example"), begin)
		for age := -400; age < 600; age++ {
			_, err := r.Reverse(on, begin.AddDate(0, 0, age))
			want := age >= -1 && age <= 21
			if (err == nil) != want || !want && !errors.Is(err, ErrExpired) {
				t.Errorf("%d days: %v", age, err)
			}
		}
	}
}

func TestKey(t *testing.T) {
	for _, n := range []int{0, KeySize - 1, KeySize + 1} {
		if _, err := New(make([]byte, n), "two.example"); !errors.Is(err, ErrKey) {
			t.Errorf("%d octets: %v", n, err)
		}
	}
}

func FuzzReverse(f *testing.F) {
	r, err := New(make([]byte, KeySize), "two.example")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("SRS0=aaaaaaaa=aa=one.example=alice")
	f.Add("SRS1=aaaaaaaa=one.example==x=y=z=a")
	f.Fuzz(func(t *testing.T, local string) {
		a, err := mailaddr.New(local, "two.example")
		if err != nil {
			return
		}
		if got, err := r.Reverse(a, noon); err == nil {
			t.Fatalf("%q leads to %s", local, got)
		}
		if on := r.Forward(a, noon); r.Claims(a) && on != a {
			t.Fatalf("%q became %s", local, on)
		}
	})
}
