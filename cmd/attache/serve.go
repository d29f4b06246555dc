package main

import (
	"github.com/spf13/cobra"
)

func newServeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy, the admin API and the metrics",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return nil },
	}
	a.register(cmd.Flags())
	return cmd
}
