package pages

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"latchkey/store"
	"latchkey/webmanager"
)

// sendingPages are about who may send, and all other settings.
func (s *Server) sendingPages() []pageRoute {
	return []pageRoute{
		{"GET /sending", "GET /v1/settings", (*exchange).showSending},
		{"POST /sending", "POST /v1/settings/preview", (*exchange).previewSending},
		{"GET /sending/all", "GET /v1/settings", (*exchange).showSettings},
		{"POST /sending/all", "POST /v1/settings/preview", (*exchange).previewSettings},
		{"POST /sending/apply", "PATCH /v1/settings", (*exchange).applySettings},
		{"GET /grants", "GET /v1/settings", (*exchange).listGrants},
		{"POST /grants/revoke", "POST /v1/grants/revoke", (*exchange).revokeGrants},
		{"GET /holds", "GET /v1/holds", (*exchange).listHolds},
		{"POST /mailbox/{name}/release", "POST /v1/accounts/{name}/release", (*exchange).releaseMailbox},
		{"POST /mailbox/{name}/purge", "POST /v1/accounts/{name}/purge", (*exchange).purgeMailbox},
	}
}

// How long authentication can be off, as the form offers it; of the two words the first keeps the time that is set, the second sets none.
const (
	offAsItIs = "keep"
	offNever  = "never"
)

var offTimes = []string{"1h", "4h", "24h", "168h", "720h"}

// sendingData is the page of who may send.
type sendingData struct {
	webmanager.SettingsView
	Networks string
	OffTimes []string
	// Off is set while authentication is off, and may be left as it is.
	Off bool
}

// settings asks for them.
func (x *exchange) settings() (v webmanager.SettingsView, err error) {
	return v, x.get(webmanager.Path("settings"), nil, &v)
}

func (x *exchange) showSending() error {
	settings, err := x.settings()
	if err != nil {
		return err
	}
	data := sendingData{SettingsView: settings, Networks: strings.Join(texts[netip.Prefix](settings.TrustedNetworks), "\n"), OffTimes: offTimes, Off: !settings.AuthRequired}
	return x.show("sending", x.t("sending.title"), data)
}

// previewSending shows what a change of who may send would do.
func (x *exchange) previewSending() error {
	required := x.form("require_auth") == "on"
	change := webmanager.SettingsBody{
		"require_auth": required, "pop_before_smtp": x.form("pop_before_smtp") == "on", "outgoing_mail": x.form("outgoing_mail") == "on",
		"trusted_networks": words(x.form("trusted_networks")),
	}
	switch off := x.form("off"); {
	case required, off == offAsItIs:
	case off == offNever:
		change["require_auth_at"] = nil
	default:
		change["require_auth_for"] = off
	}
	return x.preview(change, (*exchange).showSending)
}

// settingsData is the page of all settings.
type settingsData struct {
	Version  uint64
	Settings []settingView
}

// settingView is one setting as a form has it.
type settingView struct {
	Name, Help, Value string
	Switch, On        bool
	// Lines is set for a list, one in each line.
	Lines bool
}

// own are the settings that have a page with more words about them.
var ownPage = []string{"require_auth", "require_auth_at", "trusted_networks", "pop_before_smtp", "outgoing_mail"}

// editable are the settings of the table that an actor may change on the page of all.
func (x *exchange) editable() []webmanager.Setting {
	return slices.DeleteFunc(webmanager.Settings(), func(s webmanager.Setting) bool {
		return slices.Contains(ownPage, s.Name) || s.Operator && x.actor.Role < webmanager.RoleOperator
	})
}

func (x *exchange) showSettings() error {
	settings, err := x.settings()
	if err != nil {
		return err
	}
	data := settingsData{Version: settings.Version}
	for _, s := range x.editable() {
		value := s.Show(settings.Settings)
		v := settingView{Name: s.Name, Help: s.Help, Value: value, Switch: value == "on" || value == "off", On: value == "on"}
		v.Lines = strings.HasSuffix(s.Name, "_networks") || s.Name == "outside_senders"
		if v.Lines {
			v.Value = strings.ReplaceAll(value, ",", "\n")
		}
		data.Settings = append(data.Settings, v)
	}
	return x.show("settings", x.t("settings.title"), data)
}

// previewSettings shows what a change of any settings would do: those of the form that are not as they are.
func (x *exchange) previewSettings() error {
	settings, err := x.settings()
	if err != nil {
		return err
	}
	change := webmanager.SettingsBody{}
	refusal := &webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("form.wrong")}
	for _, s := range x.editable() {
		if !x.r.PostForm.Has("has_" + s.Name) {
			continue // the form was not of this setting
		}
		typed, before := x.form(s.Name), s.Show(settings.Settings)
		switch {
		case before == "on" || before == "off":
			if typed != "on" {
				typed = "off"
			}
		case strings.ContainsAny(typed, "\r\n"):
			typed = strings.Join(words(typed), ",")
		}
		if typed = strings.TrimSpace(typed); typed == before {
			continue
		}
		value, err := s.Read(typed)
		if err != nil {
			refusal.Fields = append(refusal.Fields, webmanager.Field{Field: s.Name, Message: err.Error()})
			continue
		}
		change[s.Name] = value
	}
	if len(refusal.Fields) > 0 {
		return x.again(refusal, (*exchange).showSettings)
	}
	return x.preview(change, (*exchange).showSettings)
}

// previewData is the page between a change of settings and its being done.
type previewData struct {
	webmanager.SettingsPreview
	// Change is the body of the change as JSON, for the next form, which the API judges anew.
	Change string
	Back   string
}

