package store

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestVacationActive: from the first moment of the first day to the last one of the last, in UTC.
func TestVacationActive(t *testing.T) {
	const first, last = Day(2026_02_28), Day(2026_03_01)
	begins, ends := first.Start(), last.Start().AddDate(0, 0, 1)
	if begins != time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC) || ends != time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC) {
		t.Fatalf("from %v to %v", begins, ends)
	}
	berlin := time.FixedZone("CET", 3600)
	for _, tt := range []struct {
		v    Vacation
		now  time.Time
		want bool
	}{
		{Vacation{On: true}, begins, true},
		{Vacation{}, begins, false},
		{Vacation{From: first}, begins, false},
		{Vacation{On: true, From: first}, begins.Add(-1), false},
		{Vacation{On: true, From: first}, begins, true},
		{Vacation{On: true, From: first}, begins.In(berlin), true},
		{Vacation{On: true, From: first}, begins.AddDate(10, 0, 0), true},
		{Vacation{On: true, Until: last}, begins.AddDate(-10, 0, 0), true},
		{Vacation{On: true, From: first, Until: last}, ends.Add(-1), true},
		{Vacation{On: true, From: first, Until: last}, ends, false},
		{Vacation{On: true, From: first, Until: first}, begins, true},
	} {
		if got := tt.v.Active(tt.now); got != tt.want {
			t.Errorf("%+v at %v: %t", tt.v, tt.now, got)
		}
	}
}

func TestVacationBounds(t *testing.T) {
	ok := Vacation{
		On: true, From: 2026_12_24, Until: 2026_12_24, Subject: strings.Repeat("s", MaxVacationSubject), Text: "\tä\n" + strings.Repeat("x", MaxVacationText-4),
	}
	if err := ok.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Vacation){
		"a day too early":   func(v *Vacation) { v.Until-- },
		"no day":            func(v *Vacation) { v.From = 2026_02_29 },
		"no day to end":     func(v *Vacation) { v.Until = 2026_13_01 },
		"subject too long":  func(v *Vacation) { v.Subject += "s" },
		"subject of lines":  func(v *Vacation) { v.Subject = "a\r\nBcc: x@other.example" },
		"subject not UTF-8": func(v *Vacation) { v.Subject = "\xff" },
		"text too long":     func(v *Vacation) { v.Text += "x" },
		"text not UTF-8":    func(v *Vacation) { v.Text = "\xff" },
		"text with a CR":    func(v *Vacation) { v.Text = "a\r\nb" },
		"text with a NUL":   func(v *Vacation) { v.Text = "a\x00" },
		"no text":           func(v *Vacation) { v.Text = " \n" },
	} {
		v := ok
		change(&v)
		if err := v.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if err := (Account{Name: "anna", Vacation: v}).Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: the account is %v", name, err)
		}
	}
	if err := (Vacation{Subject: "kept for the next time"}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestParseDay(t *testing.T) {
	for text, want := range map[string]Day{"2026-12-24": 2026_12_24, "0001-01-01": 1_01_01, "2024-02-29": 2024_02_29} {
		d, err := ParseDay(text)
		if err != nil || d != want || !d.Valid() || d.String() != text {
			t.Errorf("%s is %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "2026-02-29", "24.12.2026", "2026-12-24T00:00:00Z", "10000-01-01"} {
		if d, err := ParseDay(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q is %v, %v", text, d, err)
		}
	}
	if text := Day(0).String(); text != "" {
		t.Errorf("no day is %q", text)
	}
}

// TestShortestExpiry: what may be removed soonest of any mailbox, and whether it is the same for all.
func TestShortestExpiry(t *testing.T) {
	for _, tt := range []struct {
		domain  int
		own     []int
		days    int
		differs bool
	}{
		{0, nil, 0, false},
		{30, nil, 30, false},
		{30, []int{30}, 30, false},
		{30, []int{31}, 30, true},
		{30, []int{29, 31}, 29, true},
		{30, []int{ExpireNever}, 30, true},
		{0, []int{ExpireNever}, 0, false},
		{0, []int{ExpireNever, 7}, 7, true},
	} {
		if days, differs := ShortestExpiry(Settings{ExpireDays: tt.domain}, tt.own); days != tt.days || differs != tt.differs {
			t.Errorf("%d of the domain, %v of mailboxes: %d, %t", tt.domain, tt.own, days, differs)
		}
	}
	for _, tt := range []struct {
		days, than int
		want       bool
	}{{0, 0, false}, {0, 1, false}, {1, 0, true}, {30, 30, false}, {29, 30, true}, {31, 30, false}} {
		if got := Sooner(tt.days, tt.than); got != tt.want {
			t.Errorf("%d sooner than %d: %t", tt.days, tt.than, got)
		}
	}
}
