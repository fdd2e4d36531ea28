package webmanager

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// TestVacation: what is set is in the answer and in the store, with LF for every line end; the audit log has who, when, and which text, but not all of it.
func TestVacation(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	long := "Ich bin weg.\r\nGrüße\r" + strings.Repeat("x", 500) + "\n\n"
	body := Vacation{On: true, From: "2026-07-01", Until: "2026-07-31", Subject: " Weg bis August ", Text: long}
	var a Account
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Vacation: &body}, &a)
	want := store.Vacation{On: true, From: 2026_07_01, Until: 2026_07_31, Subject: "Weg bis August", Text: "Ich bin weg.\nGrüße\n" + strings.Repeat("x", 500)}
	if got := f.account("anna").Vacation; got != want {
		t.Errorf("kept %+v", got)
	}
	if a.Vacation != (Vacation{On: true, From: "2026-07-01", Until: "2026-07-31", Subject: "Weg bis August", Text: want.Text}) {
		t.Errorf("told %+v", a.Vacation)
	}
	entry := f.audit()[0]
	if entry.Action != "account.change" || strings.Contains(entry.Before, "vacation") || strings.Contains(entry.After, "xxxx") ||
		!strings.Contains(entry.After, `"vacation":{"on":true,"from":20260701,"until":20260731,"subject":"Weg bis August","begins":"Ich bin weg."`) {
		t.Errorf("audit %+v", entry)
	}
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Vacation: &Vacation{On: true, Text: want.Text + "y"}}, nil)
	if next := f.audit()[0]; !strings.Contains(next.Before, `"sum":`) || next.Before[strings.Index(next.Before, `"sum":`):][:16] == next.After[strings.Index(next.After, `"sum":`):][:16] {
		t.Errorf("another text is not seen in the audit log: %+v", next)
	}
	var none Account
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Vacation: &Vacation{}}, &none)
	if got := f.account("anna").Vacation; !got.IsZero() || !none.Vacation.IsZero() {
		t.Errorf("nothing is %+v, told as %+v", got, none.Vacation)
	}
}

// TestVacationRefused names the field, and changes nothing.
func TestVacationRefused(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	for body, field := range map[string]string{
		`{"on":true}`: "vacation.text", `{"on":true,"text":" \r\n "}`: "vacation.text",
		`{"text":"` + strings.Repeat("x", store.MaxVacationText+1) + `"}`: "vacation.text", `{"text":"a\u0000b"}`: "vacation.text",
		`{"subject":"a\r\nBcc: x@other.example"}`: "vacation.subject", `{"subject":"` + strings.Repeat("x", store.MaxVacationSubject+1) + `"}`: "vacation.subject",
		`{"from":"1.7.2026"}`: "vacation.from", `{"until":"2026-02-30"}`: "vacation.until", `{"from":"2026-07-02","until":"2026-07-01"}`: "vacation.until",
	} {
		for _, at := range []struct{ method, path, body string }{
			{"PATCH", "/v1/accounts/anna", `{"vacation":` + body + `}`}, {"POST", "/v1/accounts/anna/vacation/preview", body},
		} {
			status, answer := f.raw(at.method, at.path, "application/json", at.body)
			if status != 422 && status != 400 || !strings.Contains(answer, `"`+field+`"`) {
				t.Errorf("%s %.60s: %d %s", at.path, body, status, answer)
			}
		}
	}
	if v := f.account("anna").Vacation; !v.IsZero() {
		t.Errorf("kept %+v", v)
	}
	most := Vacation{On: true, Subject: strings.Repeat("x", store.MaxVacationSubject), Text: strings.Repeat("x", store.MaxVacationText)}
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Vacation: &most}, nil)
}

// TestVacationPreview is the answer that would be sent, in the form in which it is sent.
func TestVacationPreview(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	display := "Anna Ö."
	f.do("PATCH", "/v1/accounts/anna", AccountChange{DisplayName: &display}, nil)
	today := store.DayOf(noon).String()
	for _, tt := range []struct {
		body Vacation
		want VacationPreview
	}{
		{Vacation{On: true, Text: "Grüße\n\nAnna"}, VacationPreview{Subject: "Auto: Lunch?", Text: "Grüße\n\nAnna", Active: true}},
		{Vacation{On: true, Text: "away", Subject: "Weg", From: today, Until: today}, VacationPreview{Subject: "Auto: Weg", Text: "away", Active: true}},
		{Vacation{On: true, Text: "away", From: store.DayOf(noon.AddDate(0, 0, 1)).String()}, VacationPreview{Subject: "Auto: Lunch?", Text: "away"}},
		{Vacation{Text: "away"}, VacationPreview{Subject: "Auto: Lunch?", Text: "away"}},
	} {
		tt.want.From, tt.want.To = "Anna Ö. <anna@example.com>", "<sender@remote.example>"
		var got VacationPreview
		f.do("POST", "/v1/accounts/anna/vacation/preview", tt.body, &got)
		if got != tt.want {
			t.Errorf("%+v: got %+v, want %+v", tt.body, got, tt.want)
		}
	}
	if v := f.account("anna").Vacation; !v.IsZero() || f.audit()[0].Action != "account.change" {
		t.Errorf("a preview left %+v", v)
	}
}

// TestVacationView: whom the mailbox answered in the last seven days, and how many answers are left.
func TestVacationView(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	id := f.account("anna").ID
	for i, age := range []time.Duration{time.Hour, store.AnswersApart - 1, store.AnswersApart} {
		h := store.Habit{Account: id, Kind: store.HabitAnswered, Name: fmt.Sprint(i), First: noon.Add(-age), Last: noon.Add(-age), Text: fmt.Sprintf("x%d@remote.example", i)}
		if err := f.store.NoteHabits(t.Context(), []store.Habit{h}); err != nil {
			t.Fatal(err)
		}
	}
	b := store.AnswersOf(id)
	if _, err := f.store.Take(t.Context(), noon, b.Key, 3, b.Limit); err != nil {
		t.Fatal(err)
	}
	var v VacationView
	f.do("GET", "/v1/accounts/anna/vacation", nil, &v)
	if v.Active || v.Left != store.AnswersPerDay-3 || v.PerDay != store.AnswersPerDay || len(v.Senders) != 2 ||
		v.Senders[0] != (AnsweredSender{"x0@remote.example", noon.Add(-time.Hour)}) || v.Senders[1].Address != "x1@remote.example" {
		t.Errorf("got %+v", v)
	}
	yes := true
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Vacation: &Vacation{On: true, Text: "away"}}, nil)
	if f.do("GET", "/v1/accounts/anna/vacation", nil, &v); !v.Active || v.Vacation.Text != "away" {
		t.Errorf("got %+v", v)
	}
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Suspended: &yes}, nil)
	if f.do("GET", "/v1/accounts/anna/vacation", nil, &v); v.Active {
		t.Error("a suspended mailbox answers")
	}
}
