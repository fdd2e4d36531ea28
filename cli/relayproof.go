package cli

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"latchkey/internal/relayprobe"
	"latchkey/webmanager"
)

// errProofFailed makes relay-proof end with ExitFailed after it has printed the report.
var errProofFailed = errors.New("the relay proof failed: see the report")

func newRelayProof(env *Env) *cobra.Command {
	cmd := addDataFlags(&cobra.Command{
		Use: "relay-proof [HOST:PORT]", Short: "Show that strangers cannot send mail through this server, by trying it", Args: wants(0, 1),
		Long: "Try every known way to send mail through this server as a stranger, and print a dated report that can be shown to a blocklist.\n" +
			"Without HOST:PORT the server tries itself, inside: its own sessions, from addresses set aside for documentation, and nothing of it\n" +
			"is kept; it does so at start, when settings change, and every night, too, and shuts its SMTP doors if it does not pass.\n" +
			"With HOST:PORT it is tried over the wire, by replies alone, from where this command runs; no message is sent. A server that blocks\n" +
			"who tries to relay, as this one does where nobody has logged in from, ends that early: that is no pass, and the report says so.",
	})
	asJSON := addJSONFlag(cmd)
	domain := cmd.Flags().String("domain", "", "with HOST:PORT: the domain that is served there (default that of the data directory)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		report, err := env.relayProof(cmd, args, *domain)
		if err != nil {
			return err
		}
		if *asJSON {
			err = env.printJSON(report)
		} else {
			err = report.WriteText(env.Stdout)
		}
		if err == nil && !report.Passed {
			err = errProofFailed
		}
		return err
	}
	return cmd
}

// relayProof has the server try itself, or tries one over the wire.
func (env *Env) relayProof(cmd *cobra.Command, args []string, domain string) (relayprobe.Report, error) {
	var report relayprobe.Report
	if len(args) == 0 {
		if domain != "" {
			return report, usagef("--domain is for HOST:PORT")
		}
		err := env.do(cmd, http.MethodPost, webmanager.Path("relay-proof"), nil, &report)
		return report, err
	}
	if _, _, err := net.SplitHostPort(args[0]); err != nil {
		return report, usagef("%q is not HOST:PORT (an IPv6 host stands in brackets)", args[0])
	}
	if domain == "" {
		var version webmanager.Version
		if err := env.get(cmd, webmanager.Path("version"), &version); err != nil {
			return report, err
		}
		domain = version.Domain
	} else {
		var err error
		if domain, err = mailDomain(domain); err != nil {
			return report, err
		}
	}
	return overWire(cmd.Context(), args[0], domain)
}

func overWire(ctx context.Context, address, domain string) (relayprobe.Report, error) {
	return relayprobe.OverWire(ctx, address, domain, time.Now)
}
