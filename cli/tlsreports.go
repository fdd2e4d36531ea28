package cli

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/tlsrpt"
)

// maxTLSReports bounds the files of one call.
const maxTLSReports = 10_000

func newTLSReports(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "tls-reports FILE...", Short: "Sum up reports on TLS that other servers sent about this domain's", Args: wants(1, maxTLSReports),
		Long: "Sum up reports on TLS (RFC 8460) that others sent: each FILE is one as it came, as a message or as the attachment alone, with or\n" +
			"without gzip; - is standard input. A line for each day and sender, and one for each kind of failure at each host.",
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		var reports []*tlsrpt.Report
		for _, name := range args {
			report, err := env.readTLSReport(name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			reports = append(reports, report)
		}
		slices.SortStableFunc(reports, func(a, b *tlsrpt.Report) int {
			return cmp.Or(a.Range.Start.Compare(b.Range.Start), cmp.Compare(a.Organization, b.Organization))
		})
		if *asJSON {
			return env.printJSON(reports)
		}
		return env.printTable([]string{"day", "from", "domain", "policy", "good", "failed", "what", "host"}, tlsReportRows(reports))
	}
	return cmd
}

func (env *Env) readTLSReport(name string) (*tlsrpt.Report, error) {
	in := env.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // only read from
		in = f
	}
	return tlsrpt.Read(in)
}

func tlsReportRows(reports []*tlsrpt.Report) [][]string {
	var rows [][]string
	for _, r := range reports {
		day := r.Range.Start.UTC().Format(time.DateOnly)
		for _, p := range r.Policies {
			rows = append(rows, []string{
				day, r.Organization, p.Policy.Domain, p.Policy.Type, strconv.FormatInt(p.Summary.Successful, 10), strconv.FormatInt(p.Summary.Failed, 10),
			})
			for _, f := range p.Failures {
				what := f.Type
				if f.Reason != "" {
					what += " (" + f.Reason + ")"
				}
				rows = append(rows, []string{
					day, r.Organization, p.Policy.Domain, p.Policy.Type, "", strconv.FormatInt(f.Sessions, 10), what,
					cmp.Or(f.ReceivingMX, f.ReceivingIP),
				})
			}
		}
	}
	return rows
}
