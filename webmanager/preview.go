package webmanager

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// maxNamed bounds the mailboxes, addresses and networks that one sentence of a preview names.
const maxNamed = 10

// SettingsPreview says what a change of settings would do.
type SettingsPreview struct {
	Changes []SettingChange `json:"changes"`
	// Loosens is set when somebody could do what he cannot do now: the change then needs to be confirmed.
	Loosens bool `json:"loosens"`
	// Destroys is set when mail would be removed for good, which needs to be confirmed as well.
	Destroys bool `json:"destroys"`
	// Consequences are sentences for people, made of this domain's own figures.
	Consequences []string `json:"consequences"`
}

// SettingChange is one setting that changes, its values as the command line takes them.
type SettingChange struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// previewSettings takes the body of a change and changes nothing.
func (a *API) previewSettings(r *http.Request) (any, error) {
	request, err := readSettings(r)
	if err != nil {
		return nil, err
	}
	if err := request.allowed(actorOf(r.Context())); err != nil {
		return nil, err
	}
	stored, err := a.store.Settings(r.Context())
	if err != nil {
		return nil, err
	}
	before := settled(stored, a.now())
	wanted, err := applySettings(before, request, a.now())
	if err != nil {
		return nil, err
	}
	return a.preview(r.Context(), before, wanted)
}

func (a *API) preview(ctx context.Context, before, after store.Settings) (SettingsPreview, error) {
	p := SettingsPreview{
		Changes: []SettingChange{}, Loosens: loosens(before, after), Destroys: destroys(before, after), Consequences: []string{},
	}
	for _, s := range Settings() {
		if was, is := s.Show(before), s.Show(after); was != is {
			p.Changes = append(p.Changes, SettingChange{Name: s.Name, Before: was, After: is})
		}
	}
	if len(p.Changes) == 0 {
		return p, nil
	}
	f, err := a.figures(ctx)
	if err != nil {
		return p, err
	}
	if before.POPBeforeSMTP && !after.POPBeforeSMTP {
		if f.grants, err = a.liveGrants(ctx); err != nil {
			return p, err
		}
	}
	if before.DomainQuota() != after.DomainQuota() {
		if f.usage, err = a.store.DomainUsage(ctx); err != nil {
			return p, err
		}
	}
	inUse, err := a.store.ExpireDaysInUse(ctx)
	if err != nil {
		return p, err
	}
	f.ownExpiry = len(inUse) > 0
	if before.ClearPasswordDays != after.ClearPasswordDays {
		if f.ended, err = a.endedPasswords(ctx, before, after); err != nil {
			return p, err
		}
	}
	p.Consequences = append(p.Consequences, consequences(before, after, f)...)
	return p, nil
}

// confirmed refuses a change that loosens or destroys unless the domain was typed; the refusal says what the change would do.
func (a *API) confirmed(ctx context.Context, before, wanted store.Settings, typed string) error {
	loosens, destroys := loosens(before, wanted), destroys(before, wanted)
	if !loosens && !destroys {
		return nil
	}
	if domain, err := mailaddr.CanonicalDomain(typed); err == nil && domain == before.Domain {
		return nil
	}
	p, err := a.preview(ctx, before, wanted)
	if err != nil {
		return err
	}
	what := "allows more than before"
	switch {
	case loosens && destroys:
		what += " and removes mail for good"
	case destroys:
		what = "removes mail for good"
	}
	message := "this " + what + ", so it must be confirmed with the name of the domain, " + before.Domain
	if typed != "" {
		message = fmt.Sprintf("what was typed to confirm is not the name of the domain, %s; nothing was changed", before.Domain)
	}
	return &Error{Code: CodeConfirm, Message: message, Consequences: p.Consequences}
}

// teller collects sentences.
type teller struct {
	before, after store.Settings
	figures       figures
	sentences     []string
	counted       bool // a figure was told
}

func (t *teller) say(format string, args ...any) {
	t.sentences = append(t.sentences, fmt.Sprintf(format, args...))
}

// consequences puts a change of settings into plain words, with the figures of those whom it concerns. Both sides are settled.
func consequences(before, after store.Settings, f figures) []string {
	t := &teller{before: before, after: after, figures: f}
	t.outgoing()
	t.auth()
	t.popBeforeSMTP()
	t.logins()
	t.clearPasswords()
	t.oldClients()
	t.maildrops()
	t.budgets()
	t.quota()
	t.outside()
	if t.counted {
		t.honesty()
	}
	return t.sentences
}

