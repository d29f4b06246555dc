package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"attache/client"
	"attache/secret"
)

func newTokenCommand(a *app) *cobra.Command {
	return newGroup("token", "Manage access tokens: what an integration's clients present to the proxy",
		newTokenCreate(a), newTokenList(a), newTokenRevoke(a))
}

func newTokenCreate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make an access token and print it, this once",
		Long: "Make an access token for the clients of an integration. The token goes to standard output,\n" +
			"alone and this once: it is not kept, and nobody can show it again.",
		Example: "  TOKEN=$(attache token create --integration support-bot --expires 30d)",
		Args:    exactly(),
	}
	integration := a.integrationFlag(cmd)
	expires := expiresFlag(cmd, "token")
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		made, err := c.CreateAccessToken(ctx, *integration, expires.from(time.Now()))
		if err != nil {
			return noIntegration(err, *integration)
		}
		a.hint("This is the only time that the token is shown. Clients present it as the password in\n"+
			"HTTPS_PROXY=http://%s:TOKEN@HOST:PORT (attache env prints it all). It expires: %s.\n"+
			"To revoke it: attache token revoke --integration %[1]s %[3]s", *integration, expiry(made.ExpiresAt), made.ID)
		return writeToken(cmd, *out, made, made.Token)
	})
	return cmd
}

// writeToken prints a new token, alone where nobody asked for another format.
func writeToken(cmd *cobra.Command, f format, made any, token secret.Outgoing) error {
	shown, err := token.MarshalText()
	if err != nil {
		return err
	}
	return f.write(cmd, made, table{rows: [][]string{{string(shown)}}})
}

func newTokenList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List an integration's access tokens, the oldest first", Args: exactly(),
		Long:    "List an integration's access tokens, the oldest first, without the tokens themselves.",
		Example: "  attache token list --integration support-bot",
	}
	integration := a.integrationFlag(cmd)
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		all, err := c.AccessTokens(ctx, *integration)
		if err != nil {
			return noIntegration(err, *integration)
		}
		t := table{
			columns: []string{"ID", "CREATED", "EXPIRES"},
			none:    "There is no access token. Make one: attache token create --integration " + *integration,
		}
		for _, token := range all {
			t.add(token.ID, moment(token.CreatedAt), expiry(token.ExpiresAt))
		}
		return out.write(cmd, all, t)
	})
	return cmd
}

func newTokenRevoke(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "revoke ID",
		Short:   "Revoke an access token",
		Long:    "Revoke an access token by its ID, which attache token list shows. Open tunnels feel it at\ntheir next request.",
		Example: "  attache token revoke --integration support-bot 0c2dHzcjiZAYk",
		Args:    exactly("ID"),
	}
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, accessTokenIDs(integration))
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, args []string) error {
		if err := c.RevokeAccessToken(ctx, *integration, args[0]); err != nil {
			return notFound(err, "access token", args[0], "attache token list shows those of integration "+*integration)
		}
		a.hint("Access token %s is revoked.", args[0])
		return nil
	})
	return cmd
}
