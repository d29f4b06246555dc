package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"attache/configs"
)

func newConfigCommand(a *app) *cobra.Command {
	return newGroup("config", "Look at the configuration", newConfigCheck(a))
}

func newConfigCheck(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check the configuration without using it",
		Long: `Check a config file, the ATTACHE_ variables and flags as a server would, and name every
error with its line. Without FILE it is the file that --config or ATTACHE_CONFIG names.`,
		Example: `  attache config check attache.yaml
  attache config check --show`,
		Args:              atMostOneFile,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	show := cmd.Flags().Bool("show", false, "print the value of every key, secrets redacted")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			a.configFile = args[0]
		}
		cfg, err := a.loadConfig()
		if err != nil {
			return err
		}
		if _, err := proxySettings(cfg); err != nil {
			return err
		}
		a.warnOfVariables()
		if !*show {
			text := "ok"
			if a.configPath() == "" {
				text = "ok: no config file; the defaults, with variables and flags, are what a server takes"
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		}
		t := table{columns: []string{"KEY", "VALUE"}}
		for _, k := range configs.Keys() {
			t.add(k.Name, k.Text(&cfg))
		}
		return t.write(cmd.OutOrStdout())
	}
	return cmd
}
