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

// pageSize is how many lines a list shows.
const pageSize = 50

// mailboxPages are about mailboxes.
func (s *Server) mailboxPages() []pageRoute {
	return []pageRoute{
		{"GET /mailboxes", "GET /v1/accounts", (*exchange).listMailboxes},
		{"GET /mailboxes/add", "POST /v1/accounts", (*exchange).showAddMailbox},
		{"POST /mailboxes/add", "POST /v1/accounts", (*exchange).addMailbox},
		{"GET /mailbox/{name}", "GET /v1/accounts/{name}", (*exchange).showMailbox},
		{"POST /mailbox/{name}/change", "PATCH /v1/accounts/{name}", (*exchange).changeMailbox},
		{"POST /mailbox/{name}/forward", "PATCH /v1/accounts/{name}", (*exchange).forwardMailbox},
		{"POST /mailbox/{name}/password", "PUT /v1/accounts/{name}/password", (*exchange).setPassword},
		{"POST /mailbox/{name}/factor", "POST /v1/accounts/{name}/totp", (*exchange).makeFactor},
		{"POST /mailbox/{name}/factor/start", "PUT /v1/accounts/{name}/totp", (*exchange).startFactor},
		{"POST /mailbox/{name}/factor/end", "POST /v1/accounts/{name}/totp/end", (*exchange).endFactor},
		{"POST /mailbox/{name}/passkeys", "POST /v1/accounts/{name}/passkeys", (*exchange).makePasskey},
		{"POST /mailbox/{name}/passkeys/add", "PUT /v1/accounts/{name}/passkeys", (*exchange).addPasskey},
		{"POST /mailbox/{name}/passkeys/remove", "DELETE /v1/accounts/{name}/passkeys/{passkey}", (*exchange).removePasskey},
		{"POST /mailbox/{name}/suspend", "PATCH /v1/accounts/{name}", (*exchange).suspendMailbox},
		{"POST /mailbox/{name}/remove", "DELETE /v1/accounts/{name}", (*exchange).removeMailbox},
		{"POST /mailbox/{name}/devices/add", "POST /v1/accounts/{name}/devices", (*exchange).addDevice},
		{"POST /mailbox/{name}/devices/revoke", "DELETE /v1/accounts/{name}/devices/{device}", (*exchange).revokeDevice},
	}
}

// mailboxPath is the page of a mailbox.
func mailboxPath(name string) string { return "/mailbox/" + url.PathEscape(name) }

// mailboxesData is the list of mailboxes.
type mailboxesData struct {
	webmanager.AccountPage
	Usage webmanager.DomainUsage
	First bool // nothing comes before
}

func (x *exchange) listMailboxes() error {
	after := x.r.URL.Query().Get("after")
	data := mailboxesData{First: after == ""}
	query := url.Values{"limit": {strconv.Itoa(pageSize)}, "after": {after}}
	if name := strings.TrimSpace(x.r.URL.Query().Get("find")); name != "" {
		return x.findMailbox(name)
	}
	if err := x.get(webmanager.Path("accounts"), query, &data.AccountPage); err != nil {
		return err
	}
	if err := x.get(webmanager.Path("usage"), nil, &data.Usage); err != nil {
		return err
	}
	return x.show("mailboxes", x.t("mailboxes.title"), data)
}

// findMailbox goes to the mailbox that was asked for, or says that there is none.
func (x *exchange) findMailbox(name string) error {
	var account webmanager.Account
	if err := x.get(webmanager.Path("accounts", name), nil, &account); err != nil {
		return err
	}
	return x.done(mailboxPath(account.Name), "")
}

func (x *exchange) showAddMailbox() error {
	return x.show("mailboxadd", x.t("mailboxes.add"), nil)
}

func (x *exchange) addMailbox() error {
	body := webmanager.NewAccount{Name: strings.TrimSpace(x.form("name")), DisplayName: strings.TrimSpace(x.form("display_name")), Password: x.form("password")}
	var added webmanager.Account
	if err := x.do(http.MethodPost, webmanager.Path("accounts"), body, &added); err != nil {
		return x.again(err, (*exchange).showAddMailbox)
	}
	return x.done(mailboxPath(added.Name), x.t("mailboxes.added", added.Address.String()))
}

