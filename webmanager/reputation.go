package webmanager

import (
	"net/http"
	"slices"

	"latchkey/guard"
	"latchkey/relay"
	"latchkey/store"
)

// Reputation knows what blocklists say of this server's addresses: *guard.Reputation.
type Reputation interface {
	Standings() []guard.Standing
}

// ReputationView is what is known of the reputation of this server, and of its mailboxes.
type ReputationView struct {
	// Standings are empty if nothing was asked yet: no lists are configured, or the server has no public address.
	Standings []guard.Standing `json:"standings"`
	// Slow are the providers that block this server, or may do so while it is listed: mail to them goes slowly.
	Slow []relay.Slow `json:"slow"`
	// Senders are the mailboxes that sent out of the domain today or yesterday, those with most against them first.
	Senders []Sender `json:"senders"`
}

// Sender is how a mailbox sent today and yesterday, in recipients outside the domain.
type Sender struct {
	Mailbox    string `json:"mailbox"`
	Recipients int64  `json:"recipients"`
	Held       int64  `json:"held"`
	Failed     int64  `json:"failed"`
	Refused    int64  `json:"refused"`
	Complaints int64  `json:"complaints"`
}

// Complaint is the body that notes complaints about a mailbox.
type Complaint struct {
	// Count is 1 to 1000; 0 means 1.
	Count int `json:"count,omitempty"`
}

// maxSenders bounds the senders of one answer.
const maxSenders = 50

func (a *API) showReputation(r *http.Request) (any, error) {
	if a.reputation == nil {
		return nil, &Error{Code: CodeUnavailable, Message: "only a running server knows what blocklists say"}
	}
	view := ReputationView{Standings: append([]guard.Standing{}, a.reputation.Standings()...), Slow: []relay.Slow{}, Senders: []Sender{}}
	if a.slow != nil {
		view.Slow = append(view.Slow, a.slow()...)
	}
	now := a.now()
	for after := ""; ; {
		page, err := a.store.ListAccounts(r.Context(), after, MaxListLimit)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].Name
		for _, account := range page {
			s := Sender{Mailbox: account.Name}
			for _, day := range []store.Day{store.DayOf(now), store.DayOf(now.AddDate(0, 0, -1))} {
				for figure, sum := range map[store.SendingFigure]*int64{
					store.FigureRecipients: &s.Recipients, store.FigureHeld: &s.Held, store.FigureFailed: &s.Failed,
					store.FigureRefused: &s.Refused, store.FigureComplaints: &s.Complaints,
				} {
					n, err := a.store.Stat(r.Context(), day, store.SendingOf(figure, account.ID))
					if err != nil {
						return nil, err
					}
					*sum += n
				}
			}
			if s != (Sender{Mailbox: account.Name}) {
				view.Senders = append(view.Senders, s)
			}
		}
	}
	slices.SortStableFunc(view.Senders, func(x, y Sender) int { return int(y.against() - x.against()) })
	view.Senders = view.Senders[:min(len(view.Senders), maxSenders)]
	return view, nil
}

// against is what the likely cause of a listing is found by.
func (s Sender) against() int64 {
	return guard.Against(s.Recipients-s.Held, s.Failed+s.Refused, s.Complaints)
}

// noteComplaint counts complaints of others about the mail of a mailbox.
func (a *API) noteComplaint(r *http.Request) (any, error) {
	var body Complaint
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if body.Count < 0 || body.Count > 1000 {
		return nil, invalid(Field{Field: "count", Message: "is 1 to 1000"})
	}
	account, _, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	n := max(body.Count, 1)
	if err := a.store.AddStat(r.Context(), store.DayOf(a.now()), store.SendingOf(store.FigureComplaints, account.ID), int64(n)); err != nil {
		return nil, err
	}
	return nil, a.audit(r.Context(), "sender.complaint", account.Name, nil, Complaint{Count: n})
}