// preview shows what a change would do; form is shown again where it is wrong.
func (x *exchange) preview(change webmanager.SettingsBody, form func(*exchange) error) error {
	if version, err := strconv.ParseUint(x.form("version"), 10, 64); err == nil {
		change["version"] = version
	}
	return x.previewOf(change, form)
}

func (x *exchange) previewOf(change webmanager.SettingsBody, form func(*exchange) error) error {
	data := previewData{Back: "/sending"}
	if err := x.do(http.MethodPost, webmanager.Path("settings", "preview"), change, &data.SettingsPreview); err != nil {
		return x.again(err, form)
	}
	if len(data.Changes) == 0 {
		return x.done("/sending", x.t("preview.nothing"))
	}
	text, err := json.Marshal(change)
	if err != nil {
		return err
	}
	data.Change = string(text)
	return x.show("preview", x.t("preview.title"), data)
}

// applySettings makes a change whose preview was shown. Whatever a browser sends, the API looks at it as at any change.
func (x *exchange) applySettings() error {
	var change webmanager.SettingsBody
	if err := json.Unmarshal([]byte(x.form("change")), &change); err != nil || change == nil {
		return &webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("error.form")}
	}
	delete(change, "confirm")
	shown := change
	if confirm := strings.TrimSpace(x.form("confirm")); confirm != "" {
		shown = webmanager.SettingsBody{}
		for name, value := range change {
			shown[name] = value
		}
		change["confirm"] = confirm
	}
	var changed webmanager.SettingsChanged
	if err := x.do(http.MethodPatch, webmanager.Path("settings"), change, &changed); err != nil {
		return x.again(err, func(x *exchange) error { return x.previewOf(shown, (*exchange).showSending) })
	}
	sentence := x.t("sending.changed")
	if changed.GrantsEnded > 0 {
		sentence = x.t("sending.changedgrants", changed.GrantsEnded)
	}
	return x.done("/sending", sentence)
}

// grantsData is the list of grants.
type grantsData struct {
	webmanager.GrantPage
	// On is set while POP before SMTP counts.
	On    bool
	First bool
}

func (x *exchange) listGrants() error {
	settings, err := x.settings()
	if err != nil {
		return err
	}
	after := x.r.URL.Query().Get("after")
	data := grantsData{On: settings.POPBeforeSMTP && settings.OutgoingMail, First: after == ""}
	query := map[string][]string{"live": {"true"}, "limit": {strconv.Itoa(pageSize)}}
	if after != "" {
		query["after"] = []string{after}
	}
	if err := x.get(webmanager.Path("grants"), query, &data.GrantPage); err != nil {
		return err
	}
	return x.show("grants", x.t("grants.title"), data)
}

func (x *exchange) revokeGrants() error {
	body := webmanager.GrantRevocation{Mailbox: x.form("mailbox"), All: x.form("all") == "yes"}
	back := "/grants"
	if body.Mailbox != "" {
		back = mailboxPath(body.Mailbox)
	}
	if id, err := strconv.ParseUint(x.form("id"), 10, 64); err == nil {
		body.IDs = []store.GrantID{store.GrantID(id)}
	}
	var revoked webmanager.GrantsRevoked
	if err := x.do(http.MethodPost, webmanager.Path("grants", "revoke"), body, &revoked); err != nil {
		return err
	}
	return x.done(back, x.t("grants.revoked", revoked.Revoked))
}

// heldShown is how many deliveries on hold are shown of a mailbox.
const heldShown = 10

// heldMailbox is a mailbox whose mail is on hold, with some of what waits.
type heldMailbox struct {
	Mailbox string
	Holds   []webmanager.Hold
	Jobs    []store.Job
	More    bool
}

func (x *exchange) listHolds() error {
	var holds []webmanager.Hold
	if err := x.get(webmanager.Path("holds"), nil, &holds); err != nil {
		return err
	}
	var list []*heldMailbox
	for _, h := range holds {
		i := slices.IndexFunc(list, func(m *heldMailbox) bool { return m.Mailbox == h.Mailbox })
		if i < 0 {
			i, list = len(list), append(list, &heldMailbox{Mailbox: h.Mailbox})
		}
		list[i].Holds = append(list[i].Holds, h)
	}
	for _, m := range list[:min(len(list), pageSize)] {
		var page webmanager.QueuePage
		query := map[string][]string{"held": {"true"}, "submitter": {m.Mailbox}, "limit": {strconv.Itoa(heldShown)}}
		if err := x.get(webmanager.Path("queue"), query, &page); err != nil {
			return err
		}
		m.Jobs, m.More = page.Jobs, page.Next != 0
	}
	return x.show("holds", x.t("holds.title"), list)
}

func (x *exchange) releaseMailbox() error {
	var released webmanager.SenderReleased
	if err := x.do(http.MethodPost, webmanager.Path("accounts", x.r.PathValue("name"), "release"), struct{}{}, &released); err != nil {
		return err
	}
	return x.done("/holds", x.t("holds.released", released.Released))
}

// purgeMailbox takes a mailbox back from somebody who knew its password.
func (x *exchange) purgeMailbox() error {
	name := x.r.PathValue("name")
	var purged webmanager.Purged
	if err := x.do(http.MethodPost, webmanager.Path("accounts", name, "purge"), webmanager.Purge{Password: x.form("password")}, &purged); err != nil {
		return x.again(err, (*exchange).showMailbox)
	}
	if x.actor.Account != 0 && name == x.actor.Name {
		return x.show("changed", x.t("password.title"), nil) // and signed out
	}
	return x.done(mailboxPath(name), x.t("purge.done", purged.Removed, purged.DevicesRevoked, purged.GrantsRevoked))
}
