package cli

import (
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey/internal/zone"
	"latchkey/store"
	"latchkey/webmanager"
)

func newOverview(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "overview", Short: "Show how the domain does: mail, refusals, logins, programs, storage, queue, reputation", Args: wants(0, 0),
		Long: "Show how the domain does: what was counted on each day (in UTC), what was refused and why, the programs that were seen, what the\n" +
			"mailboxes hold, what waits to be delivered, what blocklists say, and what was wrong in the DNS when it was last looked at. A day on which\n" +
			"the server did not run has no figures.",
	}
	asJSON := addJSONFlag(cmd)
	days := cmd.Flags().Int("days", webmanager.OverviewDays, "how many days, today included")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *days < 1 || *days > store.MaxStatDays {
			return usagef("--days is 1 to %d", store.MaxStatDays)
		}
		var o webmanager.Overview
		if err := env.get(cmd, webmanager.Path("overview")+"?"+url.Values{"days": {strconv.Itoa(*days)}}.Encode(), &o); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(o)
		}
		for _, part := range []func(*webmanager.Overview) error{
			env.printDays, env.printRefusals, env.printPrograms, env.printStorage, env.printWaiting, env.printStanding,
		} {
			if err := part(&o); err != nil {
				return err
			}
		}
		return nil
	}
	return addDataFlags(cmd)
}

func (env *Env) printDays(o *webmanager.Overview) error {
	rows := make([][]string, len(o.Days))
	for i, d := range o.Days {
		rows[i] = []string{d.Day}
		for _, n := range []int64{
			d.Received, d.Submitted, d.Delivered, d.Deferred, d.Failed, d.Refused, d.Fetched, d.POP3.OK, d.POP3.Refused, d.SMTP.OK, d.SMTP.Refused,
			d.Web.OK, d.Web.Refused,
		} {
			cell := "-"
			if d.Counted {
				cell = strconv.FormatInt(n, 10)
			}
			rows[i] = append(rows[i], cell)
		}
	}
	return env.printTable([]string{
		"DAY", "RECEIVED", "SENT", "DELIVERED", "PUT OFF", "FAILED", "REFUSED", "FETCHED",
		"POP3 IN", "NOT", "SMTP IN", "NOT", "WEB IN", "NOT",
	}, rows)
}

// printPart prints a table apart from what stands above it, if it has rows.
func (env *Env) printPart(heading []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(env.Stdout); err != nil {
		return err
	}
	return env.printTable(heading, rows)
}

func (env *Env) printRefusals(o *webmanager.Overview) error {
	rows := make([][]string, len(o.Refusals))
	for i, r := range o.Refusals {
		rows[i] = []string{strconv.FormatInt(r.N, 10), string(r.Name), r.Code, r.Cause}
	}
	return env.printPart([]string{"TIMES", "REFUSED AS", "CODE", "BECAUSE"}, rows)
}

func (env *Env) printPrograms(o *webmanager.Overview) error {
	rows := make([][]string, len(o.Programs))
	for i, p := range o.Programs {
		rows[i] = []string{
			p.Program, p.Door, strconv.FormatInt(p.Mailboxes, 10), strconv.FormatInt(p.Old, 10), strconv.FormatInt(p.Sessions, 10), timestamp(p.Last),
		}
	}
	return env.printPart([]string{"PROGRAM", "DOOR", "MAILBOXES", "OLD", "SESSIONS", "LAST"}, rows)
}

func (env *Env) printStorage(o *webmanager.Overview) error {
	s := &o.Storage
	rows := [][]string{{"all of them", strconv.FormatInt(s.Usage.Messages, 10), octetsOf(s.Usage.Octets), octetsOf(s.Quota.Octets)}}
	for _, m := range s.Largest {
		rows = append(rows, []string{m.Mailbox, strconv.FormatInt(m.Usage.Messages, 10), octetsOf(m.Usage.Octets), octetsOf(m.Quota.Octets)})
	}
	return env.printPart([]string{"MAILBOXES", "MESSAGES", "OCTETS", "OF"}, rows)
}

// octetsOf shows a number of octets; 0 is none, or no bound.
func octetsOf(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func (env *Env) printWaiting(o *webmanager.Overview) error {
	q := &o.Queue
	more := ""
	if q.More {
		more = " or more"
	}
	if q.Waiting == 0 {
		_, err := fmt.Fprintln(env.Stdout, "\nnothing waits to be delivered")
		return err
	}
	if _, err := fmt.Fprintf(env.Stdout, "\n%d%s wait to be delivered, %d of them on hold, %d tried in vain; the oldest since %s\n",
		q.Waiting, more, q.Held, q.Deferred, timestamp(q.Oldest)); err != nil {
		return err
	}
	rows := make([][]string, len(q.Destinations))
	for i, d := range q.Destinations {
		rows[i] = []string{d.Domain, strconv.FormatInt(d.Deferred, 10), timestamp(d.Oldest), orDash(d.Last)}
	}
	return env.printPart([]string{"DESTINATION", "TRIED IN VAIN", "OLDEST", "LAST WORD"}, rows)
}

// printStanding says what others think of the server, and of its records only what is to be done: latchkey dns --check has the rest.
func (env *Env) printStanding(o *webmanager.Overview) error {
	rows := make([][]string, len(o.Standings))
	for i, s := range o.Standings {
		rows[i] = []string{s.Address.String(), s.List, string(s.State), timestamp(s.Since), orDash(s.Link)}
	}
	if err := env.printPart([]string{"ADDRESS", "LIST", "STATE", "SINCE", "LINK"}, rows); err != nil {
		return err
	}
	if err := env.printSlow(o.Slow); err != nil || o.DNS.At.IsZero() {
		return err
	}
	rows = rows[:0]
	for _, f := range o.DNS.Findings {
		if f.State != zone.OK {
			rows = append(rows, []string{string(f.State), f.Type, f.Name, orDash(f.Text), orDash(f.Cure)})
		}
	}
	if _, err := fmt.Fprintf(env.Stdout, "\nthe DNS was looked at %s: %d of %d records are as they should be\n",
		timestamp(o.DNS.At), len(o.DNS.Findings)-len(rows), len(o.DNS.Findings)); err != nil {
		return err
	}
	return env.printPart([]string{"STATE", "TYPE", "NAME", "WHAT", "TO DO"}, rows)
}
