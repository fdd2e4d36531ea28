package pages

import (
	"fmt"
	"slices"
	"strings"

	"latchkey/webmanager"
)

// inLanguage is a refusal of the API as somebody reads it: in German what has a reason there, in English everything else. The refusal stays as it is.
func inLanguage(l lang, refusal *webmanager.Error) *webmanager.Error {
	if l != german {
		return refusal
	}
	said := *refusal
	said.Message = germanReason(said.Reason, said.Values, said.Message)
	said.Fields = slices.Clone(said.Fields)
	for i := range said.Fields {
		f := &said.Fields[i]
		f.Message = germanReason(f.Reason, f.Values, f.Message)
	}
	return &said
}

// germanReason is the German sentence of a reason, or otherwise where there is none.
func germanReason(reason webmanager.Reason, values []string, otherwise string) string {
	form, ok := germanReasons[reason]
	if !ok || strings.Count(form, "%s") != len(values) {
		return otherwise
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	return fmt.Sprintf(form, args...)
}

// labels are the texts of the fields of forms by their names in the API; those of one form alone have the end of its path before the name.
var labels = map[string]string{
	"display_name": "mailbox.person", "current": "password.current", "password": "password.new", "repeat": "password.repeat", "forward": "forward.to",
	"vacation.from": "vacation.from", "vacation.until": "vacation.until", "vacation.subject": "vacation.subject", "vacation.text": "vacation.words",
	"send": "device.may", "networks": "device.networks", "recipients": "device.recipients", "daily_recipients": "device.dailyrecipients",
	"code": "factor.code", "token": "proof.token", "recipient": "queue.recipient", "sender": "queue.sender", "message": "queue.message",
	"held": "queue.state", "subject": "trail.subject", "since": "trail.since", "until": "trail.until", "from": "trail.from", "to": "trail.to",
	"quota_mb": "mailbox.quotamb", "quota_messages": "mailbox.quotamessages", "send_as": "mailbox.sendas", "expire_days": "retention.number",
	"name": "mailbox.name", "targets": "aliases.leads", "network": "bans.network", "mailbox": "mailbox.address", "host": "queue.host",
	"/devices/add name": "device.name", "/aliases name": "aliases.address", "/tokens name": "device.name", "/trail for": "trail.for", "/bans for": "bans.for",
	"/login name": "login.name", "/login password": "login.password", "/mailboxes/add password": "login.password",
}

// Label is what a form calls a field of the API, or its name there.
func (v *view) Label(field string) string {
	for name, key := range labels {
		if end, of, ok := strings.Cut(name, " "); ok && of == field && strings.HasSuffix(v.Path, end) {
			return text(lang(v.Lang), key)
		}
	}
	if key, ok := labels[field]; ok {
		return text(lang(v.Lang), key)
	}
	return field
}
