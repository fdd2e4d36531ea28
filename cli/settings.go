package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

func newSettings(env *Env) *cobra.Command {
	return addDataFlags(group("settings", "What the domain's owner decides", newSettingsShow(env), newSettingsPreview(env), newSettingsSet(env)))
}

func newSettingsShow(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "show", Short: "Show the settings", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var settings webmanager.SettingsView
		if err := env.get(cmd, webmanager.Path("settings"), &settings); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(settings)
		}
		rows := [][]string{{"domain", settings.Domain, "the domain that is served; it never changes"}}
		for _, s := range webmanager.Settings() {
			value := s.Show(settings.Settings)
			if s.Name == "require_auth" {
				value = inForce(settings)
			}
			rows = append(rows, []string{s.Name, orDash(value), s.Help})
		}
		return env.printTable([]string{"SETTING", "VALUE", "MEANING"}, rows)
	}
	return cmd
}

// inForce is require_auth as it counts now.
func inForce(s webmanager.SettingsView) string {
	switch {
	case s.AuthRequired:
		return "on"
	case s.RequireAuthAt.IsZero():
		return "off"
	default:
		return "off until " + timestamp(s.RequireAuthAt)
	}
}

// settingsHelp is an introduction, and the table of settings below it.
func settingsHelp(introduction string) string {
	var help strings.Builder
	help.WriteString(introduction + "\n")
	for _, s := range webmanager.Settings() {
		fmt.Fprintf(&help, "\n  %-24s %s", s.Name, s.Help)
	}
	return help.String()
}

func settingsArgs() []string {
	names := make([]string, 0, len(webmanager.Settings()))
	for _, s := range webmanager.Settings() {
		names = append(names, s.Name+"=")
	}
	return names
}

// addForFlag adds what limits require_auth=off.
func addForFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("for", "", "with require_auth=off: how long, 1m to 30d, such as 90m, 2h or 7d; then it is on again by itself")
}

func newSettingsPreview(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "preview KEY=VALUE...", Short: "Show what a change of settings would do, and change nothing", Args: wants(1, -1), ValidArgs: settingsArgs(),
		Long: settingsHelp("Show which settings would change, and what that means for this domain by its own figures of the last 30 days.\nNothing is changed."),
	}
	asJSON := addJSONFlag(cmd)
	duration := addForFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body, err := settingsBody(args, *duration)
		if err != nil {
			return err
		}
		var preview webmanager.SettingsPreview
		if err := env.do(cmd, http.MethodPost, webmanager.Path("settings", "preview"), body, &preview); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(preview)
		}
		return env.printPreview(preview)
	}
	return cmd
}

func (env *Env) printPreview(p webmanager.SettingsPreview) error {
	if len(p.Changes) == 0 {
		env.say("nothing would change")
		return nil
	}
	rows := make([][]string, len(p.Changes))
	for i, c := range p.Changes {
		rows[i] = []string{c.Name, orDash(c.Before), orDash(c.After)}
	}
	if err := env.printTable([]string{"SETTING", "NOW", "THEN"}, rows); err != nil {
		return err
	}
	for _, sentence := range p.Consequences {
		if _, err := fmt.Fprintln(env.Stdout, "- "+printable(sentence)); err != nil {
			return err
		}
	}
	if p.Loosens {
		env.say("this allows more than before: settings set asks for the name of the domain")
	}
	if p.Destroys {
		env.say("this removes mail for good: settings set asks for the name of the domain")
	}
	return nil
}