// mailboxData is the page of a mailbox.
type mailboxData struct {
	webmanager.Account
	Devices []webmanager.Device
	Clients []webmanager.MailClient
	Grants  []webmanager.Grant
	Holds   []webmanager.Hold
	// Factor says whether signing in needs a code too.
	Factor webmanager.TOTP
	// Passkeys are those to sign in with; PasskeysHere is set where browsers make them.
	Passkeys     webmanager.PasskeyList
	PasskeysHere bool
	// Mine is set for the page of who looks at it; Made is a device whose password is shown, this once.
	Mine bool
	Made *webmanager.AddedDevice
	// Away is what it answers, Preview an answer that somebody wants to see.
	Away    webmanager.VacationView
	Preview *webmanager.VacationPreview
	// Retention is how long its mail is kept, Asked what is still to be confirmed.
	Retention webmanager.Retention
	Asked     *webmanager.Retention
}

func (x *exchange) showMailbox() error { return x.mailbox(nil) }

// mailbox shows a mailbox; add, if it is not nil, puts to it what was just made or asked for.
func (x *exchange) mailbox(add func(*mailboxData)) error {
	data := &mailboxData{}
	if err := x.get(webmanager.Path("accounts", x.r.PathValue("name")), nil, &data.Account); err != nil {
		return err
	}
	data.Mine = x.actor.Account == data.ID
	var err error
	if data.PasskeysHere, _, err = x.passkeysHere(); err != nil {
		return err
	}
	own := url.Values{"mailbox": {data.Name}}
	var devices webmanager.DevicePage
	var clients webmanager.ClientPage
	var grants webmanager.GrantPage
	var holds []webmanager.Hold
	live := url.Values{"mailbox": {data.Name}, "live": {"true"}}
	if err := errors.Join(
		x.get(webmanager.Path("devices"), own, &devices), x.get(webmanager.Path("clients"), own, &clients),
		x.get(webmanager.Path("grants"), live, &grants), x.get(webmanager.Path("holds"), nil, &holds),
		x.get(webmanager.Path("accounts", data.Name, "totp"), nil, &data.Factor),
		x.get(webmanager.Path("accounts", data.Name, "passkeys"), nil, &data.Passkeys),
		x.get(webmanager.Path("accounts", data.Name, "vacation"), nil, &data.Away),
		x.get(webmanager.Path("accounts", data.Name, "retention"), nil, &data.Retention),
	); err != nil {
		return err
	}
	data.Devices, data.Clients, data.Grants = devices.Devices, clients.Clients, grants.Grants
	for _, h := range holds {
		if h.Mailbox == data.Name {
			data.Holds = append(data.Holds, h)
		}
	}
	if add != nil {
		add(data)
	}
	return x.show("mailbox", data.Address.String(), data)
}

// patch changes the mailbox of the path, and shows it.
func (x *exchange) patch(change webmanager.AccountChange, sentence string) error {
	var after webmanager.Account
	if err := x.do(http.MethodPatch, webmanager.Path("accounts", x.r.PathValue("name")), change, &after); err != nil {
		return x.again(err, (*exchange).showMailbox)
	}
	return x.done(mailboxPath(after.Name), x.t(sentence, after.Address.String()))
}

// formQuota reads a quota as people type it: megabytes, and messages; empty is no bound.
func (x *exchange) formQuota() (*store.Quota, *webmanager.Error) {
	var q store.Quota
	refusal := &webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("form.wrong")}
	for _, f := range []struct {
		name string
		unit int64
		into *int64
	}{{"quota_mb", 1 << 20, &q.Octets}, {"quota_messages", 1, &q.Messages}} {
		typed := strings.TrimSpace(x.form(f.name))
		if typed == "" {
			continue
		}
		n, err := strconv.ParseFloat(typed, 64)
		if err != nil || n < 0 || n > 1e12 || f.unit == 1 && n != float64(int64(n)) {
			refusal.Fields = append(refusal.Fields, webmanager.Field{Field: f.name, Message: x.t("form.number")})
			continue
		}
		*f.into = int64(n * float64(f.unit))
	}
	if len(refusal.Fields) > 0 {
		return nil, refusal
	}
	return &q, nil
}

func (x *exchange) changeMailbox() error {
	display := strings.TrimSpace(x.form("display_name"))
	change := webmanager.AccountChange{DisplayName: &display}
	if x.r.PostForm.Has("quota_mb") {
		quota, refusal := x.formQuota()
		if refusal != nil {
			return x.again(refusal, (*exchange).showMailbox)
		}
		sendAs, old := words(x.form("send_as")), x.r.PostForm.Has("old_client_login")
		change.Quota, change.SendAs, change.OldClientLogin = quota, &sendAs, &old
	}
	return x.patch(change, "mailbox.changed")
}

