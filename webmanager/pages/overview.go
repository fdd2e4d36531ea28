package pages

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/guard"
	"latchkey/internal/zone"
	"latchkey/webmanager"
)

const (
	// shownRows is how many lines of a list are shown at first; the rest is behind a click.
	shownRows = 8
	// fullShare is the share of a quota from which a mailbox or the domain is called nearly full, in percent.
	fullShare = 90
	// longWait is how old the oldest waiting delivery may be before the overview points at it.
	longWait = 4 * time.Hour
)

// overviewPages are what the owner of the domain and the operator see first: GET / is home.
func (s *Server) overviewPages() []pageRoute {
	return []pageRoute{{"POST /overview/dns", "GET /v1/dns/check", (*exchange).lookAgain}}
}

// alert is something that wants to be looked at: a class of the style sheet, what it is, and where there is more about it.
type alert struct {
	Class, Text, Link string
}

// overviewData is the page.
type overviewData struct {
	webmanager.Overview
	Alerts []alert
	// Today is the last day, Sum all days together. Since is the first that was counted, "" if that is the first of all. Newest are the days from
	// then on, the last first.
	Today, Sum webmanager.OverviewDay
	Newest     []webmanager.OverviewDay
	Since      string
	// Mail, Out, Refused and Logins are the pictures.
	Mail, Out, Refused, Logins *dailyChart
	// Wrong are the findings about the DNS that are not as they should be.
	Wrong []zone.Finding
}

// dailyChart is a chart with the days at its ends.
type dailyChart struct {
	chart
	First, Middle, Last string
}

// showOverview shows how the domain does.
func (x *exchange) showOverview() error {
	var o webmanager.Overview
	if err := x.get(webmanager.Path("overview"), nil, &o); err != nil {
		return err
	}
	d := &overviewData{Overview: o, Newest: slices.Clone(o.Days), Today: o.Days[len(o.Days)-1]}
	slices.Reverse(d.Newest)
	for i := range o.Days {
		addDay(&d.Sum, &o.Days[i])
	}
	switch first := slices.IndexFunc(o.Days, func(d webmanager.OverviewDay) bool { return d.Counted }); {
	case first < 0:
		d.Newest = d.Newest[:1]
	case first > 0:
		d.Since, d.Newest = o.Days[first].Day, d.Newest[:len(o.Days)-first]
	}
	for _, f := range o.DNS.Findings {
		if f.State != zone.OK {
			d.Wrong = append(d.Wrong, f)
		}
	}
	worst := func(s zone.State) int { return slices.Index([]zone.State{zone.Wrong, zone.Unknown, zone.Note}, s) }
	slices.SortStableFunc(d.Wrong, func(a, b zone.Finding) int { return cmp.Compare(worst(a.State), worst(b.State)) })
	x.pictures(d)
	d.Alerts = x.alerts(d)
	return x.show("overview", x.t("overview.title"), d)
}

// addDay adds the figures of a day.
func addDay(sum, d *webmanager.OverviewDay) {
	for _, f := range [][2]*int64{
		{&sum.Received, &d.Received}, {&sum.Submitted, &d.Submitted}, {&sum.HandedOver, &d.HandedOver}, {&sum.Delivered, &d.Delivered},
		{&sum.Deferred, &d.Deferred}, {&sum.Failed, &d.Failed}, {&sum.Fetched, &d.Fetched}, {&sum.Refused, &d.Refused},
		{&sum.POP3.OK, &d.POP3.OK}, {&sum.POP3.Refused, &d.POP3.Refused}, {&sum.SMTP.OK, &d.SMTP.OK}, {&sum.SMTP.Refused, &d.SMTP.Refused},
		{&sum.Web.OK, &d.Web.OK}, {&sum.Web.Refused, &d.Web.Refused},
	} {
		*f[0] = plus(*f[0], *f[1])
	}
	sum.Full = sum.Full || d.Full
}

// pictures makes the charts. What each says in words is what stands beside it, too.
func (x *exchange) pictures(d *overviewData) {
	days := d.Days
	of := func(class string, figure func(*webmanager.OverviewDay) int64) series {
		s := series{class: class, values: make([]int64, len(days))}
		for i := range days {
			s.values[i] = figure(&days[i])
		}
		return s
	}
	made := func(id string, up, down []series, sums ...any) *dailyChart {
		c := &dailyChart{
			chart: chart{id: id, title: x.t("overview." + id), description: x.t("overview."+id+".desc", sums...), up: up, down: down},
			First: days[0].Day, Middle: days[len(days)/2].Day, Last: days[len(days)-1].Day,
		}
		for i := range days {
			c.counted = append(c.counted, days[i].Counted)
		}
		return c
	}
	type day = webmanager.OverviewDay
	d.Mail = made("mail", []series{of("in", func(d *day) int64 { return d.Received })}, []series{of("out", func(d *day) int64 { return d.Submitted })},
		d.Sum.Received, d.Sum.Submitted)
	d.Out = made("delivery", []series{of("done", func(d *day) int64 { return d.Delivered })},
		[]series{of("late", func(d *day) int64 { return d.Deferred }), of("lost", func(d *day) int64 { return d.Failed })},
		d.Sum.Delivered, d.Sum.Deferred, d.Sum.Failed)
	d.Refused = made("refused", []series{of("lost", func(d *day) int64 { return d.Refused })}, nil, d.Sum.Refused)
	d.Logins = made("logins",
		[]series{
			of("in", func(d *day) int64 { return d.POP3.OK }), of("out", func(d *day) int64 { return d.SMTP.OK }),
			of("done", func(d *day) int64 { return d.Web.OK }),
		},
		[]series{of("lost", func(day *day) int64 { return d.RefusedOn(*day) })},
		plus(plus(d.Sum.POP3.OK, d.Sum.SMTP.OK), d.Sum.Web.OK), d.LoginsRefused())
}

