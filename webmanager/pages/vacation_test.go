package pages

import (
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
	"latchkey/webmanager"
)

// TestVacationJourney: the owner of a mailbox looks at an answer, saves it, sees whom it went to, and switches it off, in German too.
func TestVacationJourney(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("anna")
	p := b.get("/mailbox/anna").shows(200, "Vacation answers", "Nothing is answered.")
	typed := map[string]string{
		"vacation_on": "on", "vacation_from": "2026-04-01", "vacation_until": "2026-04-12", "vacation_subject": "Weg", "vacation_text": "\nIch bin weg.\r\nGrüße",
	}
	typed["do"] = "preview"
	shown := p.submit("/mailbox/anna/vacation", typed).shows(200, "This is what a sender gets.", "Auto: Weg", "Ich bin weg.", "Nothing is answered.")
	if v := s.account("anna").Vacation; !v.IsZero() {
		t.Errorf("a preview left %+v", v)
	}
	if strings.Contains(shown.text(), "Not today, though.") {
		t.Error("it would be given today")
	}
	// The form of the preview holds what was typed, and saves it.
	shown.submit("/mailbox/anna/vacation", nil).follow().shows(200, "The vacation answers of anna@example.com were changed.", "Answering", "Answers left today: 100")
	want := store.Vacation{On: true, From: 2026_04_01, Until: 2026_04_12, Subject: "Weg", Text: "Ich bin weg.\nGrüße"}
	if v := s.account("anna").Vacation; v != want {
		t.Errorf("kept %+v", v)
	}
	// A form that is sent as it came changes nothing.
	b.get("/mailbox/anna").submit("/mailbox/anna/vacation", nil).follow()
	if v := s.account("anna").Vacation; v != want {
		t.Errorf("sent as it came: %+v", v)
	}
	h := store.Habit{Account: s.account("anna").ID, Kind: store.HabitAnswered, Name: "x", Text: "x@remote.example", First: noon, Last: noon}
	if err := s.store.NoteHabits(t.Context(), []store.Habit{h}); err != nil {
		t.Fatal(err)
	}
	b.get("/mailbox/anna").shows(200, "Senders answered in the last seven days: 1.", "x@remote.example")
	b.get("/mailbox/anna").submit("/mailbox/anna/vacation", map[string]string{"vacation_until": "2026-03-01"}).shows(422, "is before the first day")
	b.get("/mailbox/anna").submit("/mailbox/anna/vacation", map[string]string{"vacation_text": " "}).shows(422, "there is nothing to answer")
	b.get("/mailbox/anna").submit("/mailbox/anna/vacation", map[string]string{"vacation_text": " ", "do": "preview"}).shows(422, "there is nothing to answer")
	b.get("/mailbox/anna").submit("/mailbox/anna/vacation", map[string]string{"vacation_from": "2026-04-02"}).follow().shows(200, "Switched on, but not for today")
	s.in("olga").get("/mailbox/anna").submit("/mailbox/anna/vacation", map[string]string{"vacation_on": ""}).follow().shows(200, "Nothing is answered.")
	if v := s.account("anna").Vacation; v.On || v.Text != want.Text {
		t.Errorf("switched off: %+v", v)
	}
	b.header.Set("Accept-Language", "de")
	b.get("/mailbox/anna").shows(200, "Abwesenheitsantworten", "Es wird nichts geantwortet.", "Antwort ansehen")
	s.in("bert").post("/mailbox/anna/vacation", map[string][]string{"vacation_text": {"x"}}).shows(403)
}

