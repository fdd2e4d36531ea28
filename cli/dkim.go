package cli

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"latchkey/internal/dkim"
	"latchkey/internal/zone"
	"latchkey/webmanager"
)

func newDKIM(env *Env) *cobra.Command {
	cmd := group("dkim", "The keys that outgoing mail is signed with",
		newDKIMList(env), newDKIMAdd(env), newDKIMRotate(env), newDKIMCheck(env), newDKIMActivate(env), newDKIMRetire(env), newDKIMRemove(env))
	cmd.Long = "The keys that outgoing mail is signed with.\n\n" +
		"The life of a key: add makes it and prints the DNS record to publish. The server looks for the record every ten minutes; once it is there\n" +
		"the key signs, and there is nothing else to do. To change keys, once a year perhaps: rotate prints the records of new ones; when those were\n" +
		"seen for an hour, the new keys take over by themselves. The records of the old ones stay for seven days more, for mail that is still on\n" +
		"its way; list says when they may go, and remove forgets the keys."
	return addDataFlags(cmd)
}

func newDKIMList(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the keys, and what comes next for each", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var list webmanager.DKIMKeys
		if err := env.get(cmd, webmanager.Path("dkim"), &list); err != nil {
			return err
		}
		return env.printDKIM(list, *asJSON)
	}
	return cmd
}

func (env *Env) printDKIM(list webmanager.DKIMKeys, asJSON bool) error {
	if asJSON {
		return env.printJSON(list.Keys)
	}
	if len(list.Keys) == 0 {
		env.say("there are no keys, and mail leaves unsigned; make them: latchkey dkim add")
	}
	rows := make([][]string, len(list.Keys))
	for i, k := range list.Keys {
		seen := "not looked for"
		switch {
		case !k.Seen.IsZero():
			seen = "since " + timestamp(k.Seen)
		case !k.Looked.IsZero():
			seen = "no"
		}
		next := k.Next
		if k.Step != "" {
			next += ": latchkey dkim " + k.Step + " " + k.Selector
		}
		rows[i] = []string{k.Selector, string(k.Algorithm), string(k.State), timestamp(k.Created), seen, next}
	}
	return env.printTable([]string{"SELECTOR", "ALGORITHM", "STATE", "MADE", "SEEN IN THE DNS", "NEXT"}, rows)
}

func newDKIMAdd(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "add", Short: "Make the first keys, and print their records", Args: wants(0, 0),
		Long: "Make an RSA and an Ed25519 key, unless there are keys, and print the DNS records to publish. Each signs once its record is seen.\n" +
			"Every message gets both signatures: all receivers know RSA, and Ed25519 is the stronger one.",
	}
	return env.makesKeys(cmd, false)
}

func newDKIMRotate(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate", Short: "Make new keys in the place of those in use, and print their records", Args: wants(0, 0),
		Long: "Make new keys and print the DNS records to publish beside the old ones. Mail is signed with the old keys until the new records were seen\n" +
			"for an hour, and with the new ones from then on. Leave the old records where they are until latchkey dkim list says that they may go.",
	}
	return env.makesKeys(cmd, true)
}

// makesKeys is what add and rotate do.
func (env *Env) makesKeys(cmd *cobra.Command, rotate bool) *cobra.Command {
	asJSON := addJSONFlag(cmd)
	algorithm := cmd.Flags().String("algorithm", "", "rsa or ed25519 alone (default both)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		body := webmanager.NewDKIMKeys{Rotate: rotate}
		if *algorithm != "" {
			body.Algorithms = []dkim.Algorithm{dkim.Algorithm(*algorithm)}
		}
		var list webmanager.DKIMKeys
		if err := env.do(cmd, http.MethodPost, webmanager.Path("dkim"), body, &list); err != nil {
			var refusal *webmanager.Error
			if errors.As(err, &refusal) && refusal.Code == webmanager.CodeExists {
				env.say("latchkey dkim list shows them, latchkey dkim rotate makes the new ones")
			}
			return err
		}
		if *asJSON {
			return env.printJSON(list.Keys)
		}
		for _, k := range list.Keys {
			if _, err := fmt.Fprintln(env.Stdout, zone.Line(zone.Record{Name: k.Name, Type: "TXT", Data: k.Record})); err != nil {
				return err
			}
		}
		env.say("publish these records; the server looks for them every ten minutes, and latchkey dkim check does so now")
		return nil
	}
	return cmd
}

func newDKIMCheck(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "check", Short: "Look for the records now, and let the keys sign whose time has come", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var list webmanager.DKIMKeys
		if err := env.do(cmd, http.MethodPost, webmanager.Path("dkim", "check"), nil, &list); err != nil {
			return err
		}
		return env.printDKIM(list, *asJSON)
	}
	return cmd
}

func newDKIMActivate(env *Env) *cobra.Command {
	return env.dkimStep(&cobra.Command{
		Use: "activate SELECTOR", Short: "Let a new key sign at once, in the place of the old one",
		Long: "Let a new key sign at once, in the place of the old one of its algorithm, which is retired. Not before its record was seen: nobody could\n" +
			"verify what it signs.",
	}, "activate", "although its record was not seen")
}

func newDKIMRetire(env *Env) *cobra.Command {
	return env.dkimStep(&cobra.Command{
		Use: "retire SELECTOR", Short: "Sign with a key no more",
		Long: "Sign with a key no more, and forget its private half. Its record has to stay published for seven days. For a key that somebody else may\n" +
			"have: rotate, activate the new key, and remove the record of the old one at once.",
	}, "retire", "although no other key signs: mail leaves unsigned")
}

func newDKIMRemove(env *Env) *cobra.Command {
	return env.dkimStep(&cobra.Command{
		Use: "remove SELECTOR", Short: "Forget a key that is over, or was never used",
	}, "remove", "although mail that it signed may still be on its way")
}

// dkimStep makes a command of a step in the life of a key.
func (env *Env) dkimStep(cmd *cobra.Command, step, force string) *cobra.Command {
	cmd.Args = wants(1, 1)
	asJSON := addJSONFlag(cmd)
	forced := cmd.Flags().Bool("force", false, "do it "+force)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var list webmanager.DKIMKeys
		if err := env.do(cmd, http.MethodPost, webmanager.Path("dkim", args[0], step), webmanager.DKIMStep{Force: *forced}, &list); err != nil {
			var refusal *webmanager.Error
			if errors.As(err, &refusal) && refusal.Code == webmanager.CodeConflict && !*forced {
				env.say("latchkey dkim list says what comes next for each key, latchkey dkim check looks for the records; --force goes against advice")
			}
			return err
		}
		return env.printDKIM(list, *asJSON)
	}
	return cmd
}