func (t *teller) outgoing() {
	switch {
	case t.before.OutgoingMail && !t.after.OutgoingMail:
		t.say("nobody can send to other domains any more")
		t.tell(t.figures.by(store.SentAuth, store.SentGrant, store.SentTrusted), "to other domains", "they cannot any more")
	case !t.before.OutgoingMail && t.after.OutgoingMail:
		t.say("mailboxes can send to other domains")
	}
}

// auth is about require_auth, its timer and its networks.
func (t *teller) auth() {
	was, is := t.before.RequireAuth, t.after.RequireAuth
	networks := t.after.TrustedNetworks
	switch {
	case was && is:
		if added := uncovered(networks, t.before.TrustedNetworks); len(added) > 0 {
			t.say("trusted_networks count only while authentication is off (require_auth)")
		}
	case !was && is:
		t.tell(t.figures.by(store.SentTrusted), "without AUTH from trusted networks", "they will have to turn on AUTH")
	case !is:
		timed := was || !t.before.RequireAuthAt.Equal(t.after.RequireAuthAt)
		if len(networks) == 0 && (timed || len(t.before.TrustedNetworks) > 0) {
			t.say("nobody can send without AUTH until a network is named in trusted_networks")
		}
		t.trusted()
		if timed {
			t.timer()
		}
	}
}

// trusted tells of networks that are let in, and of those that are not any more, while require_auth is off.
func (t *teller) trusted() {
	added := t.after.TrustedNetworks
	if !t.before.RequireAuth {
		added = uncovered(added, t.before.TrustedNetworks)
	}
	if len(added) > 0 {
		t.say("whoever is in %s can send to other domains without AUTH, as any address of the domain that exists, to %s an hour for each address",
			list(texted(added)), count(int64(t.after.TrustedRecipients), "recipient", "recipients"))
	}
	for _, n := range added[:min(len(added), maxNamed)] {
		t.tell(t.figures.from([]netip.Prefix{n}, store.SentAuth, store.SentGrant, store.SentTrusted), "from "+n.String(), "")
	}
	if t.before.RequireAuth {
		return
	}
	if gone := uncovered(t.before.TrustedNetworks, t.after.TrustedNetworks); len(gone) > 0 {
		t.tell(t.figures.from(gone, store.SentTrusted), "without AUTH from "+list(texted(gone)), "they will have to turn on AUTH")
	}
}

// previewTime is how sentences for people have a time, which is of UTC.
const previewTime = "2 January 2006, 15:04 UTC"

func (t *teller) timer() {
	if t.after.RequireAuthAt.IsZero() {
		t.say("authentication stays off until somebody switches it on")
		return
	}
	t.say("authentication is asked for again by itself from %s", t.after.RequireAuthAt.UTC().Format(previewTime))
}

func (t *teller) popBeforeSMTP() {
	was, is := t.before.POPBeforeSMTP, t.after.POPBeforeSMTP
	switch {
	case was && !is:
		t.say("a POP3 login lets nobody send without AUTH any more")
		if t.figures.grants > 0 {
			t.say("%s end at once", count(t.figures.grants, "grant that is live now would", "grants that are live now would"))
		}
		t.tell(t.figures.by(store.SentGrant), "by POP before SMTP", "they will have to turn on AUTH")
	case !was && is:
		t.say("for a while after a POP3 login, its mailbox can send without AUTH from the same address, and so can whoever shares that address and knows the mailbox's name")
	}
	if !is {
		return
	}
	if t.after.GrantIPv6Bits != t.before.GrantIPv6Bits {
		t.say("a POP3 login over IPv6 lets its mailbox send from the same /%d, before from the same /%d", t.after.GrantIPv6Bits, t.before.GrantIPv6Bits)
	}
	switch {
	case !t.before.SendThenCheck && t.after.SendThenCheck:
		t.say("a client without AUTH that sends first and fetches mail then is kept waiting for up to two minutes, and its message is taken when it has")
	case t.before.SendThenCheck && !t.after.SendThenCheck:
		t.say("a client without AUTH that sends first and fetches mail then is refused at once")
	}
	switch {
	case !t.before.GrantNotices && t.after.GrantNotices:
		t.say("owners are told when their mail is fetched from a new place that may then send, at most once a day")
	case t.before.GrantNotices && !t.after.GrantNotices:
		t.say("owners are told no more when their mail is fetched from a new place that may then send")
	}
	if added := uncovered(t.after.NoGrantNetworks, t.before.NoGrantNetworks); len(added) > 0 {
		t.say("a POP3 login from %s lets nobody send without AUTH any more", list(texted(added)))
		t.tell(t.figures.from(added, store.SentGrant), "by POP before SMTP from there", "they will have to turn on AUTH")
	}
	if gone := uncovered(t.before.NoGrantNetworks, t.after.NoGrantNetworks); len(gone) > 0 {
		t.say("a POP3 login from %s lets its mailbox send from the same address", list(texted(gone)))
	}
}

