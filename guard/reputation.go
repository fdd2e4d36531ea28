package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"latchkey/internal/resolver"
	"latchkey/store"
)

const (
	// ReputationEvery is how often the blocklists are asked.
	ReputationEvery = time.Hour
	// MaxBlocklists and MaxWatched bound the lists and the addresses.
	MaxBlocklists = 20
	MaxWatched    = 20
	// listTrouble is how many rounds in a row a list may give no sense before somebody is told: a name server has bad days.
	listTrouble = 24
	// listedEvery is how often postmaster is told again of a listing that lasts.
	listedEvery = 7 * 24 * time.Hour
	// A mailbox is the likely cause of a listing if it has so much of all that speaks against mailboxes, in percent, and so many recipients.
	suspectShare = 50
	suspectLeast = 20
	// maxSuspects bounds the mailboxes that are looked at.
	maxSuspects = 10_000
)

// Blocklist is a DNS blocklist (RFC 5782).
type Blocklist struct {
	// Zone is asked for reversed addresses.
	Zone string
	// Codes are the last octets of 127.0.0.x that are listings; empty: 2 alone. All other answers are none.
	Codes []byte
	// Link is where a listing is explained and ended.
	Link string
}

// KnownBlocklists are those whose codes and links are known. Of zen.spamhaus.org, 10 and 11 are policies of providers, which nobody is to blame for.
func KnownBlocklists() []Blocklist {
	return []Blocklist{
		{"zen.spamhaus.org", []byte{2, 3, 4, 5, 6, 7, 9}, "https://check.spamhaus.org/"},
		{"bl.spamcop.net", nil, "https://www.spamcop.net/bl.shtml"},
		{"psbl.surriel.com", nil, "https://psbl.org/remove"},
		{"b.barracudacentral.org", nil, "https://www.barracudacentral.org/rbl/removal-request"},
	}
}

// BlocklistOf is a known list, or one of which only the zone is known.
func BlocklistOf(zone string) Blocklist {
	for _, l := range KnownBlocklists() {
		if l.Zone == zone {
			return l
		}
	}
	return Blocklist{Zone: zone}
}

// ListState is what a list said last.
type ListState string

// The states.
const (
	// ListClean: the list works, and does not list the address. ListListed: it does.
	ListClean  ListState = "clean"
	ListListed ListState = "listed"
	// ListError: it could not be asked, or says that it does not answer our name server. That says nothing about the address.
	ListError ListState = "no answer"
	// ListDead: it lists everything or nothing, also what it must and must not (RFC 5782 §5).
	ListDead ListState = "dead"
)

// Standing is what is known of one address on one list.
type Standing struct {
	Address netip.Addr `json:"address"`
	List    string     `json:"list"`
	State   ListState  `json:"state"`
	// Since is when the state began, Asked when the list was asked last.
	Since time.Time `json:"since"`
	Asked time.Time `json:"asked"`
	// Detail is the answer, or what was wrong.
	Detail string `json:"detail,omitempty"`
	// Link is set with a listing. Suspect is the mailbox that is the likely cause, empty if none stands out.
	Link    string `json:"link,omitempty"`
	Suspect string `json:"suspect,omitempty"`
}

// ReputationStore is what Reputation needs of the store.
type ReputationStore interface {
	store.Counters
	Account(ctx context.Context, id store.AccountID) (store.Account, error)
	ListAccounts(ctx context.Context, after string, limit int) ([]store.Account, error)
	Stat(ctx context.Context, day store.Day, name string) (int64, error)
}

