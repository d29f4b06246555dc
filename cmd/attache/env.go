package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"attache/client"
)

func newEnvCommand(a *app) *cobra.Command {
	var who func() identity
	name := "sh"
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the variables that clients need, with a new access token",
		Long: "Prints the variables that make clients go through the proxy and trust its CA, for a shell to read. It makes an\n" +
			"access token, which stays valid until it is revoked. A server must run: its address is among the variables.",
		Example: "  eval \"$(attache env)\"\n  attache env --shell fish | source\n  attache env --shell dotenv --integration support-bot > .env",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sh, ok := shellOf(name)
			if !ok {
				return usagef("--shell is none of %s", strings.Join(shellNames, ", "))
			}
			return a.env(cmd, who(), sh)
		},
	}
	who = a.identityFlags(cmd)
	cmd.Flags().StringVar(&name, "shell", name, "who reads it: "+strings.Join(shellNames, ", "))
	return cmd
}

func (a *app) env(cmd *cobra.Command, who identity, sh shell) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	g := grant{user: who.user(), dir: cfg.DataDir}
	var c *client.Client
	server := a.server()
	if server != "" {
		c, err = a.remoteAPI(server)
	} else {
		c, err = localAPI(cmd.Context(), cfg.DataDir)
	}
	if errors.Is(err, errNoServer) {
		return fmt.Errorf("%w: start one with attache serve, or use attache run, which needs none", err)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := g.issue(cmd.Context(), c, server, who.integration, time.Time{})
	if err != nil {
		return err
	}
	vars, err := a.clientVariables(g)
	if err != nil {
		return err
	}
	where := a.dataDirFlag(cfg.DataDir)
	if server != "" {
		where = " --server " + shellQuoted(server)
	}
	// The comment comes last, in case somebody reads all of it as one line.
	_, err = io.WriteString(a.out, sh.script(vars)+
		fmt.Sprintf("# To revoke the access token: attache%s token revoke --integration %s %s\n", where, who.integration, id))
	return err
}