func (t *teller) logins() {
	switch {
	case !t.before.CleartextLogin && t.after.CleartextLogin:
		t.say("passwords are taken without TLS from anywhere, and anybody on the way can read them")
	case t.before.CleartextLogin && !t.after.CleartextLogin:
		t.say("clients without TLS cannot log in any more, but from this host")
	}
	switch {
	case t.before.AuthOnMX && !t.after.AuthOnMX:
		t.say("clients that send on port 25 cannot log in there any more")
	case !t.before.AuthOnMX && t.after.AuthOnMX:
		t.say("clients can log in and send on port 25 too")
	}
}

// oldClients is about the doors for old clients.
func (t *teller) oldClients() {
	was, is := t.before.OldClientLogin, t.after.OldClientLogin
	switch {
	case !was && is:
		t.say("every mailbox can use the doors for old clients, where passwords and mail may pass without TLS, or with an old one, and anybody " +
			"on the way can read them; its password is kept, encrypted, from its next login")
	case was && !is:
		t.say("mailboxes without an old_client_login of their own cannot use the doors for old clients any more, but from old_client_networks; " +
			"their passwords that were kept are forgotten")
	}
	added, gone := uncovered(t.after.OldClientNetworks, t.before.OldClientNetworks), uncovered(t.before.OldClientNetworks, t.after.OldClientNetworks)
	switch {
	case is && len(added) > 0:
		t.say("old_client_networks count only while old_client_login is off")
	case len(added) > 0:
		t.say("every mailbox can use the doors for old clients from %s", list(texted(added)))
	}
	if len(gone) > 0 && !is {
		t.say("mailboxes cannot use the doors for old clients from %s any more, but by an old_client_login of their own", list(texted(gone)))
	}
}

// maildrops is about POP3 sessions and what becomes of mail.
func (t *teller) maildrops() {
	switch was, is := t.before.ExclusiveMaildrop, t.after.ExclusiveMaildrop; {
	case !was && is:
		t.say("a POP3 login to a mailbox that another session has is refused from now on; sessions that are open now go on, and keep nobody out")
	case was && !is:
		t.say("any number of POP3 sessions can have a mailbox at the same time")
	}
	switch was, is := t.before.LoginDelay, t.after.LoginDelay; is {
	case was:
	case 0:
		t.say("a mailbox can be opened by POP3 as often as anybody likes")
	default:
		t.say("between two POP3 logins of a mailbox there must be %s, before %d; one more is let in", count(int64(is), "second", "seconds"), was)
	}
	switch was, is := t.before.ExpireDays, t.after.ExpireDays; {
	case is == was:
	case is == 0:
		t.say("messages are kept until somebody deletes them")
	case destroys(t.before, t.after):
		t.say("messages that came more than %s ago are removed, fetched or not, the first of them at once; nobody can bring them back",
			count(int64(is), "day", "days"))
	default:
		t.say("messages are removed after %s, before after %d", count(int64(is), "day", "days"), was)
	}
	if t.before.ExpireDays != t.after.ExpireDays && t.figures.ownExpiry {
		t.say("mailboxes with an expire_days of their own keep to that")
	}
}

