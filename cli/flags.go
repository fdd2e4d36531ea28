package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"latchkey/config"
)

// configFlag names the file; its variable is config.EnvPrefix + "CONFIG".
const configFlag = "config"

// addDataFlags adds what says which domain a command is about.
func addDataFlags(cmd *cobra.Command) *cobra.Command {
	flags := cmd.PersistentFlags()
	for _, k := range config.Keys() {
		if k.Name == "data" {
			flags.String(k.Flag(), k.Default, k.Help+" ["+k.Env()+"]")
		}
	}
	addConfigFlag(flags)
	return cmd
}

// addServerFlags adds everything that can be configured.
func addServerFlags(cmd *cobra.Command) *cobra.Command {
	flags := cmd.Flags()
	flags.SortFlags = false
	addConfigFlag(flags)
	for _, k := range config.Keys() {
		flags.String(k.Flag(), k.Default, k.Help+" ["+k.Env()+"]")
	}
	return cmd
}

func addConfigFlag(flags *pflag.FlagSet) {
	flags.String(configFlag, "", "configuration file, TOML ["+config.EnvPrefix+"CONFIG]")
}

// sources collects the flags that were given, the environment and the name of the file.
func sources(env *Env, cmd *cobra.Command) config.Sources {
	s := config.Sources{Flags: map[string]string{}, LookupEnv: env.LookupEnv}
	s.File, _ = env.LookupEnv(config.EnvPrefix + "CONFIG")
	for _, k := range config.Keys() {
		if f := cmd.Flags().Lookup(k.Flag()); f != nil && f.Changed {
			s.Flags[k.Name] = f.Value.String()
		}
	}
	if f := cmd.Flags().Lookup(configFlag); f != nil && f.Changed {
		s.File = f.Value.String()
	}
	return s
}

// addJSONFlag adds --json to a command that lists something.
func addJSONFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}
