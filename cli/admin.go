package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

func newAudit(env *Env) *cobra.Command {
	cmd := addDataFlags(&cobra.Command{Use: "audit", Short: "Who changed what, newest first", Args: wants(0, 0)})
	asJSON := addJSONFlag(cmd)
	limit := cmd.Flags().Int("limit", webmanager.DefaultListLimit, "most entries to show")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *limit < 1 || *limit > store.MaxAuditEntries {
			return usagef("--limit is 1 to %d", store.MaxAuditEntries)
		}
		entries, err := env.auditEntries(cmd, *limit)
		if err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(entries)
		}
		rows := make([][]string, len(entries))
		for i, e := range entries {
			who := e.Actor
			if e.Remote.IsValid() {
				who += " from " + e.Remote.String()
			}
			rows[i] = []string{timestamp(e.Time), who, e.Action, e.Object, change(e)}
		}
		return env.printTable([]string{"TIME", "WHO", "ACTION", "WHAT", "CHANGE"}, rows)
	}
	return cmd
}

func (env *Env) auditEntries(cmd *cobra.Command, limit int) ([]store.AuditEntry, error) {
	client, done, err := env.connect(cmd)
	if err != nil {
		return nil, err
	}
	defer done()
	all := []store.AuditEntry{}
	for before := uint64(0); ; {
		var page webmanager.AuditPage
		query := url.Values{
			"limit":  {strconv.Itoa(min(limit-len(all), webmanager.MaxListLimit))},
			"before": {strconv.FormatUint(before, 10)},
		}
		if err := client.Do(cmd.Context(), http.MethodGet, webmanager.Path("audit")+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Entries...)
		if before = page.Next; before == 0 || len(all) >= limit {
			return all, nil
		}
	}
}

func change(e store.AuditEntry) string {
	switch {
	case e.Before == "":
		return e.After
	case e.After == "":
		return "was " + e.Before
	default:
		return e.Before + " -> " + e.After
	}
}

func newVersion(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Show the version of this program", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		if *asJSON {
			return env.printJSON(struct {
				Version string `json:"version"`
				Go      string `json:"go"`
			}{env.Version, env.Go})
		}
		_, err := fmt.Fprintf(env.Stdout, "latchkey %s (%s)\n", env.Version, env.Go)
		return err
	}
	return cmd
}
