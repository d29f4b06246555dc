package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"attache"
	"attache/client"
)

func newConnectionCommand(a *app) *cobra.Command {
	return newGroup("connection", "Manage connections: credentials, and where each may be used",
		newConnectionCreate(a), newConnectionList(a), newConnectionShow(a),
		newConnectionRotate(a), newConnectionDelete(a), newConnectionAuthorize(a), newConnectionTest(a),
		newConnectionExport(a), newConnectionImport(a))
}

func newConnectionList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List an integration's connections", Args: exactly(),
		Example: "  attache connection list --integration support-bot",
	}
	integration := a.integrationFlag(cmd)
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		t := table{
			columns: []string{"NAME", "TYPE", "ALLOWED DOMAIN", "PORTS", "HEADER", "STATE", "UPDATED"},
			none:    "There is no connection. Make one: attache connection create NAME --integration " + *integration,
		}
		all := []client.Connection{} // JSON's [] rather than null
		for one, err := range c.Connections(ctx, *integration) {
			if err != nil {
				return noIntegration(err, *integration)
			}
			all = append(all, one)
			t.add(one.Name, string(one.Type), string(one.AllowedDomain), portList(one), headerOf(one), string(one.State), moment(one.UpdatedAt))
		}
		return out.write(cmd, all, t)
	})
	return cmd
}

func newConnectionShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a connection, without its credential", Args: exactly("NAME"),
		Example: "  attache connection show tickets --integration support-bot -o yaml",
	}
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, connectionNames(integration, anyConnection))
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, args []string) error {
		found, err := findConnection(ctx, c, *integration, args[0])
		if err != nil {
			return err
		}
		return out.write(cmd, found, connectionDetails(found))
	})
	return cmd
}

func newConnectionDelete(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a connection and its credential",
		Long:    "Delete a connection and its credential. Requests do not get it any more from the next one\non, also in tunnels that are open.",
		Example: "  attache connection delete tickets --integration support-bot --yes",
		Args:    exactly("NAME"),
	}
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, connectionNames(integration, anyConnection))
	yes := yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		found, err := a.lookUp(cmd, *integration, args[0])
		if err != nil {
			return err
		}
		if !*yes {
			question := fmt.Sprintf("Deleting connection %s of %s deletes its credential for %s. Go on?", found.Name, *integration, found.AllowedDomain)
			if err := a.confirm(cmd.Context(), question); err != nil {
				return err
			}
		}
		return a.withAPI(cmd, func(ctx context.Context, c *client.Client) error {
			if err := c.DeleteConnection(ctx, *integration, found.Type, found.Name); err != nil {
				return noConnection(err, *integration, found.Name)
			}
			a.hint("Connection %s is deleted.", found.Name)
			return nil
		})
	}
	return cmd
}

// lookUp finds a connection before people are asked something about it.
func (a *app) lookUp(cmd *cobra.Command, integration, name string) (found client.Connection, err error) {
	err = a.withAPI(cmd, func(ctx context.Context, c *client.Client) error {
		found, err = findConnection(ctx, c, integration, name)
		return err
	})
	return found, err
}

func findConnection(ctx context.Context, c *client.Client, integration, name string) (client.Connection, error) {
	found, err := c.FindConnection(ctx, integration, name)
	return found, noConnection(err, integration, name)
}

func noConnection(err error, integration, name string) error {
	return notFound(err, "connection", name, "attache connection list shows those of integration "+integration)
}

func connectionDetails(c client.Connection) table {
	cookies := "kept"
	if c.StripCookies {
		cookies = "removed"
	}
	t := table{rows: [][]string{
		{"Name", c.Name},
		{"Type", string(c.Type)},
		{"Allowed domain", string(c.AllowedDomain)},
		{"Allowed ports", portList(c)},
		{"Header", headerOf(c)},
		{"Client's cookies", cookies},
		{"Created", moment(c.CreatedAt)},
	}}
	if c.Type == attache.OAuth {
		t.addOAuth(c.OAuth)
	} else {
		t.add("Credential set", moment(c.UpdatedAt))
	}
	return t
}

// addOAuth adds how an oauth connection stands.
func (t *table) addOAuth(o client.OAuth) {
	t.add("OAuth client", o.OAuthClient)
	t.addKnown("Subdomain", o.Subdomain)
	t.addKnown("Scope asked for", o.RequestedScope)
	t.addKnown("Scope granted", o.PermissionScope)
	state := string(o.State)
	if o.State == attache.GrantPending {
		state += ": it has no token yet"
	}
	t.add("State", state)
	t.addKnown("Error", o.ErrorCode)
	t.addKnown("What to do", o.Advice)
	if !o.RetryAt.IsZero() {
		t.add("Next try", moment(o.RetryAt))
	}
	if o.RefreshedAt.IsZero() {
		return
	}
	t.add("Token issued", moment(o.RefreshedAt))
	expires := "not known"
	if !o.TokenExpiry.IsZero() {
		expires = expiry(o.TokenExpiry)
	}
	t.add("Token expires", expires)
}

// headerOf is the header that carries the connection's credential.
func headerOf(c client.Connection) string {
	name, _ := (&attache.Connection{Type: c.Type, HeaderName: c.HeaderName}).Header()
	return name
}

func portList(c client.Connection) string {
	texts := make([]string, len(c.AllowedPorts))
	for i, port := range c.AllowedPorts {
		texts[i] = strconv.Itoa(int(port))
	}
	return strings.Join(texts, ",")
}