func (x *exchange) forwardMailbox() error {
	forward := webmanager.ForwardChange{To: words(x.form("forward")), Keep: x.r.PostForm.Has("keep")}
	if len(forward.To) == 0 {
		forward.Keep = false
	}
	return x.patch(webmanager.AccountChange{Forward: &forward}, "mailbox.changed")
}

func (x *exchange) suspendMailbox() error {
	suspended := x.form("suspended") == "yes"
	sentence := "mailbox.resumed"
	if suspended {
		sentence = "mailbox.suspended"
	}
	return x.patch(webmanager.AccountChange{Suspended: &suspended}, sentence)
}

// setPassword sets a password. Whoever changes his own is signed out everywhere by that, and in again here.
func (x *exchange) setPassword() error {
	if x.form("password") != x.form("repeat") {
		return x.again(&webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("form.wrong"), Fields: []webmanager.Field{
			{Field: "repeat", Message: x.t("password.differs")},
		}}, (*exchange).showMailbox)
	}
	name := x.r.PathValue("name")
	body := webmanager.Password{Password: x.form("password"), Current: x.form("current"), Devices: x.r.PostForm.Has("devices")}
	if err := x.do(http.MethodPut, webmanager.Path("accounts", name, "password"), body, nil); err != nil {
		return x.again(err, (*exchange).showMailbox)
	}
	sentence := x.t("password.set")
	if x.actor.Account == 0 || name != x.actor.Name {
		return x.done(mailboxPath(name), sentence)
	}
	x.s.sessions.end(x.session)
	x.setCookie("")
	x.session = nil
	return x.show("changed", x.t("password.title"), nil)
}

// removeMailbox removes a mailbox whose address was typed.
func (x *exchange) removeMailbox() error {
	var account webmanager.Account
	if err := x.get(webmanager.Path("accounts", x.r.PathValue("name")), nil, &account); err != nil {
		return err
	}
	if !strings.EqualFold(strings.TrimSpace(x.form("confirm")), account.Address.String()) {
		return x.again(&webmanager.Error{Code: webmanager.CodeConfirm, Message: x.t("form.wrong"), Fields: []webmanager.Field{
			{Field: "confirm", Message: x.t("remove.type", account.Address.String())},
		}}, (*exchange).showMailbox)
	}
	if err := x.do(http.MethodDelete, webmanager.Path("accounts", account.Name), nil, nil); err != nil {
		return x.again(err, (*exchange).showMailbox)
	}
	return x.done("/mailboxes", x.t("remove.done", account.Address.String()))
}

// words takes a list apart: blanks, commas and line ends are between.
func words(text string) []string {
	list := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
	if list == nil {
		list = []string{}
	}
	return list
}

// addDevice makes a password for a device, which is on the page that answers and nowhere else.
func (x *exchange) addDevice() error {
	body := webmanager.DeviceRules{
		Name: strings.TrimSpace(x.form("device_name")), Send: x.r.PostForm.Has("send"), Fetch: x.r.PostForm.Has("fetch"),
		Networks: words(x.form("networks")), OwnDomain: x.r.PostForm.Has("own_domain"), Recipients: words(x.form("recipients")),
	}
	if typed := strings.TrimSpace(x.form("daily_recipients")); typed != "" {
		n, err := strconv.Atoi(typed)
		if err != nil {
			n = -1 // the API says what is wrong with it
		}
		body.DailyRecipients = n
	}
	var added webmanager.AddedDevice
	if err := x.do(http.MethodPost, webmanager.Path("accounts", x.r.PathValue("name"), "devices"), body, &added); err != nil {
		return x.again(err, (*exchange).showMailbox)
	}
	x.r.PostForm = nil // the form is empty again
	return x.mailbox(func(d *mailboxData) { d.Made = &added })
}

func (x *exchange) revokeDevice() error {
	name := x.r.PathValue("name")
	if err := x.do(http.MethodDelete, webmanager.Path("accounts", name, "devices", x.form("device")), nil, nil); err != nil {
		return x.again(err, (*exchange).showMailbox)
	}
	return x.done(mailboxPath(name), x.t("device.revoked"))
}
