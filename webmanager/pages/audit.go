package pages

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"

	"latchkey/store"
	"latchkey/webmanager"
)

// auditData is a page of the audit log.
type auditData struct {
	Entries []auditEntry
	Next    uint64
	First   bool
}

// auditEntry is an entry with what changed in it.
type auditEntry struct {
	store.AuditEntry
	Changes []fieldChange
}

// fieldChange is one field before and after.
type fieldChange struct{ Name, Before, After string }

func (x *exchange) showAudit() error {
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	before := x.r.URL.Query().Get("before")
	if before != "" {
		query.Set("before", before)
	}
	var page webmanager.AuditPage
	if err := x.get(webmanager.Path("audit"), query, &page); err != nil {
		return err
	}
	data := auditData{Next: page.Next, First: before == ""}
	for _, e := range page.Entries {
		data.Entries = append(data.Entries, auditEntry{e, changed(e.Before, e.After)})
	}
	return x.show("audit", x.t("audit.title"), data)
}

// unshown are fields that every change has.
var unshown = []string{"version", "credential_version"}

// changed are the fields that differ between two states, which are JSON; states that are no objects are one field without a name.
func changed(before, after string) []fieldChange {
	var was, is map[string]json.RawMessage
	wasErr, isErr := fields(before, &was), fields(after, &is)
	if wasErr != nil || isErr != nil {
		if before == after {
			return nil
		}
		return []fieldChange{{Before: before, After: after}}
	}
	names := map[string]bool{}
	for _, state := range []map[string]json.RawMessage{was, is} {
		for name := range state {
			names[name] = true
		}
	}
	var list []fieldChange
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !bytes.Equal(was[name], is[name]) && !slices.Contains(unshown, name) {
			list = append(list, fieldChange{name, plainJSON(was[name]), plainJSON(is[name])})
		}
	}
	return list
}

func fields(state string, into *map[string]json.RawMessage) error {
	if state == "" {
		return nil
	}
	return json.Unmarshal([]byte(state), into)
}

// plainJSON is a value without the quotes of a text.
func plainJSON(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text
	}
	return string(value)
}
