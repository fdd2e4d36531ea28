package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

func newGrant(env *Env) *cobra.Command {
	return addDataFlags(group("grant", "Who may send without AUTH after a POP3 login (POP before SMTP)", newGrantList(env), newGrantRevoke(env)))
}

func newGrantList(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [MAILBOX]", Short: "List the grants that are live, or with --all those that ended too", Args: wants(0, 1),
		ValidArgsFunction: env.completeAccounts,
	}
	asJSON := addJSONFlag(cmd)
	all := cmd.Flags().Bool("all", false, "also those that expired or were ended; they are remembered for 30 days")
	address := cmd.Flags().String("address", "", "only those that count for this client address")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		query := url.Values{"limit": {strconv.Itoa(webmanager.MaxListLimit)}}
		if !*all {
			query.Set("live", "true")
		}
		if *address != "" {
			query.Set("address", *address)
		}
		if len(args) > 0 {
			query.Set("mailbox", args[0])
		}
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		if *asJSON {
			array := &jsonArray{out: env.Stdout}
			err := eachGrantPage(cmd.Context(), client, query, func(grants []webmanager.Grant) error {
				for _, g := range grants {
					if err := array.print(g); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			return array.end()
		}
		table := env.newTable([]string{"ID", "MAILBOX", "NETWORK", "CREATED", "LAST LOGIN", "ENDS", "LEFT"})
		return eachGrantPage(cmd.Context(), client, query, func(grants []webmanager.Grant) error {
			rows := make([][]string, len(grants))
			for i, g := range grants {
				rows[i] = []string{
					g.ID.String(), ofDevice(g.Address.String(), g.Device), g.Network.String(), timestamp(g.Created), timestamp(g.LastLogin), grantEnd(g), fmt.Sprintf("%d of %d", g.Left, g.Recipients),
				}
			}
			return table.print(rows)
		})
	}
	return cmd
}

func eachGrantPage(ctx context.Context, client *webmanager.Client, query url.Values, do func([]webmanager.Grant) error) error {
	for {
		var page webmanager.GrantPage
		if err := client.Do(ctx, http.MethodGet, webmanager.Path("grants")+"?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		if err := do(page.Grants); err != nil {
			return err
		}
		if page.Next == 0 {
			return nil
		}
		query.Set("after", page.Next.String())
	}
}

// grantEnd says when a grant ends, or why and when it ended.
func grantEnd(g webmanager.Grant) string {
	switch {
	case g.State == webmanager.GrantLive:
		return timestamp(g.Expires)
	case g.State == webmanager.GrantExpired:
		return "expired " + timestamp(g.Expires)
	case g.Ended.IsZero():
		return string(g.State) + ", expires " + timestamp(g.Expires)
	default:
		return string(g.State) + " " + timestamp(g.Ended)
	}
}

func newGrantRevoke(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke [ID...]", Short: "End grants at once: by number, those of a mailbox, or all", Args: wants(0, -1),
		Long: "End grants at once: by number, those of a mailbox, or all. The next POP3 login makes a new one; to keep a mailbox from\n" +
			"that, change its password or suspend it, or switch pop_before_smtp off.",
	}
	mailbox := cmd.Flags().String("mailbox", "", "all of this mailbox")
	all := cmd.Flags().Bool("all", false, "all there are")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ways := 0
		for _, given := range []bool{len(args) > 0, *mailbox != "", *all} {
			if given {
				ways++
			}
		}
		if ways != 1 {
			return usagef("name grants by their numbers, or use --mailbox or --all; usage: %s", cmd.UseLine())
		}
		ids, err := grantIDs(args)
		if err != nil {
			return err
		}
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		if ids == nil {
			return env.revoke(cmd.Context(), client, webmanager.GrantRevocation{Mailbox: *mailbox, All: *all})
		}
		var missed error
		for part := range slices.Chunk(ids, webmanager.MaxActionIDs) {
			if err := env.revoke(cmd.Context(), client, webmanager.GrantRevocation{IDs: part}); errors.Is(err, errNotLive) {
				missed = err
			} else if err != nil {
				return err
			}
		}
		return missed
	}
	return cmd
}

// errNotLive makes revoke end with ExitFailed after it has listed what was not live.
var errNotLive = errors.New("not all that were named were live")

func (env *Env) revoke(ctx context.Context, client *webmanager.Client, body webmanager.GrantRevocation) error {
	var result webmanager.GrantsRevoked
	if err := client.Do(ctx, http.MethodPost, webmanager.Path("grants", "revoke"), body, &result); err != nil {
		return err
	}
	for _, id := range result.NotLive {
		env.say("grant %s is not live", id)
	}
	env.say("grants revoked: %d", result.Revoked)
	if len(result.NotLive) > 0 {
		return errNotLive
	}
	return nil
}

// grantIDs reads the numbers; nil if there are none.
func grantIDs(args []string) ([]store.GrantID, error) {
	var ids []store.GrantID
	for _, arg := range args {
		id, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || id == 0 {
			return nil, usagef("%q is not the number of a grant", arg)
		}
		ids = append(ids, store.GrantID(id))
	}
	return ids, nil
}