func (t *teller) budgets() {
	for _, b := range []struct {
		was, is int
		text    string
	}{
		{t.before.DailyRecipients, t.after.DailyRecipients, "a mailbox can name %s at other domains a day, before %d"},
		{t.before.HourlyRecipients, t.after.HourlyRecipients, "a mailbox can name %s at other domains an hour, before %d"},
		{t.before.DomainDailyRecipients, t.after.DomainDailyRecipients, "all senders together can name %s at other domains a day, before %d"},
		{t.before.DomainHourlyRecipients, t.after.DomainHourlyRecipients, "all senders together can name %s at other domains an hour, before %d"},
		{t.before.NewRecipients, t.after.NewRecipients, "a mailbox can write to %s a day that it has not written to before, before %d; " +
			"mail to more is put on hold"},
	} {
		if b.is != b.was {
			t.say(b.text, count(int64(b.is), "recipient", "recipients"), b.was)
		}
	}
	switch {
	case t.before.HoldJumps && !t.after.HoldJumps:
		t.say("whoever has a mailbox's password can send from anywhere to anybody, as far as its budgets go; mail that is on hold stays so")
	case !t.before.HoldJumps && t.after.HoldJumps:
		t.say("mail of a mailbox that sends otherwise than usual is put on hold, and its owner is told")
	}
	switch was, is := t.before.DailyOctets, t.after.DailyOctets; {
	case was == is:
	case is == 0:
		t.say("a mailbox can send any amount of octets to other domains, before %d a day", was)
	case was == 0:
		t.say("a mailbox can send %s to other domains a day, before any amount", count(is, "octet", "octets"))
	default:
		t.say("a mailbox can send %s to other domains a day, before %d", count(is, "octet", "octets"), was)
	}
	if is, was := t.after.TrustedRecipients, t.before.TrustedRecipients; is != was {
		t.say("an address in trusted_networks can name %s at other domains an hour, before %d", count(int64(is), "recipient", "recipients"), was)
	}
}

// quota is about the quota of the domain.
func (t *teller) quota() {
	was, is, now := t.before.DomainQuota(), t.after.DomainQuota(), t.figures.usage
	full := false
	for _, q := range []struct {
		was, is, now int64
		one, many    string
	}{
		{was.Octets, is.Octets, now.Octets, "octet", "octets"},
		{was.Messages, is.Messages, now.Messages, "message", "messages"},
	} {
		switch {
		case q.is == q.was:
		case q.is == 0:
			t.say("the %s that all mailboxes together hold are bounded no more, before by %d", q.many, q.was)
		case q.was == 0:
			t.say("all mailboxes together can hold %s, before any number; now they hold %d", count(q.is, q.one, q.many), q.now)
		default:
			t.say("all mailboxes together can hold %s, before %d; now they hold %d", count(q.is, q.one, q.many), q.was, q.now)
		}
		full = full || q.is != q.was && q.is != 0 && q.now >= q.is
	}
	if full {
		t.say("no mail comes in until some is deleted: senders are told to try again later")
	}
}

func (t *teller) outside() {
	if added := addedSenders(t.before, t.after); len(added) > 0 {
		t.say("mail from outside that claims to be from %s is taken without proof", list(texted(added)))
	}
	if gone := addedSenders(t.after, t.before); len(gone) > 0 {
		t.say("mail from outside that claims to be from %s is refused", list(texted(gone)))
	}
}

// tell puts figures into a sentence: who sent how much in some way, and what follows for them.
func (t *teller) tell(s sent, way, follows string) {
	t.counted = true
	if t.figures.since.IsZero() {
		return // honesty says so
	}
	if s.messages == 0 {
		t.say("nobody sent %s in the last %d days", way, figureDays)
		return
	}
	who := s.mailboxes
	what := count(int64(len(s.mailboxes)), "mailbox", "mailboxes") + " and " + count(int64(len(s.addresses)), "address", "addresses")
	switch {
	case len(s.mailboxes) == 0:
		who, what = s.addresses, count(int64(len(s.addresses)), "address", "addresses")
	case len(s.addresses) == 0:
		what = count(int64(len(s.mailboxes)), "mailbox", "mailboxes")
	}
	if follows != "" {
		follows = "; " + follows
	}
	t.say("%s sent %s %s in the last %d days%s: %s", what, count(s.messages, "message", "messages"), way, figureDays, follows, list(who))
}

// honesty says what the figures leave out.
func (t *teller) honesty() {
	switch {
	case t.figures.since.IsZero():
		t.say("nothing was counted yet, so nobody can be named whom this concerns")
	case !t.figures.whole:
		t.say("counting began on %s: the figures are not of %d whole days", t.figures.since.Format(time.DateOnly), figureDays)
	}
	if t.figures.full {
		t.say("on some days there were more senders than are counted")
	}
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// list names the first of some texts, and says how many more there are.
func list(texts []string) string {
	if more := len(texts) - maxNamed; more > 0 {
		texts = append(slices.Clone(texts[:maxNamed]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, ", ")
}

func texted[T fmt.Stringer](items []T) []string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return texts
}
