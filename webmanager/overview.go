package webmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"latchkey/guard"
	"latchkey/internal/refusal"
	"latchkey/relay"
	"latchkey/store"
)

// Bounds of an overview.
const (
	// OverviewDays is how many days an overview has if it is not asked for others, today included; it has at most store.MaxStatDays.
	OverviewDays = figureDays
	// maxOverviewAccounts and maxOverviewJobs bound the mailboxes and the waiting deliveries that are looked at.
	maxOverviewAccounts = 10_000
	maxOverviewJobs     = store.MaxListScan
	// costlyAccounts and costlyJobs are how many have to be looked at for that to be kept for a while (keptFresh). Of fewer, everybody sees the present.
	costlyAccounts = MaxListLimit
	costlyJobs     = MaxListLimit
	// maxLargest, maxPrograms and maxDestinations bound the lists.
	maxLargest      = 10
	maxPrograms     = 30
	maxDestinations = 10
)

// Overview is how a domain does.
type Overview struct {
	At time.Time `json:"at"`
	// Days are in order, the last is today; they are days in UTC.
	Days []OverviewDay `json:"days"`
	// Refusals are those of all these days by cause, the most frequent first.
	Refusals []RefusalFigure `json:"refusals"`
	// Programs were seen on these days: those that most mailboxes use first.
	Programs []ProgramFigure `json:"programs"`
	Storage  StorageFigures  `json:"storage"`
	Queue    QueueFigures    `json:"queue"`
	// Watched is set where a running server asks blocklists; Standings and Slow are as in ReputationView.
	Watched   bool             `json:"watched"`
	Standings []guard.Standing `json:"standings"`
	Slow      []relay.Slow     `json:"slow"`
	DNS       DNSLook          `json:"dns"`
}

// OverviewDay is what was counted on a day in UTC.
type OverviewDay struct {
	// Day is YYYY-MM-DD.
	Day string `json:"day"`
	// Counted is set if the server ran on that day. Full is set if the day had more figures than are kept, so that some may be missing.
	Counted bool `json:"counted"`
	Full    bool `json:"full,omitempty"`
	// Received are messages accepted from strangers, Submitted those from whoever may send for the domain.
	Received  int64 `json:"received"`
	Submitted int64 `json:"submitted"`
	// HandedOver are messages that other servers took, Delivered their recipients. Deferred are attempts that are to be made again, Failed recipients
	// that were given up.
	HandedOver int64 `json:"handed_over"`
	Delivered  int64 `json:"delivered"`
	Deferred   int64 `json:"deferred"`
	Failed     int64 `json:"failed"`
	// Fetched are messages that mail programs fetched.
	Fetched int64 `json:"fetched"`
	// Refused are all refusals: commands of SMTP, and logins.
	Refused int64 `json:"refused"`
	// POP3, SMTP and Web are the logins at the doors.
	POP3 LoginFigures `json:"pop3"`
	SMTP LoginFigures `json:"smtp"`
	Web  LoginFigures `json:"web"`
}

// LoginFigures counts logins.
type LoginFigures struct {
	OK      int64 `json:"ok"`
	Refused int64 `json:"refused"`
}

// RefusalFigure says how often something was refused.
type RefusalFigure struct {
	Name  refusal.Name `json:"name"`
	Code  string       `json:"code"`
	Cause string       `json:"cause"`
	N     int64        `json:"n"`
}

// ProgramFigure is a mail program at a door, over all mailboxes.
type ProgramFigure struct {
	// Program and Door are as in MailClient.
	Program string `json:"program"`
	Door    string `json:"door"`
	// Mailboxes use it; Old of them in a way that is old: see MailClient.
	Mailboxes int64 `json:"mailboxes"`
	Old       int64 `json:"old"`
	// Sessions are all of them, since it was first seen.
	Sessions int64     `json:"sessions"`
	Last     time.Time `json:"last"`
}

// StorageFigures say what the mailboxes hold.
type StorageFigures struct {
	Usage store.Usage `json:"usage"`
	Quota store.Quota `json:"quota"`
	// Mailboxes is how many there are; More is set if there are still more, which were not looked at.
	Mailboxes int64 `json:"mailboxes"`
	More      bool  `json:"more"`
	// Largest are those that hold most; an empty one is not among them.
	Largest []MailboxSize `json:"largest"`
}

// MailboxSize is what a mailbox holds and may hold.
type MailboxSize struct {
	Mailbox string      `json:"mailbox"`
	Usage   store.Usage `json:"usage"`
	Quota   store.Quota `json:"quota"`
}

// QueueFigures say what waits to be delivered.
type QueueFigures struct {
	// Waiting are all deliveries, Held those on hold, Deferred those that were tried in vain. More is set if still more wait, which were not looked at.
	Waiting  int64 `json:"waiting"`
	Held     int64 `json:"held"`
	Deferred int64 `json:"deferred"`
	More     bool  `json:"more"`
	// Oldest is when the oldest was accepted, zero if nothing waits.
	Oldest time.Time `json:"oldest,omitzero"`
	// Destinations are the domains for which most deferred deliveries wait.
	Destinations []DestinationFigure `json:"destinations"`
}

