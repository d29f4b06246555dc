package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newEnvCommand(a *app) *cobra.Command {
	var who func() identity
	var expires *lifetime
	name := "sh"
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the variables that clients need, with a new access token",
		Long: "Prints the variables that make clients go through the proxy and trust its CA, for a shell to read. It makes an\n" +
			"access token, which stays valid until it is revoked or, with --expires, for that long. A server must run: its address is among the variables.",
		Example: "  eval \"$(attache env)\"\n  attache env --shell fish | source\n  attache env --shell dotenv --integration support-bot > .env",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			sh, ok := shellOf(name)
			if !ok {
				return usagef("--shell is none of %s", strings.Join(shellNames, ", "))
			}
			return a.env(cmd, who(), sh, *expires)
		},
	}
	who = a.identityFlags(cmd)
	expires = expiresFlag(cmd, "access token")
	cmd.Flags().StringVar(&name, "shell", name, "who reads it: "+strings.Join(shellNames, ", "))
	completeWith(cmd, "shell", cobra.FixedCompletions(shellNames, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) env(cmd *cobra.Command, who identity, sh shell, expires lifetime) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	g := grant{user: who.user(), dir: cfg.DataDir, server: a.server(), lasting: true}
	c, err := a.runningAPI(cmd.Context(), cfg)
	if errors.Is(err, errNoServer) {
		return fmt.Errorf("%w: start one with attache serve, or use attache run, which needs none", err)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if err := a.checkNamed(cmd.Context(), cfg, who); err != nil {
		return err
	}
	if err := g.locate(cmd.Context(), c); err != nil {
		return err
	}
	// Before there is a token that nobody is told of.
	files, err := a.clientFiles(g)
	if err != nil {
		return err
	}
	id, err := g.issue(cmd.Context(), c, who.integration, expires.from(time.Now()))
	if err != nil {
		return err
	}
	vars, err := a.clientVariables(g, files)
	if err != nil {
		return err
	}
	a.warnOfBypass(cmd.Context(), cfg, who)
	where := a.dataDirFlag(cfg.DataDir)
	if g.server != "" {
		where = " --server " + shellQuoted(g.server)
	}
	a.hint("The access token %s is made. To revoke it: attache%s token revoke --integration %s %[1]s", id, where, who.integration)
	// The comment comes last, in case somebody reads all of it as one line.
	_, err = io.WriteString(a.out, sh.script(vars)+
		fmt.Sprintf("# To revoke the access token: attache%s token revoke --integration %s %s\n", where, who.integration, id))
	return err
}
