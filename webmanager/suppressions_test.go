package webmanager

import (
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// TestSuppressionsAPI: listed with what they mean now, put in and taken out by hand, and every change is audited.
func TestSuppressionsAPI(t *testing.T) {
	f := newFixture(t)
	gone, err := mailaddr.Parse("gone@other.example")
	if err != nil {
		t.Fatal(err)
	}
	old, err := mailaddr.Parse("old@other.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.store.NoteFailures(t.Context(), []store.Failure{
		{Address: gone, At: noon.Add(-time.Hour), Text: "550 unknown"}, {Address: gone, At: noon.Add(-time.Minute), Text: "550 unknown"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := f.store.PutSuppression(t.Context(), noon, store.Suppression{Address: old, Last: noon.Add(-store.SuppressWindow + 1), Failures: 1}); err != nil {
		t.Fatal(err)
	}
	var made Suppression
	f.do("PUT", "/v1/suppressions/Ex@Other.example", NewSuppression{Days: 2, Reason: "asked for it"}, &made)
	if made.Address.String() != "Ex@other.example" || !made.Active || !made.Manual || !made.Until.Equal(noon.Add(48*time.Hour)) {
		t.Errorf("made %+v", made)
	}
	f.do("PUT", "/v1/suppressions/b@other.example", NewSuppression{}, &made)
	if !made.Until.Equal(noon.Add(store.SuppressTime)) {
		t.Errorf("made %+v", made)
	}
	var got []string
	for after := ""; ; {
		var page SuppressionPage
		f.do("GET", "/v1/suppressions?limit=2&after="+after, nil, &page)
		for _, s := range page.Suppressions {
			word := "counted"
			if s.Active {
				word = "active"
			}
			got = append(got, s.Address.String()+" "+word+" "+s.Reason)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	want := "Ex@other.example active asked for it\nb@other.example active \ngone@other.example active 550 unknown\nold@other.example counted "
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	f.do("DELETE", "/v1/suppressions/gone@OTHER.example", nil, nil)
	var page SuppressionPage
	if f.do("GET", "/v1/suppressions", nil, &page); len(page.Suppressions) != 3 {
		t.Errorf("left %+v", page)
	}
	entries, err := f.store.ListAudit(t.Context(), 0, 10)
	if err != nil || len(entries) != 3 || entries[0].Action != "suppression.remove" || entries[0].Object != "gone@other.example" {
		t.Errorf("audit %+v, %v", entries, err)
	}
}