// DestinationFigure is what waits for a domain after an attempt.
type DestinationFigure struct {
	Domain   string    `json:"domain"`
	Deferred int64     `json:"deferred"`
	Oldest   time.Time `json:"oldest"`
	// Last is the last word on one of them.
	Last string `json:"last,omitempty"`
}

func (a *API) overview(r *http.Request) (any, error) {
	days := OverviewDays
	if r.URL.Query().Has("days") {
		n, err := numberParameter(r, "days")
		if err != nil || n < 1 || n > store.MaxStatDays {
			return nil, invalid(Field{Field: "days", Message: fmt.Sprintf("is a whole number of 1 to %d", store.MaxStatDays)})
		}
		days = int(n)
	}
	ctx, now := r.Context(), a.now().UTC()
	o := Overview{At: now, Watched: a.reputation != nil, Standings: []guard.Standing{}, Slow: []relay.Slow{}}
	first := time.Date(now.Year(), now.Month(), now.Day()+1-days, 0, 0, 0, 0, time.UTC)
	if err := a.dailyFigures(ctx, &o, first, days); err != nil {
		return nil, err
	}
	var err error
	if o.Storage, o.Programs, err = a.storageFigures(ctx, now, first); err != nil {
		return nil, err
	}
	o.Queue, err = a.queueKept.get(ctx, now, struct{}{}, func(ctx context.Context) (QueueFigures, bool, error) {
		q, err := a.queueFigures(ctx)
		return q, q.Waiting > costlyJobs, err
	})
	if err != nil {
		return nil, err
	}
	if a.reputation != nil {
		o.Standings = append(o.Standings, a.reputation.Standings()...)
	}
	if a.slow != nil {
		o.Slow = append(o.Slow, a.slow()...)
	}
	o.DNS = a.looked.look(now)
	return o, nil
}

// dailyFigures reads the statistics day by day, as there are many that are not for here.
func (a *API) dailyFigures(ctx context.Context, o *Overview, first time.Time, days int) error {
	list := a.store.ListStats
	if a.tally != nil {
		list = a.tally.ListStats
	}
	refusals := map[refusal.Name]int64{}
	for i := range days {
		date := first.AddDate(0, 0, i)
		stats, err := list(ctx, store.DayOf(date), store.DayOf(date))
		if err != nil {
			return err
		}
		day := OverviewDay{Day: date.Format(time.DateOnly), Counted: len(stats) > 0, Full: len(stats) >= store.MaxStatNames}
		figures := day.figures()
		for _, s := range stats {
			if figure := figures[s.Name]; figure != nil {
				*figure += s.N
			} else if name, ok := store.RefusalOf(s.Name); ok {
				day.Refused += s.N
				refusals[name] += s.N
			}
		}
		o.Days = append(o.Days, day)
	}
	o.Refusals = []RefusalFigure{}
	for name, n := range refusals {
		row, _ := refusal.Lookup(name) // one that is in the table no more has no cause
		o.Refusals = append(o.Refusals, RefusalFigure{Name: name, Code: name.Code(), Cause: row.Cause, N: n})
	}
	slices.SortFunc(o.Refusals, func(x, y RefusalFigure) int { return cmp.Or(cmp.Compare(y.N, x.N), cmp.Compare(x.Name, y.Name)) })
	return nil
}

// figures are where the figures of the store belong.
func (d *OverviewDay) figures() map[string]*int64 {
	return map[string]*int64{
		store.DailyReceived.String(): &d.Received, store.DailySubmitted.String(): &d.Submitted,
		store.DailyHandedOver.String(): &d.HandedOver, store.DailyDelivered.String(): &d.Delivered,
		store.DailyDeferred.String(): &d.Deferred, store.DailyFailed.String(): &d.Failed, store.DailyFetched.String(): &d.Fetched,
		store.DailyPOP3Login.String(): &d.POP3.OK, store.DailyPOP3Refused.String(): &d.POP3.Refused,
		store.DailySMTPLogin.String(): &d.SMTP.OK, store.DailySMTPRefused.String(): &d.SMTP.Refused,
		store.DailyWebLogin.String(): &d.Web.OK, store.DailyWebRefused.String(): &d.Web.Refused,
	}
}

// storageFigures are what the mailboxes hold, and which programs use them since a time. The sums of the domain are those of now.
func (a *API) storageFigures(ctx context.Context, now, since time.Time) (StorageFigures, []ProgramFigure, error) {
	facts, err := a.mailboxesKept.get(ctx, now, since, func(ctx context.Context) (mailboxFacts, bool, error) {
		facts, err := a.readMailboxes(ctx, since)
		return facts, facts.storage.Mailboxes > costlyAccounts, err
	})
	if err != nil {
		return StorageFigures{}, nil, err
	}
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return StorageFigures{}, nil, err
	}
	s := facts.storage
	s.Quota = settings.DomainQuota()
	s.Usage, err = a.store.DomainUsage(ctx)
	return s, facts.programs, err
}

