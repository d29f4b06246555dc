package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"attache/client"
)

func newOAuthClientCommand(a *app) *cobra.Command {
	return newGroup("client", "Manage OAuth clients: registrations at providers, which oauth connections use",
		newOAuthClientCreate(a), newOAuthClientList(a), newOAuthClientShow(a),
		newOAuthClientUpdate(a), newOAuthClientDelete(a))
}

func newOAuthClientList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List an integration's OAuth clients", Args: exactly(),
		Example: "  attache client list --integration support-bot",
	}
	integration := a.integrationFlag(cmd)
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		all, err := c.OAuthClients(ctx, *integration)
		if err != nil {
			return noIntegration(err, *integration)
		}
		t := table{
			columns: []string{"NAME", "GRANT TYPE", "CLIENT ID", "TOKEN URL", "UPDATED"},
			none:    "There is no OAuth client. Make one: attache client create NAME --integration " + *integration,
		}
		for _, one := range all {
			t.add(one.Name, string(one.GrantType), one.ClientID, one.TokenURL, moment(one.UpdatedAt))
		}
		return out.write(cmd, all, t)
	})
	return cmd
}

func newOAuthClientShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show an OAuth client and its callback URL, without its secrets", Args: exactly("NAME"),
		Example: "  attache client show helpdesk --integration support-bot",
	}
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, oauthClientNames(integration))
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, args []string) error {
		found, err := c.OAuthClient(ctx, *integration, args[0])
		if err != nil {
			return noOAuthClient(err, *integration, args[0])
		}
		return out.write(cmd, found, oauthClientDetails(found))
	})
	return cmd
}

func newOAuthClientDelete(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete an OAuth client that no connection uses",
		Long: "Delete an OAuth client that no connection uses, and the secrets in it. The registration at the\n" +
			"provider stays.",
		Example: "  attache client delete helpdesk --integration support-bot --yes",
		Args:    exactly("NAME"),
	}
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, oauthClientNames(integration))
	yes := yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		if !*yes {
			if err := a.confirm(cmd.Context(), fmt.Sprintf("Deleting OAuth client %s of %s deletes its secrets. Go on?", name, *integration)); err != nil {
				return err
			}
		}
		return a.withAPI(cmd, func(ctx context.Context, c *client.Client) error {
			if err := c.DeleteOAuthClient(ctx, *integration, name); err != nil {
				return noOAuthClient(err, *integration, name)
			}
			a.hint("OAuth client %s is deleted.", name)
			return nil
		})
	}
	return cmd
}

func noOAuthClient(err error, integration, name string) error {
	return notFound(err, "OAuth client", name, "attache client list shows those of integration "+integration)
}

func oauthClientDetails(c client.OAuthClient) table {
	var t table
	pkce := ""
	switch {
	case c.PKCE == nil: // nobody is led through an authorization
	case *c.PKCE:
		pkce = "yes, with S256"
	default:
		pkce = "no"
	}
	body := c.TokenBody
	if body == "form" {
		body = ""
	}
	for _, row := range [][2]string{
		{"Name", c.Name},
		{"Grant type", string(c.GrantType)},
		{"Client ID", c.ClientID},
		{"Callback URL", c.CallbackURL},
		{"Authorization URL", c.AuthURL},
		{"Token URL", c.TokenURL},
		{"Refresh URL", c.RefreshURL},
		{"Revocation URL", c.RevocationURL},
		{"Device URL", c.DeviceURL},
		{"Issuer", c.Issuer},
		{"Default scopes", c.DefaultScopes},
		{"Scope separator", quoted(c.ScopeSeparator)},
		{"Proves itself with", string(c.ClientAuth)},
		{"PKCE", pkce},
		{"Authorization adds", pairs(c.AuthParams)},
		{"Token request adds", pairs(c.TokenParams)},
		{"Token headers", pairs(c.TokenHeaders)},
		{"Token request body", body},
		{"Audience", c.Audience},
		{"Resource", c.Resource},
		{"Kept alive every", c.Keepalive},
		{"Created", moment(c.CreatedAt)},
		{"Client ID, secrets set", moment(c.UpdatedAt)},
	} {
		t.addKnown(row[0], row[1])
	}
	return t
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return `"` + s + `"`
}

// pairs writes parameters as their flags are given.
func pairs(m map[string]string) string {
	texts := make([]string, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		texts = append(texts, name+"="+m[name])
	}
	return strings.Join(texts, ", ")
}
