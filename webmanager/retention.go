package webmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Retention says how long the mail of a mailbox is kept, and what another number of days would do.
type Retention struct {
	// Own is the mailbox's own: 0 as the domain's, 1 to store.MaxExpireDays days, or -1 for never. Domain is the domain's: 0 is never.
	Own    int `json:"own"`
	Domain int `json:"domain"`
	// Days is after how many days a message is removed, fetched or not; 0 is never.
	Days int `json:"days"`
	// Leaving are the messages that are older than that now, and go at the next look, within six hours.
	Leaving store.Usage `json:"leaving"`
	// Sooner is set if mail would go sooner than it does, so that the change is to be confirmed.
	Sooner bool `json:"sooner"`
	// Consequences are sentences for people.
	Consequences []string `json:"consequences"`
}

// showRetention takes the parameter days: what the mailbox's own would be; without it, what it is.
func (a *API) showRetention(r *http.Request) (any, error) {
	account, _, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	own := account.ExpireDays
	if text := r.URL.Query().Get("days"); text != "" {
		if own, err = strconv.Atoi(text); err != nil {
			own = store.ExpireNever - 1
		}
	}
	if mistake := expireMistake(own); !mistake.none() {
		return nil, invalid(mistake.of("days"))
	}
	return a.retention(r.Context(), account, own)
}

func expireMistake(days int) words {
	if days < store.ExpireNever || days > store.MaxExpireDays {
		return say("expire_days", store.MaxExpireDays, store.ExpireNever)
	}
	return words{}
}

// retention is what own would come to for a mailbox.
func (a *API) retention(ctx context.Context, account store.Account, own int) (Retention, error) {
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return Retention{}, err
	}
	was := account.ExpireAfter(settings)
	account.ExpireDays = own
	rt := Retention{Own: own, Domain: settings.ExpireDays, Days: account.ExpireAfter(settings)}
	rt.Sooner = store.Sooner(rt.Days, was)
	if rt.Days == 0 {
		rt.Consequences = []string{"messages are kept until somebody deletes them"}
		return rt, nil
	}
	rt.Leaving, err = a.olderThan(ctx, account.ID, a.now().AddDate(0, 0, -rt.Days))
	days := count(int64(rt.Days), "day", "days")
	rt.Consequences = []string{"messages that came more than " + days + " ago are removed, also if they were never fetched; nobody can bring them back"}
	switch {
	case errors.Is(err, store.ErrSuspended):
		rt.Consequences = append(rt.Consequences, "the mailbox is suspended: nothing is removed until it is open again, and then what is too old")
		return rt, nil
	case err != nil:
		return Retention{}, err
	}
	are := "are"
	if rt.Leaving.Messages == 1 {
		are = "is"
	}
	rt.Consequences = append(rt.Consequences, fmt.Sprintf("%s (%s) %s older than that now, and removed within six hours",
		count(rt.Leaving.Messages, "message", "messages"), count(rt.Leaving.Octets, "octet", "octets"), are))
	return rt, nil
}

// olderThan counts the messages of a maildrop that came before a time.
func (a *API) olderThan(ctx context.Context, id store.AccountID, before time.Time) (u store.Usage, err error) {
	m, err := a.store.OpenMaildrop(ctx, id)
	if err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	list, err := m.Messages(ctx)
	if err != nil {
		return u, err
	}
	for message := range list {
		if message.Received.Before(before) {
			u = u.Plus(store.Usage{Octets: message.Size, Messages: 1})
		}
	}
	return u, nil
}

// confirmedSooner refuses to remove mail of a mailbox sooner than before unless its address was typed; the refusal says what the change would do.
func (a *API) confirmedSooner(ctx context.Context, before, wanted store.Account, domain, typed string) error {
	if before.ExpireDays == wanted.ExpireDays {
		return nil
	}
	rt, err := a.retention(ctx, before, wanted.ExpireDays)
	if err != nil || !rt.Sooner {
		return err
	}
	address, err := mailaddr.New(before.Name, domain)
	if err != nil {
		return err
	}
	if strings.EqualFold(strings.TrimSpace(typed), address.String()) {
		return nil
	}
	message := "this removes mail for good, so it must be confirmed with the address of the mailbox, " + address.String()
	if typed != "" {
		message = "what was typed to confirm is not the address of the mailbox, " + address.String() + "; nothing was changed"
	}
	return &Error{Code: CodeConfirm, Message: message, Consequences: rt.Consequences}
}
