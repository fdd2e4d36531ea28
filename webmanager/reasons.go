package webmanager

import "fmt"

// Reason names what is wrong in a refusal or a field, for programs, and for whoever says it in another language than the API's English. One never gets
// another meaning. What only the owner of a domain or the operator can get wrong has none.
type Reason string

// words say what is wrong: a reason and what its sentence takes. Their zero value says that nothing is.
type words struct {
	reason Reason
	values []string
}

// say makes words. The values are in the order of the sentence.
func say(reason Reason, values ...any) words {
	w := words{reason: reason}
	for _, v := range values {
		w.values = append(w.values, fmt.Sprint(v))
	}
	return w
}

// none reports whether nothing is wrong.
func (w words) none() bool { return w.reason == "" }

// String is the sentence in English.
func (w words) String() string {
	args := make([]any, len(w.values))
	for i, v := range w.values {
		args[i] = v
	}
	return fmt.Sprintf(reasons[w.reason], args...)
}

// of is a field that is wrong so.
func (w words) of(field string) Field {
	return Field{Field: field, Message: w.String(), Reason: w.reason, Values: w.values}
}

// refusal is a refusal of a code with these words.
func (w words) refusal(code Code) *Error {
	return &Error{Code: code, Message: w.String(), Reason: w.reason, Values: w.values}
}

// Reasons are the English sentences of all reasons, each with a %s for every value.
func Reasons() map[Reason]string {
	all := make(map[Reason]string, len(reasons))
	for reason, sentence := range reasons {
		all[reason] = sentence
	}
	return all
}

// reasons are what the owner of a mailbox can get wrong, in fields and as a whole.
var reasons = map[Reason]string{
	// Of one's own mailbox.
	"not_yours":         "is not yours to change",
	"name_elsewhere":    "is at another domain; this one is %s",
	"name_form":         "is not a mailbox name: letters, digits, and . - _ + between them, 1 to %s octets",
	"password_short":    "has fewer than %s characters",
	"password_long":     "is longer than %s octets",
	"control_or_utf8":   "has control characters, or is not UTF-8",
	"long_or_control":   "has more than %s octets, or control characters",
	"addresses_many":    "has more than %s addresses",
	"address_form":      "number %s is not an address",
	"forward_inside":    "%s is of this domain: let an alias lead to both mailboxes",
	"no_domain":         "%s has no domain",
	"named_twice":       "%s is named twice",
	"expire_days":       "is 0 (as the domain's), 1 to %s days, or %s (never)",
	"pop3_select":       `is empty for all, "new", "1d" to "%sd", or "max=1" to "max=%s"`,
	"current_wrong":     "is not the present password",
	"code_wrong":        "is not right; is the clock of the telephone right?",
	"vacation_day":      "is a day such as 2026-07-01",
	"vacation_order":    "is before the first day",
	"vacation_empty":    "is empty: there is nothing to answer",
	"device_name":       "has 1 to %s octets, no control characters, and no blanks around it",
	"passkey_twin":      "is that of another passkey of this mailbox",
	"device_idle":       "or fetch is needed: a device without either does nothing",
	"device_size":       "is 0 (no bound of its own) or more",
	"device_daily":      "is 0 (no bound of its own) to %s",
	"device_past":       "is in the past",
	"at_most":           "are at most %s",
	"network_form":      "%s is no address and no network without host bits",
	"recipient_domain":  "number %s is not a domain",
	"recipient_address": "number %s is not an address, nor a domain with @ before it",

	// Of what is looked for.
	"message_id":       "is a message id of 16 hex digits",
	"name_or_address":  "is an address or the name of a mailbox",
	"one_to":           "is 1 to %s",
	"recipient_needed": "has to be named: the message has several",
	"too_long":         "has more than %s octets",
	"no_word":          "has no word of three letters or more, and no number",
	"time_form":        "is a time such as 2026-04-01T12:00:00Z",
	"not_domain":       "is not a domain",
	"not_address":      "is not an address",
	"not_ip":           "is an IP address",
	"true_or_false":    "is true or false",
	"whole_number":     "is a whole number",
	"whole_number_to":  "is a whole number of 1 to %s",
	"job_number":       "is the number of a queued delivery",
	"grant_numbers":    "are 1 to %s numbers of grants",
	"wrong_type":       "is not of the right type",
	"proof_form":       "it is not a proof of delivery, or a part of it is missing",
	"proof_signature":  "it was not signed with that key, or was changed since",

	// Refusals as a whole.
	"one_wrong":         "one field is wrong",
	"some_wrong":        "some fields are wrong",
	"not_allowed":       "you may not do that",
	"no_mailbox":        "there is no mailbox %s",
	"no_device":         "the mailbox %s has no such device",
	"device_exists":     "the mailbox %s has a device named %s already",
	"devices_many":      "the mailbox %s has %s devices, which is the most: revoke one first",
	"passkeys_many":     "there are %s passkeys, which is the most: remove one first",
	"passkey_nowhere":   "browsers make passkeys only for pages with a name and TLS, or at localhost",
	"passkey_late":      "that took too long, or was sent twice: begin again",
	"passkey_wrong":     "the browser's answer is not right: begin again",
	"no_passkey":        "the mailbox %s has no such passkey",
	"codes_already_end": "codes are asked for already: end that first",
	"codes_already":     "codes are asked for already",
	"no_secret":         "there is no secret yet",
	"no_job":            "there is no queued delivery %s (any more)",
	"no_message":        "there is no such message in the mailbox (any more)",
	"mailbox_suspended": "the mailbox is suspended, so nobody can look into it: open it again first",
	"no_trail":          "the trail has no message %s (any more)",
	"not_delivered":     "message %s was not delivered to %s (so far)",
	"no_proofs":         "this server has signed no proof of delivery yet",
	"proof_expired":     "the proof is genuine, and expired on %s",
	"no_refusal":        "there is no refusal of that code or name",
	"which_grants":      "say which grants: ids, a mailbox, or all",
	"conflict":          "it was changed by somebody else meanwhile: look again, then try again",
	"taken":             "the name is taken by a mailbox or an alias",
	"not_found":         "it does not exist (any more)",
	"disk_full":         "the disk is full: make room, then try again",
	"disk_failed":       "the disk failed to sync, so nothing is changed any more: look at the disk, then start the server again",
	"in_progress":       "that is being done already: wait for its end",
	"stopping":          "the server is stopping: try again",
	"passwords_busy":    "too many passwords are being checked just now: try again",
	"passwords_nowhere": "passwords and passkeys cannot be checked here",
	"inside":            "something failed inside; the server's log has the cause",
	"body_large":        "the body is larger than %s octets",
	"audit_failed":      "the change was made, but could not be written to the audit log",
}