// alerts are what wants to be looked at.
func (x *exchange) alerts(d *overviewData) (list []alert) {
	add := func(class, link, key string, args ...any) { list = append(list, alert{class, x.t(key, args...), link}) }
	for _, s := range d.Standings {
		if s.State == guard.ListListed {
			add("bad", "#reputation", "overview.alert.listed", s.Address, s.List)
		}
	}
	wrong := 0
	for _, f := range d.Wrong {
		if f.State == zone.Wrong {
			wrong++
		}
	}
	if wrong > 0 {
		add("bad", "#dns", "overview.alert.dns", wrong)
	}
	if d.Queue.Held > 0 {
		add("warn", "/holds", "overview.alert.held", d.Queue.Held)
	}
	if !d.Queue.Oldest.IsZero() && d.At.Sub(d.Queue.Oldest) >= longWait && d.Queue.Deferred > 0 {
		add("warn", "#queue", "overview.alert.waits", d.Queue.Deferred, ago(d.At.Sub(d.Queue.Oldest)))
	}
	if nearlyFull(d.Storage.Usage.Octets, d.Storage.Quota.Octets) {
		add("warn", "#storage", "overview.alert.full")
	}
	for _, m := range d.Storage.Largest {
		if nearlyFull(m.Usage.Octets, m.Quota.Octets) {
			add("warn", mailboxPath(m.Mailbox), "overview.alert.mailbox", m.Mailbox)
		}
	}
	return list
}

// nearlyFull reports whether little is left of a quota; 0 is no bound.
func nearlyFull(used, quota int64) bool {
	return quota > 0 && float64(used) >= float64(quota)*fullShare/100
}

// ShareClass is what the bar of a quota is coloured by.
func (d *overviewData) ShareClass(used, quota int64) string {
	if nearlyFull(used, quota) {
		return "lost"
	}
	return "in"
}

// Largest is what the largest mailbox holds, so that the bars of the others can be compared with it.
func (d *overviewData) Largest() int64 {
	if len(d.Storage.Largest) == 0 {
		return 0
	}
	return d.Storage.Largest[0].Usage.Octets
}

// FirstRefusals are those that are shown at first.
func (d *overviewData) FirstRefusals() []webmanager.RefusalFigure {
	return d.Refusals[:min(len(d.Refusals), shownRows)]
}

// RestRefusals are those behind a click.
func (d *overviewData) RestRefusals() []webmanager.RefusalFigure {
	return d.Refusals[min(len(d.Refusals), shownRows):]
}

// ranked is a cause with what the most frequent one has, so that their bars can be compared.
type ranked struct {
	Refusal, Cause string
	N, Most        int64
}

// Ranked is a line of the list of causes.
func (d *overviewData) Ranked(f webmanager.RefusalFigure) ranked {
	return ranked{Refusal: string(f.Name), Cause: f.Cause, N: f.N, Most: d.Refusals[0].N}
}

// RefusedOn are the logins that were refused on a day.
func (d *overviewData) RefusedOn(day webmanager.OverviewDay) int64 {
	return plus(plus(day.POP3.Refused, day.SMTP.Refused), day.Web.Refused)
}

// LoginsRefused are those of all days.
func (d *overviewData) LoginsRefused() int64 { return d.RefusedOn(d.Sum) }

// DNSGood says how many records are as they should be.
func (d *overviewData) DNSGood() string {
	n := len(d.DNS.Findings)
	return text(english, "overview.dns.good", n-len(d.Wrong), n)
}

// StandingClass is what the state on a blocklist is coloured by.
func (d *overviewData) StandingClass(s guard.Standing) string {
	switch s.State {
	case guard.ListClean:
		return "good"
	case guard.ListListed:
		return "bad"
	}
	return "warn"
}

// FindingClass is what the state of a record is coloured by.
func (d *overviewData) FindingClass(f zone.Finding) string {
	switch f.State {
	case zone.Wrong:
		return "bad"
	case zone.Unknown:
		return "warn"
	}
	return ""
}

// Age is how long ago a time was.
func (d *overviewData) Age(t time.Time) string { return ago(d.At.Sub(t)) }

// lookAgain compares the DNS with what should be published, now: somebody waits for it.
func (x *exchange) lookAgain() error {
	var findings webmanager.DNSFindings
	if err := x.get(webmanager.Path("dns", "check"), nil, &findings); err != nil {
		return x.again(err, (*exchange).showOverview)
	}
	return x.done("/#dns", x.t("overview.dns.again"))
}

// ago is a length of time in the largest unit that is whole.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours())/24) + " days"
}

// count is a number for people, with commas between thousands.
func count(n int64) string {
	digits, sign := strings.CutPrefix(strconv.FormatInt(n, 10), "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if sign {
		return "-" + digits
	}
	return digits
}

// dayOf is a day of the API's, as it stands below a picture.
func dayOf(day string) string {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return day
	}
	return t.Format("2 Jan")
}
