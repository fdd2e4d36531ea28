package webmanager

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/http"
	"net/mail"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/store"
)

// Vacation is what a mailbox answers while its owner is away.
type Vacation struct {
	On bool `json:"on"`
	// From and Until are the first and the last day, as 2026-07-01, in UTC; "" is no bound.
	From  string `json:"from,omitempty"`
	Until string `json:"until,omitempty"`
	// Subject is that of the answers; "" for that of the message which is answered.
	Subject string `json:"subject,omitempty"`
	Text    string `json:"text,omitempty"`
}

// IsZero reports whether nothing is set.
func (v Vacation) IsZero() bool { return v == Vacation{} }

func vacationOf(v store.Vacation) Vacation {
	return Vacation{On: v.On, From: v.From.String(), Until: v.Until.String(), Subject: v.Subject, Text: v.Text}
}

// apply returns what is to be kept, or every mistake.
func (v Vacation) apply() (store.Vacation, []Field) {
	kept := store.Vacation{On: v.On, Subject: strings.TrimSpace(v.Subject), Text: onlyLF(v.Text)}
	var wrong []Field
	for _, day := range []struct {
		name, text string
		into       *store.Day
	}{{"vacation.from", v.From, &kept.From}, {"vacation.until", v.Until, &kept.Until}} {
		if day.text == "" {
			continue
		}
		d, err := store.ParseDay(day.text)
		if err != nil {
			wrong = append(wrong, say("vacation_day").of(day.name))
		}
		*day.into = d
	}
	if kept.From != 0 && kept.Until != 0 && kept.Until < kept.From {
		wrong = append(wrong, say("vacation_order").of("vacation.until"))
	}
	if len(kept.Subject) > store.MaxVacationSubject || mailaddr.HasControl(kept.Subject) {
		wrong = append(wrong, say("long_or_control", store.MaxVacationSubject).of("vacation.subject"))
	}
	switch alone := (store.Vacation{Text: kept.Text}); {
	case kept.On && kept.Text == "":
		wrong = append(wrong, say("vacation_empty").of("vacation.text"))
	case alone.Validate() != nil:
		wrong = append(wrong, say("long_or_control", store.MaxVacationText).of("vacation.text"))
	}
	return kept, wrong
}

// onlyLF is a text as forms and files have it, with LF for each line end, and without empty lines and blanks around it.
func onlyLF(text string) string {
	return strings.TrimSpace(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text))
}

// auditedVacation is what the audit log keeps of vacation answers. The text is no secret, and may be long: its beginning says which one it is, and
// its sum that it is another one.
type auditedVacation struct {
	On      bool      `json:"on"`
	From    store.Day `json:"from,omitempty"`
	Until   store.Day `json:"until,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Begins  string    `json:"begins,omitempty"`
	Octets  int       `json:"octets,omitempty"`
	Sum     string    `json:"sum,omitempty"`
}

// IsZero leaves it out of the JSON of who never had any.
func (v auditedVacation) IsZero() bool { return v == auditedVacation{} }

func auditVacation(v store.Vacation) auditedVacation {
	a := auditedVacation{On: v.On, From: v.From, Until: v.Until, Subject: v.Subject, Octets: len(v.Text)}
	if v.Text != "" {
		sum := sha256.Sum256([]byte(v.Text))
		a.Begins, a.Sum = beginning(v.Text), hex.EncodeToString(sum[:4])
	}
	return a
}

// beginning is the first line of a text, or less.
func beginning(text string) string {
	const most = 60
	line, _, _ := strings.Cut(text, "\n")
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "..."
	}
	return line
}

// VacationView is what there is to know of the vacation answers of a mailbox.
type VacationView struct {
	Vacation Vacation `json:"vacation"`
	// Active is set while answers are given.
	Active bool `json:"active"`
	// Senders were answered in the last seven days, the last one first; each is not answered again until that time is over.
	Senders []AnsweredSender `json:"senders"`
	// Left is how many answers the mailbox may give now; PerDay of them come back a day.
	Left   int64 `json:"left"`
	PerDay int64 `json:"per_day"`
}

// AnsweredSender is somebody who got an answer.
type AnsweredSender struct {
	Address string    `json:"address"`
	Time    time.Time `json:"time"`
}

// VacationPreview is an answer as its reader sees it.
type VacationPreview struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	// Active is set if it would be given today.
	Active bool `json:"active"`
}

func (a *API) showVacation(r *http.Request) (any, error) {
	account, _, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	now, budget := a.now(), store.AnswersOf(account.ID)
	taken, err := a.store.Take(r.Context(), now, budget.Key, 0, budget.Limit)
	if err != nil {
		return nil, err
	}
	seen, err := a.store.ListHabits(r.Context(), account.ID, store.HabitAnswered, store.MaxAnswered)
	if err != nil {
		return nil, err
	}
	v := VacationView{
		Vacation: vacationOf(account.Vacation), Active: account.Vacation.Active(now) && !account.Suspended, Senders: []AnsweredSender{}, Left: taken.Left,
		PerDay: budget.Limit.N,
	}
	for _, h := range seen {
		if h.SeenWithin(now, store.AnswersApart) {
			v.Senders = append(v.Senders, AnsweredSender{Address: h.Text, Time: h.Last})
		}
	}
	return v, nil
}

// previewVacation takes the vacation answers that a change would make, and shows one to a sender who wrote about lunch. It changes nothing.
func (a *API) previewVacation(r *http.Request) (any, error) {
	var body Vacation
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	account, domain, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	kept, wrong := body.apply()
	if len(wrong) > 0 {
		return nil, invalid(wrong...)
	}
	from, err := mailaddr.New(account.Name, domain)
	if err != nil {
		return nil, err
	}
	to, err := mailaddr.New("sender", "remote.example")
	if err != nil {
		return nil, err
	}
	asked := &message.Header{}
	if _, err := asked.Read(strings.NewReader("Subject: Lunch?\r\n\r\n")); err != nil {
		return nil, err
	}
	answer := message.Answer{
		From: from, Name: account.DisplayName, To: to, Hostname: domain, ID: "preview", Date: a.now(), Subject: kept.Subject, Text: kept.Text,
		Header: asked,
	}
	p, err := readAnswer(answer)
	p.Active = kept.Active(a.now())
	return p, err
}

// readAnswer reads an answer in the form in which it is sent, as a mail program does.
func readAnswer(answer message.Answer) (VacationPreview, error) {
	octets, _, err := answer.Octets()
	if err != nil {
		return VacationPreview{}, err
	}
	m, err := mail.ReadMessage(bytes.NewReader(octets))
	if err != nil {
		return VacationPreview{}, err
	}
	body := m.Body
	if m.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return VacationPreview{}, err
	}
	var words mime.WordDecoder
	plain := func(name string) string {
		value, err := words.DecodeHeader(m.Header.Get(name))
		if err != nil {
			return m.Header.Get(name)
		}
		return value
	}
	return VacationPreview{From: plain("From"), To: plain("To"), Subject: plain("Subject"), Text: onlyLF(string(text))}, nil
}