// mailboxFacts are what all mailboxes had to be looked at for; nobody changes them.
type mailboxFacts struct {
	storage  StorageFigures // without Usage and Quota
	programs []ProgramFigure
}

// readMailboxes looks at the mailboxes.
func (a *API) readMailboxes(ctx context.Context, since time.Time) (facts mailboxFacts, err error) {
	s := &facts.storage
	s.Largest = []MailboxSize{}
	programs := programs{}
	for after := ""; ; {
		page, err := a.store.ListAccounts(ctx, after, MaxListLimit)
		if err != nil {
			return facts, err
		}
		if s.More = len(page) > 0 && s.Mailboxes >= maxOverviewAccounts; s.More || len(page) == 0 {
			break
		}
		after = page[len(page)-1].Name
		s.Mailboxes += int64(len(page))
		for _, account := range page {
			usage, err := a.store.Usage(ctx, account.ID)
			if errors.Is(err, store.ErrNotFound) {
				continue // removed meanwhile
			}
			if err != nil {
				return facts, err
			}
			if usage.Octets > 0 {
				s.Largest = append(s.Largest, MailboxSize{Mailbox: account.Name, Usage: usage, Quota: account.Quota})
			}
			clients, err := a.store.ListClients(ctx, account.ID, store.MaxClients)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return facts, err
			}
			programs.add(clients, since)
		}
		s.Largest = largest(s.Largest)
	}
	facts.programs = programs.list()
	return facts, nil
}

// largest keeps the mailboxes that hold most.
func largest(list []MailboxSize) []MailboxSize {
	slices.SortFunc(list, func(x, y MailboxSize) int {
		return cmp.Or(cmp.Compare(y.Usage.Octets, x.Usage.Octets), cmp.Compare(x.Mailbox, y.Mailbox))
	})
	return list[:min(len(list), maxLargest)]
}

// programs are figures by program and door.
type programs map[[2]string]*ProgramFigure

// add counts the clients of one mailbox that were seen since a time.
func (p programs) add(clients []store.Client, since time.Time) {
	old := map[*ProgramFigure]bool{} // by those that this mailbox uses
	for _, c := range clients {
		if c.Last.Before(since) {
			continue
		}
		key := [2]string{c.Program, c.Door}
		f := p[key]
		if f == nil {
			f = &ProgramFigure{Program: c.Program, Door: c.Door}
			p[key] = f
		}
		f.Sessions += c.Sessions
		if f.Last.Before(c.Last) {
			f.Last = c.Last
		}
		old[f] = old[f] || len(oldAbout(c)) > 0
	}
	for f, is := range old {
		f.Mailboxes++
		if is {
			f.Old++
		}
	}
}

// list is in order.
func (p programs) list() []ProgramFigure {
	list := []ProgramFigure{}
	for _, f := range p {
		list = append(list, *f)
	}
	slices.SortFunc(list, func(x, y ProgramFigure) int {
		return cmp.Or(cmp.Compare(y.Mailboxes, x.Mailboxes), cmp.Compare(y.Sessions, x.Sessions),
			cmp.Compare(x.Program, y.Program), cmp.Compare(x.Door, y.Door))
	})
	return list[:min(len(list), maxPrograms)]
}

// queueFigures looks at what waits.
func (a *API) queueFigures(ctx context.Context) (QueueFigures, error) {
	q := QueueFigures{Destinations: []DestinationFigure{}}
	places := map[string]*DestinationFigure{}
	for after := store.JobID(0); ; {
		jobs, next, err := a.store.ListJobs(ctx, store.QueueFilter{}, after, MaxListLimit)
		if err != nil {
			return q, err
		}
		for i := range jobs {
			q.add(&jobs[i], places)
		}
		if q.More = next != 0 && q.Waiting >= maxOverviewJobs; q.More || next == 0 {
			break
		}
		after = next
	}
	for _, p := range places {
		q.Destinations = append(q.Destinations, *p)
	}
	slices.SortFunc(q.Destinations, func(x, y DestinationFigure) int {
		return cmp.Or(cmp.Compare(y.Deferred, x.Deferred), x.Oldest.Compare(y.Oldest), cmp.Compare(x.Domain, y.Domain))
	})
	q.Destinations = q.Destinations[:min(len(q.Destinations), maxDestinations)]
	return q, nil
}

// add counts a delivery that waits.
func (q *QueueFigures) add(j *store.Job, places map[string]*DestinationFigure) {
	q.Waiting++
	if q.Oldest.IsZero() || j.Received.Before(q.Oldest) {
		q.Oldest = j.Received
	}
	if j.Held {
		q.Held++
		return
	}
	if j.Attempts == 0 && j.LastText == "" { // a shared outcome leaves words and counts as no attempt
		return
	}
	q.Deferred++
	p := places[j.Recipient.Domain()]
	if p == nil {
		p = &DestinationFigure{Domain: j.Recipient.Domain(), Oldest: j.Received}
		places[p.Domain] = p
	}
	p.Deferred++
	if j.Received.Before(p.Oldest) {
		p.Oldest = j.Received
	}
	if j.LastText != "" {
		p.Last = j.LastText
	}
}