// ReputationOptions are what Reputation is made of. Store, Conduct and Addrs must be set.
type ReputationOptions struct {
	Store   ReputationStore
	Conduct *Conduct
	// Addrs asks for the addresses of a name; its errors wrap resolver.ErrNotFound where there are none.
	Addrs func(ctx context.Context, host string) ([]netip.Addr, error)
	Lists []Blocklist
	// Addresses returns our own addresses, from which mail leaves. Those that are not public are left out.
	Addresses func() []netip.Addr
	Notices   Notices
	// Listed is told after each round whether a list lists one of the addresses, so that mail goes out carefully. It must not block. nil is nobody.
	Listed func(listed bool)
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Reputation asks blocklists for our own addresses. Its methods may be called from any goroutine.
type Reputation struct {
	o ReputationOptions

	mu        sync.Mutex // protects what follows; never held while anybody is asked
	standings []Standing
	// trouble counts the rounds in which a list made no sense; told is set when somebody was told of it.
	trouble map[string]*listTroubles
}

type listTroubles struct {
	rounds int
	told   bool
}

// NewReputation asks nobody yet.
func NewReputation(o ReputationOptions) *Reputation {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reputation{o: o, trouble: map[string]*listTroubles{}}
}

// Run asks at once and then every [ReputationEvery], until ctx ends.
func (r *Reputation) Run(ctx context.Context) {
	ticker := time.NewTicker(ReputationEvery)
	defer ticker.Stop()
	for {
		r.Round(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Standings returns what was found last, by list and address.
func (r *Reputation) Standings() []Standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.standings)
}

// public reports an address that others see.
func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !carrier.Contains(a)
}

// Round asks all lists once.
func (r *Reputation) Round(ctx context.Context) {
	var addresses []netip.Addr
	for _, a := range r.o.Addresses() {
		if a = a.Unmap().WithZone(""); public(a) && !slices.Contains(addresses, a) && len(addresses) < MaxWatched {
			addresses = append(addresses, a)
		}
	}
	if len(addresses) == 0 {
		return
	}
	var standings []Standing
	for _, l := range r.o.Lists[:min(len(r.o.Lists), MaxBlocklists)] {
		state, detail := r.probe(ctx, l)
		if ctx.Err() != nil {
			return
		}
		r.troubled(ctx, l, state, detail)
		for _, a := range addresses {
			s := Standing{Address: a, List: l.Zone, State: state, Detail: detail, Asked: r.o.Now()}
			if state == ListClean {
				s.State, s.Detail = r.ask(ctx, l, a)
			}
			standings = append(standings, r.follow(ctx, l, s))
		}
	}
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	r.standings = standings
	r.mu.Unlock()
	if r.o.Listed != nil {
		r.o.Listed(slices.ContainsFunc(standings, func(s Standing) bool { return s.State == ListListed }))
	}
}

// follow compares a standing with the one before, and acts on a listing that is new.
func (r *Reputation) follow(ctx context.Context, l Blocklist, s Standing) Standing {
	s.Since = s.Asked
	r.mu.Lock()
	before := slices.IndexFunc(r.standings, func(b Standing) bool { return b.Address == s.Address && b.List == s.List })
	var was Standing
	if before >= 0 {
		was = r.standings[before]
	}
	r.mu.Unlock()
	if was.State == s.State {
		s.Since, s.Suspect = was.Since, was.Suspect
	}
	key, limit := "notice/listed/"+s.Address.String()+"/"+s.List, store.Limit{N: 1, Window: listedEvery}
	switch {
	case s.State == ListListed:
		s.Link = l.Link
		// The counter outlives a restart: a listing that lasts is told once a week.
		if taken, err := r.o.Store.Take(ctx, s.Asked, key, 1, limit); err != nil || !taken.OK {
			return s
		}
		return r.listed(ctx, s)
	case was.State == ListListed && s.State == ListClean:
		r.o.Logger.Info("no longer on a blocklist", "address", s.Address.String(), "list", s.List)
		if err := r.o.Store.Give(ctx, s.Asked, key, 1, limit); err != nil {
			r.o.Logger.Error("blocklist: a notice cannot be given back", "err", err)
		}
	}
	return s
}

// listed finds the likely cause, puts it on hold and tells postmaster.
func (r *Reputation) listed(ctx context.Context, s Standing) Standing {
	r.o.Logger.Error("our address is on a blocklist", "address", s.Address.String(), "list", s.List, "answer", s.Detail, "link", s.Link)
	link := "The list's own pages say why, and how to get off it."
	if s.Link != "" {
		link = "Why, and how to get off it: " + s.Link
	}
	n := Notice{
		Postmaster: true, Subject: "Our address " + s.Address.String() + " is on the blocklist " + s.List,
		Lines: []string{"The blocklist " + s.List + " lists " + s.Address.String() + ", from which mail of this domain leaves (" + s.Detail + "). Others refuse mail for that.", link},
	}
	suspect, err := r.suspect(ctx, s.Asked)
	switch {
	case err != nil:
		r.o.Logger.Error("blocklist: the likely cause cannot be found", "err", err)
	case suspect.account.ID == 0:
		n.Lines = append(n.Lines, "No mailbox stands out by what it sent today and yesterday.")
	default:
		s.Suspect, n.Account = suspect.account.Name, suspect.account.ID
		n.Lines = append(n.Lines, fmt.Sprintf("The likely cause is the mailbox {mailbox}: today and yesterday it wrote to %d recipients, of whom %d failed "+
			"or do not exist, and there were %d complaints. Its mail to other domains is on hold, and the page On hold has it. To take the mailbox back:", suspect.named, suspect.failed, suspect.complaints),
			"latchkey account purge {mailbox}", "or, if it was not to blame:", "latchkey queue release --sender {mailbox}")
		if err := r.o.Conduct.HoldAll(ctx, suspect.account.ID, HoldListed); err != nil {
			r.o.Logger.Error("blocklist: the likely cause could not be put on hold", "err", err)
		}
	}
	if r.o.Notices != nil {
		r.o.Notices.Tell(ctx, n)
	}
	return s
}

// accused is a mailbox and what speaks against it.
type accused struct {
	account                           store.Account
	named, failed, complaints, weight int64
}

// Against is how much speaks against a mailbox: a complaint is worth many recipients, a failure some.
func Against(named, failed, complaints int64) int64 { return named + 5*failed + 50*complaints }

// suspect finds the mailbox with most of what speaks against any, if it has the greater part of it. The zero value is nobody.
func (r *Reputation) suspect(ctx context.Context, now time.Time) (accused, error) {
	var worst accused
	all := int64(0)
	seen := 0
	for after := ""; seen < maxSuspects; {
		page, err := r.o.Store.ListAccounts(ctx, after, 1000)
		if err != nil {
			return accused{}, err
		}
		if len(page) == 0 {
			break
		}
		seen += len(page)
		after = page[len(page)-1].Name
		for _, a := range page {
			s, err := r.against(ctx, now, a)
			if err != nil {
				return accused{}, err
			}
			all += s.weight
			if s.weight > worst.weight {
				worst = s
			}
		}
	}
	if worst.named < suspectLeast || worst.weight*100 < all*suspectShare {
		return accused{}, nil
	}
	return worst, nil
}

func (r *Reputation) against(ctx context.Context, now time.Time, a store.Account) (accused, error) {
	s := accused{account: a}
	for _, day := range []store.Day{store.DayOf(now), store.DayOf(now.Add(-24 * time.Hour))} {
		for _, f := range []struct {
			figure store.SendingFigure
			sum    *int64
			sign   int64
		}{
			{store.FigureRecipients, &s.named, 1}, {store.FigureHeld, &s.named, -1}, {store.FigureFailed, &s.failed, 1},
			{store.FigureRefused, &s.failed, 1}, {store.FigureComplaints, &s.complaints, 1},
		} {
			n, err := r.o.Store.Stat(ctx, day, store.SendingOf(f.figure, a.ID))
			if err != nil {
				return s, err
			}
			*f.sum += f.sign * n
		}
	}
	s.weight = Against(s.named, s.failed, s.complaints)
	return s, nil
}

// probe asks a list for what it must list and what it must not (RFC 5782 §5). ListClean is a list that works.
func (r *Reputation) probe(ctx context.Context, l Blocklist) (ListState, string) {
	must, detail := r.ask(ctx, l, netip.AddrFrom4([4]byte{127, 0, 0, 2}))
	if must == ListError {
		return ListError, detail
	}
	mustNot, detail := r.ask(ctx, l, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	switch {
	case mustNot == ListError:
		return ListError, detail
	case mustNot == ListListed:
		return ListDead, "it lists 127.0.0.1, and so everybody"
	case must != ListListed:
		return ListDead, "it does not list 127.0.0.2, and so nobody"
	}
	return ListClean, ""
}

// ask asks a list for one address. What is outside its known codes is no listing; 127.255.255.x says that it does not answer us.
func (r *Reputation) ask(ctx context.Context, l Blocklist, a netip.Addr) (ListState, string) {
	codes := l.Codes
	if len(codes) == 0 {
		codes = []byte{2}
	}
	answers, err := r.o.Addrs(ctx, reversed(a)+"."+l.Zone)
	switch {
	case errors.Is(err, resolver.ErrNotFound):
		return ListClean, ""
	case err != nil:
		return ListError, "the name servers could not say"
	}
	unknown := ""
	for _, answer := range answers {
		octets := answer.Unmap().As16()
		quad := [4]byte(octets[12:])
		switch {
		case !answer.Is4():
		case quad[0] == 127 && quad[1] == 255 && quad[2] == 255:
			return ListError, "it does not answer our name server (" + answer.String() + ")"
		case quad[0] == 127 && quad[1] == 0 && quad[2] == 0 && slices.Contains(codes, quad[3]):
			return ListListed, answer.String()
		default:
			unknown = "unknown answer " + answer.String()
		}
	}
	return ListClean, unknown
}

// reversed writes an address as blocklists want it (RFC 5782 §2.1, §2.4).
func reversed(a netip.Addr) string {
	octets := a.AsSlice()
	slices.Reverse(octets)
	parts := make([]string, 0, 32)
	for _, o := range octets {
		if a.Is4() {
			parts = append(parts, fmt.Sprint(o))
			continue
		}
		parts = append(parts, fmt.Sprintf("%x", o&0xf), fmt.Sprintf("%x", o>>4))
	}
	return strings.Join(parts, ".")
}

// troubled tells postmaster once of a list that is of no use: at once if it is dead or refuses us, after a day if it cannot be asked.
func (r *Reputation) troubled(ctx context.Context, l Blocklist, state ListState, detail string) {
	r.mu.Lock()
	t := r.trouble[l.Zone]
	if t == nil {
		t = &listTroubles{}
		r.trouble[l.Zone] = t
	}
	if state == ListClean {
		*t = listTroubles{}
		r.mu.Unlock()
		return
	}
	t.rounds++
	tell := !t.told && (state == ListDead || t.rounds >= listTrouble || strings.HasPrefix(detail, "it does not answer"))
	t.told = t.told || tell
	r.mu.Unlock()
	r.o.Logger.Warn("a blocklist is of no use", "list", l.Zone, "state", string(state), "detail", detail)
	if !tell || r.o.Notices == nil {
		return
	}
	// Also once over restarts, for a while.
	taken, err := r.o.Store.Take(ctx, r.o.Now(), "notice/list/"+l.Zone, 1, store.Limit{N: 1, Window: listedEvery})
	if err == nil && taken.OK {
		r.o.Notices.Tell(ctx, Notice{
			Postmaster: true, Subject: "The blocklist " + l.Zone + " is of no use",
			Lines: []string{
				"This server asks the blocklist " + l.Zone + " whether its own addresses are listed, and it gives no sense: " + detail + ".",
				"Nothing follows from that. If it stays so, take the list out of reputation.lists in the configuration, or give relay.nameservers a name " +
					"server of your own: some lists do not answer public ones.",
			},
		})
	}
}
