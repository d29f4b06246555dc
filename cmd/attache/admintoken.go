package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"attache"
	"attache/client"
)

func newAdminTokenCommand(a *app) *cobra.Command {
	return newGroup("admin-token", "Manage admin tokens: what opens the admin API and the UI over TCP",
		newAdminTokenCreate(a), newAdminTokenList(a), newAdminTokenRevoke(a))
}

func newAdminTokenCreate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make an admin token and print it, this once",
		Long: "Make an admin token. It goes to standard output, alone and this once. A viewer reads; an\n" +
			"operator manages connections and access tokens too; an admin does everything.",
		Example: "  ATTACHE_ADMIN_TOKEN=$(attache admin-token create --role operator --expires 30d)",
		Args:    exactly(),
	}
	role := attache.RoleAdmin
	choiceFlag(cmd, &role, flagName{long: "role"}, "what its holder may do", attache.RoleAdmin, attache.RoleOperator, attache.RoleViewer)
	expires := expiresFlag(cmd, "token")
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		made, err := c.CreateAdminToken(ctx, role, expires.from(time.Now()))
		if err != nil {
			return err
		}
		a.hint("This is the only time that the token is shown. It opens the admin API and the UI as %s: set\n"+
			"ATTACHE_ADMIN_TOKEN to it, and ATTACHE_SERVER to the URL. It expires: %s.\n"+
			"To revoke it: attache admin-token revoke %s", role, expiry(made.ExpiresAt), made.ID)
		return writeToken(cmd, *out, made, made.Token)
	})
	return cmd
}

func newAdminTokenList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the admin tokens, the oldest first", Args: exactly(),
		Long:    "List the admin tokens, the oldest first, without the tokens themselves.",
		Example: "  attache admin-token list",
	}
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		all, err := c.AdminTokens(ctx)
		if err != nil {
			return err
		}
		t := table{
			columns: []string{"ID", "ROLE", "CREATED", "EXPIRES"},
			none:    "There is no admin token. Make one: attache admin-token create",
		}
		for _, token := range all {
			t.add(token.ID, string(token.Role), moment(token.CreatedAt), expiry(token.ExpiresAt))
		}
		return out.write(cmd, all, t)
	})
	return cmd
}

func newAdminTokenRevoke(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "Revoke an admin token", Args: exactly("ID"),
		Long:    "Revoke an admin token by its ID, which attache admin-token list shows.",
		Example: "  attache admin-token revoke 0c2dHzcjiZAYk",
	}
	a.completeName(cmd, adminTokenIDs)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, args []string) error {
		if err := c.RevokeAdminToken(ctx, args[0]); err != nil {
			return notFound(err, "admin token", args[0], "attache admin-token list shows those that there are")
		}
		a.hint("Admin token %s is revoked.", args[0])
		return nil
	})
	return cmd
}
