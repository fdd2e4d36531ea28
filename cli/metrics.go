package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/certs"
	"latchkey/store"
	"latchkey/webmanager"
)

func newMetrics(env *Env) *cobra.Command {
	cmd := addDataFlags(&cobra.Command{
		Use: "metrics", Short: "Show how the store works: groups, latencies, the lag of its index, its octets; and the certificates",
		Long: "Show how the store works, counted since it was opened: how many commits share a sync of the journal and how long that takes, how far\n" +
			"the index is behind, and how many octets of the journal are still needed.",
		Args: wants(0, 0),
	})
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var m webmanager.Metrics
		if err := env.get(cmd, webmanager.Path("metrics"), &m); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(m)
		}
		octets := func(n int64) string { return strconv.FormatInt(n, 10) }
		rows := [][]string{
			{"commits in a group", spread(&m.GroupSize, func(n uint64) string { return strconv.FormatUint(n, 10) })},
			{"commit", spread(&m.Commit, microseconds)},
			{"sync", spread(&m.Sync, microseconds)},
			{"index transaction", spread(&m.Index, microseconds)},
			{"index lag", fmt.Sprintf("%d records, %d octets, %v", m.Lag, m.LagOctets, m.LagAge.Round(time.Millisecond))},
			{"segments", fmt.Sprintf("%d, and %d spare with %d octets", m.Segments, m.Spares, m.SpareOctets)},
			{"live octets", octets(m.LiveOctets)},
			{"dead octets", octets(m.DeadOctets)},
			{"index octets", fmt.Sprintf("%d, of which %d hold nothing", m.IndexOctets, m.IndexFree)},
		}
		for _, c := range m.Certificates {
			rows = append(rows, []string{"certificate", certificate(c)})
		}
		return env.printTable([]string{"groups", strconv.FormatUint(m.Groups, 10)}, rows)
	}
	return cmd
}

// certificate says how one stands, in a line.
func certificate(c certs.State) string {
	text := fmt.Sprintf("%s, %s: %d days left", strings.ToUpper(string(c.Kind)), printable(strings.Join(c.Names, " ")), c.DaysLeft)
	if !c.Issued {
		text = fmt.Sprintf("%s, %s: self-signed, as the CA has issued none yet", strings.ToUpper(string(c.Kind)), printable(strings.Join(c.Names, " ")))
	}
	if c.Failures > 0 {
		text += fmt.Sprintf("; %d attempts failed, the next is at %s: %s", c.Failures, timestamp(c.Next), printable(c.Fault))
	}
	return text
}

// spread shows a distribution; its quantiles are upper bounds.
func spread(d *store.Distribution, show func(uint64) string) string {
	if d.Count == 0 {
		return "-"
	}
	return fmt.Sprintf("mean %s, 99%% within %s, at most %s", show(d.Sum/d.Count), show(d.Quantile(0.99)), show(d.Max))
}

func microseconds(n uint64) string { return (time.Duration(n) * time.Microsecond).String() }
