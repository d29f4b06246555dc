package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"attache/client"
)

func newIntegrationCommand(a *app) *cobra.Command {
	return newGroup("integration", "Manage integrations: the bots, scripts and teams that call",
		newIntegrationCreate(a), newIntegrationList(a), newIntegrationShow(a), newIntegrationDelete(a))
}

func newIntegrationCreate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "create NAME",
		Short:   "Make an integration",
		Long:    "Make an integration. Its name has 3 to 64 characters of A-Z a-z 0-9 _ -.",
		Example: "  attache integration create support-bot",
		Args:    exactly("NAME"),
	}
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, args []string) error {
		made, err := c.CreateIntegration(ctx, args[0])
		if err != nil {
			return err
		}
		a.hint("Integration %s is made. Give it an access token: attache token create --integration %[1]s", made.Name)
		return out.write(cmd, made, integrationDetails(made))
	})
	return cmd
}

func newIntegrationList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the integrations, by name", Args: exactly(),
		Example: "  attache integration list -o json",
	}
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		all, err := c.Integrations(ctx)
		if err != nil {
			return err
		}
		t := table{columns: []string{"NAME", "CREATED"}, none: "There is no integration. Make one: attache integration create NAME"}
		for _, in := range all {
			t.add(in.Name, moment(in.CreatedAt))
		}
		return out.write(cmd, all, t)
	})
	return cmd
}

func newIntegrationShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show an integration", Args: exactly("NAME"),
		Example: "  attache integration show support-bot",
	}
	a.completeName(cmd, integrationNames)
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, args []string) error {
		in, err := c.Integration(ctx, args[0])
		if err != nil {
			return noIntegration(err, args[0])
		}
		return out.write(cmd, in, integrationDetails(in))
	})
	return cmd
}

func newIntegrationDelete(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete an integration and all that it owns",
		Long: "Delete an integration with its connections, OAuth clients and access tokens. Its clients are refused\n" +
			"from their next request on. Providers that have a revocation URL are told that its grants are no\n" +
			"longer used: afterwards, in the background where a server runs, whose log says how it went.",
		Example: "  attache integration delete support-bot --yes",
		Args:    exactly("NAME"),
	}
	a.completeName(cmd, integrationNames)
	yes := yesFlag(cmd)
	remove := a.calling(func(ctx context.Context, c *client.Client, args []string) error {
		if err := c.DeleteIntegration(ctx, args[0]); err != nil {
			return noIntegration(err, args[0])
		}
		a.hint("Integration %s is deleted.", args[0])
		return nil
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !*yes {
			var question string
			if err := a.withAPI(cmd, func(ctx context.Context, c *client.Client) (err error) {
				question, err = whatGoes(ctx, c, args[0])
				return noIntegration(err, args[0])
			}); err != nil {
				return err
			}
			if err := a.confirm(cmd.Context(), question); err != nil {
				return err
			}
		}
		return remove(cmd, args)
	}
	return cmd
}

// whatGoes asks whether an integration may be deleted, and says what goes with it.
func whatGoes(ctx context.Context, c *client.Client, name string) (question string, err error) {
	tokens, err := c.AccessTokens(ctx, name)
	if err != nil {
		return "", err
	}
	connections := 0
	for _, err := range c.Connections(ctx, name) {
		if err != nil {
			return "", err
		}
		connections++
	}
	return fmt.Sprintf("Deleting integration %s deletes its connections (%d) and access tokens (%d). Go on?",
		name, connections, len(tokens)), nil
}

func integrationDetails(in client.Integration) table {
	return table{rows: [][]string{{"Name", in.Name}, {"Created", moment(in.CreatedAt)}}}
}