// came puts a message into a mailbox that came so many days ago.
func (s *site) came(name string, days int) {
	s.Helper()
	d, err := s.store.NewDraft(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	to, err := mailaddr.New(name, domain)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := d.Write([]byte("Subject: old\r\n\r\n")); err != nil {
		s.Fatal(err)
	}
	e := store.Envelope{Received: noon.Add(-time.Duration(days) * 24 * time.Hour), Recipients: []store.Recipient{{Address: to, Account: s.account(name).ID}}}
	if _, err := d.Commit(s.Context(), e); err != nil {
		s.Fatal(err)
	}
}

// TestRetentionJourney: the owner of the domain shortens how long mail is kept, after he saw how much goes, with the address; the owner of the mailbox
// sees it and has no form.
func TestRetentionJourney(t *testing.T) {
	s := newSite(t, nil)
	for _, days := range []int{1, 40, 50} {
		s.came("anna", days)
	}
	b := s.in("olga")
	p := b.get("/mailbox/anna").shows(200, "Mail stays until somebody deletes it.", "That is the rule of the domain.")
	asked := p.submit("/mailbox/anna/retention", map[string]string{"expire": "days", "expire_days": " 30 "}).
		shows(428, "This removes mail sooner than before.", "Messages that are too old now and go within six hours: 2 (", "type anna@example.com",
			"Mail older than 30 days is removed, also if it was never fetched.")
	asked.submit("/mailbox/anna/retention", map[string]string{"expire_confirm": "anna"}).shows(428, "go within six hours: 2 (")
	if got := s.account("anna").ExpireDays; got != 0 {
		t.Fatalf("changed to %d", got)
	}
	asked.submit("/mailbox/anna/retention", map[string]string{"expire_confirm": "anna@example.com"}).follow().
		shows(200, "How long mail is kept was changed.", "Mail older than 30 days", "That is the rule of this mailbox alone.")
	b.get("/mailbox/anna").submit("/mailbox/anna/retention", nil).follow()
	if got := s.account("anna").ExpireDays; got != 30 {
		t.Fatalf("a form that was sent as it came changed it to %d", got)
	}
	for _, wrong := range []string{"", "0", "-1", "3651", "many"} {
		b.get("/mailbox/anna").submit("/mailbox/anna/retention", map[string]string{"expire_days": wrong}).shows(422, "is 0 (as the domain's), 1 to 3650 days")
	}
	anna := s.in("anna")
	own := anna.get("/mailbox/anna").shows(200, "Mail older than 30 days")
	if strings.Contains(own.body, "/retention") {
		t.Error("the owner of the mailbox has the form")
	}
	anna.post("/mailbox/anna/retention", map[string][]string{"expire": {"never"}}).shows(403, "is not yours to change")
	b.get("/mailbox/anna").submit("/mailbox/anna/retention", map[string]string{"expire": "never"}).follow().shows(200, "Mail stays until somebody deletes it.")
	b.get("/mailbox/anna").submit("/mailbox/anna/retention", map[string]string{"expire": "domain"}).follow().shows(200, "That is the rule of the domain.")
	b.get("/mailbox/anna").submit("/mailbox/anna/retention", map[string]string{"expire": "days", "expire_days": "1"}).shows(428, "Mail older than one day")
}

// TestFormsStandAlone: a form that is refused clears no box of the others on its page.
func TestFormsStandAlone(t *testing.T) {
	s := newSite(t, nil)
	yes := true
	s.do("PATCH", webmanager.Path("accounts", "anna"), webmanager.AccountChange{
		OldClientLogin: &yes, Vacation: &webmanager.Vacation{On: true, Text: "away"}, Forward: &webmanager.ForwardChange{To: []string{"a@other.example"}, Keep: true},
	}, nil)
	b := s.in("olga")
	refused := b.get("/mailbox/anna").submit("/mailbox/anna/retention", map[string]string{"expire": "days", "expire_days": "many"}).shows(422)
	for _, action := range []string{"vacation", "change", "forward"} {
		refused.submit("/mailbox/anna/"+action, nil).follow()
	}
	if a := s.account("anna"); !a.Vacation.On || !a.OldClientLogin || !a.Forward.Keep {
		t.Errorf("got %+v", a)
	}
	// What was cleared in the refused form itself stays so.
	refused = b.get("/mailbox/anna").submit("/mailbox/anna/vacation", map[string]string{"vacation_on": "", "vacation_from": "x"}).shows(422)
	refused.submit("/mailbox/anna/vacation", map[string]string{"vacation_from": ""}).follow()
	if s.account("anna").Vacation.On {
		t.Error("a box that was cleared is ticked again")
	}
}