func newSettingsSet(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "set KEY=VALUE...", Short: "Change settings", Args: wants(1, -1), ValidArgs: settingsArgs(),
		Long: settingsHelp("Change settings; either all that are named are changed, or none. A change that allows more than before, or\n" +
			"removes mail, shows what it does and is to be confirmed with the name of the domain. Lists have commas between."),
	}
	confirm := cmd.Flags().String("confirm", "", "name of the domain, to confirm a change that allows more than before, or removes mail")
	duration := addForFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body, err := settingsBody(args, *duration)
		if err != nil {
			return err
		}
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		var settings store.Settings
		if err := client.Do(cmd.Context(), http.MethodGet, webmanager.Path("settings"), nil, &settings); err != nil {
			return err
		}
		body["version"] = settings.Version
		if *confirm != "" {
			body["confirm"] = *confirm
		}
		changed, err := env.changeSettings(cmd.Context(), client, body)
		if err != nil {
			return err
		}
		env.say("changed the settings of %s", changed.Domain)
		env.sayAfterwards(changed, body)
		return nil
	}
	return cmd
}

// changeSettings makes the change; if it is to be confirmed and there is a terminal, it asks there.
func (env *Env) changeSettings(ctx context.Context, client *webmanager.Client, body map[string]any) (webmanager.SettingsChanged, error) {
	var changed webmanager.SettingsChanged
	err := client.Do(ctx, http.MethodPatch, webmanager.Path("settings"), body, &changed)
	var refusal *webmanager.Error
	if !errors.As(err, &refusal) || refusal.Code != webmanager.CodeConfirm {
		return changed, err
	}
	if _, given := body["confirm"]; given || env.ReadLine == nil {
		return changed, fmt.Errorf("%w\non the command line: --confirm DOMAIN", err)
	}
	for _, sentence := range refusal.Consequences {
		env.say("- %s", printable(sentence))
	}
	typed, err := env.ReadLine("This allows more than before, or removes mail. Type the name of the domain to confirm it: ")
	if err != nil {
		return changed, err
	}
	body["confirm"] = typed
	if typed == "" {
		return changed, errors.New("not confirmed; nothing was changed")
	}
	err = client.Do(ctx, http.MethodPatch, webmanager.Path("settings"), body, &changed)
	if errors.As(err, &refusal) && refusal.Code == webmanager.CodeConfirm {
		return changed, errors.New(refusal.Message) // the consequences were shown
	}
	return changed, err
}

// sayAfterwards tells what follows from a change.
func (env *Env) sayAfterwards(changed webmanager.SettingsChanged, body map[string]any) {
	if off, given := body["require_auth"].(bool); given && !off {
		if changed.RequireAuthAt.IsZero() {
			env.say("require_auth is off until somebody switches it on; --for DURATION would have limited it")
		} else {
			env.say("require_auth is on again by itself at %s", timestamp(changed.RequireAuthAt))
		}
		if len(changed.TrustedNetworks) == 0 {
			env.say("no trusted_networks are named, so nobody is let in by it")
		}
	}
	if changed.GrantsEnded > 0 {
		env.say("grants that ended with it: %d", changed.GrantsEnded)
	}
}

// settingsBody reads KEY=VALUE arguments and --for, or reports everything that is wrong.
func settingsBody(args []string, duration string) (map[string]any, error) {
	known := map[string]webmanager.Setting{}
	for _, s := range webmanager.Settings() {
		known[s.Name] = s
	}
	body := map[string]any{}
	var wrong []string
	for _, arg := range args {
		key, text, ok := strings.Cut(arg, "=")
		setting, exists := known[key]
		_, twice := body[key]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%q is not KEY=VALUE", arg))
		case !exists:
			wrong = append(wrong, fmt.Sprintf("%q is not a setting (see latchkey settings show)", key))
		case twice:
			wrong = append(wrong, key+" is named twice")
		default:
			value, err := setting.Read(text)
			if err != nil {
				wrong = append(wrong, err.Error())
			}
			body[key] = value
		}
	}
	if duration != "" {
		if body["require_auth"] != false {
			wrong = append(wrong, "--for goes with require_auth=off")
		}
		body["require_auth_for"] = duration
	}
	if len(wrong) > 0 {
		return nil, usagef("%s", strings.Join(wrong, "; "))
	}
	return body, nil
}
