package webmanager

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// MailClient is one way in which a mailbox is used, as the API shows it.
type MailClient struct {
	// Mailbox and Address are whose it is.
	Mailbox string           `json:"mailbox"`
	Address mailaddr.Address `json:"address"`
	// Program is what the client's habits say it is, or these habits: the commands with which its sessions begin.
	Program string `json:"program"`
	// Door is the listener as the configuration calls it, Mechanism how the client logs in, TLS the version or empty.
	Door      string `json:"door"`
	Mechanism string `json:"mechanism"`
	TLS       string `json:"tls"`
	// Device is the name of the device credential that it uses, empty for the main password.
	Device string `json:"device,omitempty"`
	// From is the address from which it came last.
	From netip.Addr `json:"from"`
	// First and Last are when it was seen.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Sessions counts its sessions, Fetched and Deleted its messages, Keeps the sessions that left mail which they had fetched. Sending has none.
	Sessions int64 `json:"sessions"`
	Fetched  int64 `json:"fetched"`
	Deleted  int64 `json:"deleted"`
	Keeps    int64 `json:"keeps"`
	// Old says what is old about it; empty if nothing is.
	Old []string `json:"old"`
}

// ClientPage is a part of the listing; ask for what comes after the mailbox Next if it is not empty.
type ClientPage struct {
	Clients []MailClient `json:"clients"`
	Next    string       `json:"next,omitempty"`
}

// What is old about a client.
const (
	OldDoor      = "old-client door"
	OldCleartext = "cleartext"
)

// oldAbout says what is old about a client. What is in the clear on this host nobody else can read.
func oldAbout(c store.Client) []string {
	old := []string{}
	if strings.HasPrefix(c.Door, "old_") {
		old = append(old, OldDoor)
	}
	switch c.TLS {
	case "":
		if !c.Address.IsLoopback() {
			old = append(old, OldCleartext)
		}
	case "TLS 1.0", "TLS 1.1":
		old = append(old, c.TLS)
	}
	if c.Mechanism == "APOP" || c.Mechanism == "CRAM-MD5" {
		old = append(old, c.Mechanism)
	}
	return old
}

// listClients lists the clients of one mailbox, or of all in order of name: limit then counts mailboxes. old=true lists only those that are old.
// What was seen in the last minute may be missing.
func (a *API) listClients(r *http.Request) (any, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, err
	}
	ctx, query := r.Context(), r.URL.Query()
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	onlyOld := false
	switch query.Get("old") {
	case "", "false":
	case "true":
		onlyOld = true
	default:
		return nil, invalid(say("true_or_false").of("old"))
	}
	page := ClientPage{Clients: []MailClient{}}
	var accounts []store.Account
	if mailbox := query.Get("mailbox"); mailbox != "" {
		account, err := a.accountNamed(ctx, mailbox, settings.Domain)
		if err != nil {
			return nil, err
		}
		accounts = []store.Account{account}
	} else {
		if accounts, err = a.store.ListAccounts(ctx, query.Get("after"), limit); err != nil {
			return nil, err
		}
		if len(accounts) == limit {
			page.Next = accounts[limit-1].Name
		}
	}
	for _, account := range accounts {
		if page.Clients, err = a.appendClients(ctx, page.Clients, account, settings.Domain, onlyOld); err != nil {
			return nil, err
		}
	}
	return page, nil
}

func (a *API) appendClients(ctx context.Context, list []MailClient, account store.Account, domain string, onlyOld bool) ([]MailClient, error) {
	address, err := mailaddr.New(account.Name, domain)
	if err != nil {
		return nil, err
	}
	seen, err := a.store.ListClients(ctx, account.ID, store.MaxClients)
	if err != nil {
		return nil, err
	}
	for _, c := range seen {
		old := oldAbout(c)
		if onlyOld && len(old) == 0 {
			continue
		}
		list = append(list, MailClient{
			Mailbox: account.Name, Address: address, Program: c.Program, Door: c.Door, Mechanism: c.Mechanism, TLS: c.TLS, Device: c.Device, From: c.Address,
			First: c.First, Last: c.Last,
			Sessions: c.Sessions, Fetched: c.Fetched, Deleted: c.Deleted, Keeps: c.Keeps, Old: old,
		})
	}
	return list, nil
}
