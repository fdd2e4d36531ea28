package webmanager

import (
	"errors"
	"net/http"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Version says what runs, and for which domain.
type Version struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Domain  string `json:"domain"`
}

// CheckResult are the problems that were found; a sound domain has none.
type CheckResult struct {
	Problems []store.Problem `json:"problems"`
}

// AuditPage is a part of the audit log, newest first; ask for what is before Next if it is not 0.
type AuditPage struct {
	Entries []store.AuditEntry `json:"entries"`
	Next    uint64             `json:"next,omitempty"`
}

func (a *API) showVersion(r *http.Request) (any, error) {
	settings, err := a.store.Settings(r.Context())
	v := a.version
	v.Domain = settings.Domain
	return v, err
}

// ProblemNoMailbox is the kind of the problem that a role name leads nowhere; its object is the address.
const ProblemNoMailbox = "no mailbox"

// RoleNames must lead to a mailbox at every mail domain (RFC 5321 §4.5.1, RFC 2142 §2).
func RoleNames() []string { return []string{"postmaster", "abuse"} }

func (a *API) check(r *http.Request) (any, error) {
	problems, err := a.store.Check(r.Context())
	if err != nil {
		return nil, err
	}
	settings, err := a.store.Settings(r.Context())
	if err != nil {
		return nil, err
	}
	result := CheckResult{Problems: append([]store.Problem{}, problems...)}
	for _, name := range RoleNames() {
		address, err := mailaddr.New(name, settings.Domain)
		if err != nil {
			return nil, err
		}
		route, err := a.store.Resolve(r.Context(), address)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if len(route.Local) == 0 {
			result.Problems = append(result.Problems, store.Problem{
				Kind: ProblemNoMailbox, Object: address.String(), Detail: "every mail domain must take mail for this address",
			})
		}
	}
	return result, nil
}

func (a *API) listAudit(r *http.Request) (any, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, err
	}
	before, err := numberParameter(r, "before")
	if err != nil {
		return nil, err
	}
	entries, err := a.store.ListAudit(r.Context(), before, limit)
	if err != nil {
		return nil, err
	}
	page := AuditPage{Entries: append([]store.AuditEntry{}, entries...)}
	if len(entries) == limit {
		page.Next = entries[limit-1].Seq
	}
	return page, nil
}
