package cli

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

func newSettings(env *Env) *cobra.Command {
	return addDataFlags(group("settings", "What the domain's owner decides", newSettingsShow(env), newSettingsSet(env)))
}

func newSettingsShow(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "show", Short: "Show the settings", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var settings store.Settings
		if err := env.get(cmd, webmanager.Path("settings"), &settings); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(settings)
		}
		rows := [][]string{{"domain", settings.Domain, "the domain that is served; it never changes"}}
		for _, s := range webmanager.Settings() {
			rows = append(rows, []string{s.Name, orDash(s.Show(settings)), s.Help})
		}
		return env.printTable([]string{"SETTING", "VALUE", "MEANING"}, rows)
	}
	return cmd
}

func newSettingsSet(env *Env) *cobra.Command {
	var help strings.Builder
	help.WriteString("Change settings; either all that are named are changed, or none.\n")
	names := make([]string, 0, len(webmanager.Settings()))
	for _, s := range webmanager.Settings() {
		fmt.Fprintf(&help, "\n  %-16s %s", s.Name, s.Help)
		names = append(names, s.Name+"=")
	}
	return &cobra.Command{
		Use: "set KEY=VALUE...", Short: "Change settings", Long: help.String(), Args: wants(1, -1),
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := settingsBody(args)
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
			if err := client.Do(cmd.Context(), http.MethodPatch, webmanager.Path("settings"), body, &settings); err != nil {
				return err
			}
			env.say("changed the settings of %s", settings.Domain)
			return nil
		},
	}
}

// settingsBody reads KEY=VALUE arguments, or reports every one that is wrong.
func settingsBody(args []string) (map[string]any, error) {
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
	if len(wrong) > 0 {
		return nil, usagef("%s", strings.Join(wrong, "; "))
	}
	return body, nil
}
