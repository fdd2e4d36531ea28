package cli

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/internal/zone"
	"latchkey/webmanager"
)

// errRecords makes dns --check end with ExitFailed after it has printed what it found.
var errRecords = errors.New("some records are wrong: see the list")

func newDNS(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "dns", Short: "Print the DNS records that the domain needs, or compare them with what is published", Args: wants(0, 0),
		Long: "Print the DNS records that the domain needs, as lines of a zone file that can be pasted. With --check, compare them with what is\n" +
			"published, one by one, and say what to do about each that is wrong. SPF is evaluated for the addresses from which this server sends,\n" +
			"and the MTA-STS policy is fetched as others do, if a server runs.",
	}
	asJSON := addJSONFlag(cmd)
	check := cmd.Flags().Bool("check", false, "compare with what is published; exit status 1 if something is wrong")
	dane := cmd.Flags().Bool("dane", false, "the zone is signed by DNSSEC: print TLSA records as others, or say what they lack")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		query := ""
		if *dane {
			query = "?dane=true"
		}
		if *check {
			return env.checkDNS(cmd, query, *asJSON)
		}
		var records webmanager.DNSRecords
		if err := env.get(cmd, webmanager.Path("dns")+query, &records); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(records.Records)
		}
		_, err := fmt.Fprint(env.Stdout, records.Zone)
		return err
	}
	return addDataFlags(cmd)
}

func (env *Env) checkDNS(cmd *cobra.Command, query string, asJSON bool) error {
	var answer webmanager.DNSFindings
	err := env.get(cmd, webmanager.Path("dns", "check")+query, &answer)
	switch {
	case err != nil:
		return err
	case asJSON:
		err = env.printJSON(answer.Findings)
	default:
		err = env.printFindings(answer.Findings)
	}
	for _, f := range answer.Findings {
		if err == nil && f.State == zone.Wrong {
			return errRecords
		}
	}
	return err
}

// stateWords are as long as each other.
var stateWords = map[zone.State]string{zone.OK: "ok     ", zone.Note: "note   ", zone.Unknown: "unknown", zone.Wrong: "WRONG  "}

// printFindings prints each finding on a line, and below it what is there, what is the matter, and what to do.
func (env *Env) printFindings(findings []zone.Finding) error {
	out := bufio.NewWriter(env.Stdout)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) } // Flush reports it
	counts, keys := map[zone.State]int{}, false
	for _, f := range findings {
		counts[f.State]++
		keys = keys || f.About == "DKIM" && f.State != zone.OK
		line("%s  %s %s (%s)", stateWords[f.State], f.Type, printable(f.Name), printable(f.About))
		for _, one := range f.Published {
			line("           there: %s", printable(one))
		}
		if f.Text != "" {
			line("           %s", printable(f.Text))
		}
		if f.Cure != "" {
			line("           to do: %s", printable(f.Cure))
		}
	}
	sum := []string{}
	for _, s := range []zone.State{zone.OK, zone.Note, zone.Unknown, zone.Wrong} {
		if n := counts[s]; n > 0 {
			sum = append(sum, fmt.Sprintf("%d %s", n, s))
		}
	}
	line("%s", strings.Join(sum, ", "))
	if keys {
		line("latchkey dkim makes, shows and removes keys.")
	}
	return out.Flush()
}
