package pages

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"latchkey/store"
	"latchkey/webmanager"
)

// vacationPages are about what a mailbox answers, and how long its mail is kept.
func (s *Server) vacationPages() []pageRoute {
	return []pageRoute{
		{"POST /mailbox/{name}/vacation", "PATCH /v1/accounts/{name}", (*exchange).changeVacation},
		{"POST /mailbox/{name}/retention", "PATCH /v1/accounts/{name}", (*exchange).changeRetention},
	}
}

// vacationForm is what was typed of vacation answers.
func (x *exchange) vacationForm() webmanager.Vacation {
	return webmanager.Vacation{
		On: x.r.PostForm.Has("vacation_on"), From: strings.TrimSpace(x.form("vacation_from")), Until: strings.TrimSpace(x.form("vacation_until")),
		Subject: x.form("vacation_subject"), Text: x.form("vacation_text"),
	}
}

// changeVacation changes what a mailbox answers, or shows what that would look like.
func (x *exchange) changeVacation() error {
	wanted := x.vacationForm()
	if x.form("do") != "preview" {
		return x.patch(webmanager.AccountChange{Vacation: &wanted}, "vacation.changed")
	}
	var p webmanager.VacationPreview
	if err := x.do(http.MethodPost, webmanager.Path("accounts", x.r.PathValue("name"), "vacation", "preview"), wanted, &p); err != nil {
		return x.again(err, (*exchange).showMailbox)
	}
	return x.mailbox(func(d *mailboxData) { d.Preview = &p })
}

// retentionForm is the number of days that was chosen.
func (x *exchange) retentionForm() int {
	switch x.form("expire") {
	case "domain":
		return 0
	case "never":
		return store.ExpireNever
	}
	n, err := strconv.Atoi(strings.TrimSpace(x.form("expire_days")))
	if err != nil || n < 1 {
		return store.ExpireNever - 1 // the API says what is wrong with it
	}
	return n
}

// changeRetention changes how long mail of a mailbox is kept. Where that removes mail sooner, it shows how much, and asks for the address.
func (x *exchange) changeRetention() error {
	days, name := x.retentionForm(), x.r.PathValue("name")
	change := webmanager.AccountChange{ExpireDays: &days, Confirm: x.form("expire_confirm")}
	var after webmanager.Account
	err := x.do(http.MethodPatch, webmanager.Path("accounts", name), change, &after)
	var refusal *webmanager.Error
	switch {
	case err == nil:
		return x.done(mailboxPath(after.Name), x.t("retention.changed"))
	case !errors.As(err, &refusal) || refusal.Code != webmanager.CodeConfirm:
		return x.again(err, (*exchange).showMailbox)
	}
	var asked webmanager.Retention
	if err := x.get(webmanager.Path("accounts", name, "retention"), url.Values{"days": {strconv.Itoa(days)}}, &asked); err != nil {
		return err
	}
	x.problem = &webmanager.Error{Code: webmanager.CodeConfirm, Message: x.t("retention.sooner")}
	return x.mailbox(func(d *mailboxData) { d.Asked = &asked })
}

// Keeps is the choice of the form: as the domain's, never, or days.
func (d *mailboxData) Keeps() string {
	switch d.Retention.Own {
	case 0:
		return "domain"
	case store.ExpireNever:
		return "never"
	}
	return "days"
}

// OwnDays is the number of the form, empty for none.
func (d *mailboxData) OwnDays() string {
	if d.Retention.Own < 1 {
		return ""
	}
	return strconv.Itoa(d.Retention.Own)
}
