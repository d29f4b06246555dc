package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"attache"
	"attache/client"
	"attache/oauth"
)

// completionTimeout is how long somebody who pressed Tab waits at most.
const completionTimeout = 800 * time.Millisecond

// lister lists what a name can be completed to.
type lister func(ctx context.Context, c *client.Client) ([]cobra.Completion, error)

// completeName completes a command's one argument.
func (a *app) completeName(cmd *cobra.Command, list lister) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.complete(cmd, list)
	}
}

// completeFlag completes the value of a command's flag.
func (a *app) completeFlag(cmd *cobra.Command, flag string, list lister) {
	completeWith(cmd, flag, func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return a.complete(cmd, list)
	})
}

// completeWith sets how the value of a command's flag is completed.
func completeWith(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	_ = cmd.RegisterFlagCompletionFunc(flag, f) // fails where there is no such flag
}

// complete asks the API. It makes no data directory, starts no server and asks
// people nothing; where it learns nothing in time, it offers nothing.
func (a *app) complete(cmd *cobra.Command, list lister) ([]cobra.Completion, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if !a.hasData() {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	cmd.SetContext(ctx)
	a.in = strings.NewReader("") // a passphrase cannot be asked for now
	names, err := interruptible(ctx, func() (names []cobra.Completion, err error) {
		err = a.withAPI(cmd, func(ctx context.Context, c *client.Client) error {
			names, err = list(ctx, c)
			return err
		})
		return names, err
	})
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
		return nil, none
	}
	return names, none
}

// hasData tells whether there is a data directory to ask, or a server.
func (a *app) hasData() bool {
	if a.server() != "" {
		return true
	}
	cfg, err := a.loadConfig()
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(cfg.DataDir, caFile))
	return err == nil
}

// addCompletion adds the command that writes the scripts for shells, and makes it
// refuse a shell that it does not know, and what follows one.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			onlyHolds(c)
			for _, shell := range c.Commands() {
				shell.Args = exactly()
			}
		}
	}
}

func integrationNames(ctx context.Context, c *client.Client) ([]cobra.Completion, error) {
	all, err := c.Integrations(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]cobra.Completion, len(all))
	for i, in := range all {
		names[i] = in.Name
	}
	return names, nil
}

// unquoteUsages takes the quotes out of what c and the commands below it say of
// their flags: they tell help which word is the value, and shells show them.
func unquoteUsages(c *cobra.Command) {
	unquote := func(f *pflag.Flag) { _, f.Usage = pflag.UnquoteUsage(f) }
	c.PersistentFlags().VisitAll(unquote)
	c.Flags().VisitAll(unquote)
	for _, sub := range c.Commands() {
		unquoteUsages(sub)
	}
}

// What connections a command can be about.
func anyConnection(client.Connection) bool       { return true }
func usableConnection(c client.Connection) bool  { return c.State != attache.GrantMoved }
func rotatedConnection(c client.Connection) bool { return c.Type != attache.OAuth }

// exportedConnection: a move can be repeated until it is known to be safe.
func exportedConnection(c client.Connection) bool {
	return usableConnection(c) || c.ErrorCode == oauth.CodeMoveUnconfirmed
}

// connectionNames lists those of the integration that the flag names, and that fit.
func connectionNames(integration *string, fits func(client.Connection) bool) lister {
	return func(ctx context.Context, c *client.Client) (names []cobra.Completion, err error) {
		for one, err := range c.Connections(ctx, *integration) {
			if err != nil {
				return nil, err
			}
			if !fits(one) {
				continue
			}
			names = append(names, cobra.CompletionWithDesc(one.Name, string(one.Type)+" for "+string(one.AllowedDomain)))
		}
		return names, nil
	}
}

// oauthConnectionNames lists those of type oauth of the integration that the flag
// names, and that fit.
func oauthConnectionNames(integration *string, fits func(client.Connection) bool) lister {
	return func(ctx context.Context, c *client.Client) (names []cobra.Completion, err error) {
		for one, err := range c.ConnectionsOf(ctx, *integration, attache.OAuth) {
			if err != nil {
				return nil, err
			}
			if !fits(one) {
				continue
			}
			names = append(names, cobra.CompletionWithDesc(one.Name, string(one.State)+", for "+string(one.AllowedDomain)))
		}
		return names, nil
	}
}

// oauthClientNames lists those of the integration that the flag names.
func oauthClientNames(integration *string) lister {
	return func(ctx context.Context, c *client.Client) ([]cobra.Completion, error) {
		all, err := c.OAuthClients(ctx, *integration)
		if err != nil {
			return nil, err
		}
		names := make([]cobra.Completion, len(all))
		for i, one := range all {
			names[i] = cobra.CompletionWithDesc(one.Name, string(one.GrantType)+" at "+one.TokenURL)
		}
		return names, nil
	}
}

// accessTokenIDs lists those of the integration that the flag names.
func accessTokenIDs(integration *string) lister {
	return func(ctx context.Context, c *client.Client) ([]cobra.Completion, error) {
		all, err := c.AccessTokens(ctx, *integration)
		if err != nil {
			return nil, err
		}
		ids := make([]cobra.Completion, len(all))
		for i, token := range all {
			ids[i] = cobra.CompletionWithDesc(token.ID, "made "+moment(token.CreatedAt))
		}
		return ids, nil
	}
}

func adminTokenIDs(ctx context.Context, c *client.Client) ([]cobra.Completion, error) {
	all, err := c.AdminTokens(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]cobra.Completion, len(all))
	for i, token := range all {
		ids[i] = cobra.CompletionWithDesc(token.ID, string(token.Role)+", made "+moment(token.CreatedAt))
	}
	return ids, nil
}

// oldFingerprints lists the CA certificates that can be dropped.
func oldFingerprints(ctx context.Context, c *client.Client) (old []cobra.Completion, err error) {
	ca, err := c.CA(ctx)
	for _, one := range ca.Certificates {
		if !one.Signing {
			old = append(old, cobra.CompletionWithDesc(one.Fingerprint, one.Subject))
		}
	}
	return old, err
}
