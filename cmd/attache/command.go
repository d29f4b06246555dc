package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"attache"
	"attache/client"
	"attache/policy"
)

// calling makes a command's RunE from what it does with the API.
func (a *app) calling(do func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return a.withAPI(cmd, func(ctx context.Context, c *client.Client) error { return do(ctx, c, args) })
	}
}

// withAPI calls do with the API. Nobody else can use a data directory without a
// server meanwhile, so do asks people nothing.
func (a *app) withAPI(cmd *cobra.Command, do func(ctx context.Context, c *client.Client) error) error {
	c, closeAPI, err := a.api(cmd)
	if err != nil {
		return err
	}
	defer closeAPI()
	err = do(cmd.Context(), c)
	var failed *url.Error
	if errors.As(err, &failed) {
		return fmt.Errorf("the admin API does not answer: %w: see that the server runs, and that --server names it", failed.Err)
	}
	return inFlags(cmd, err)
}

// inFlags turns what the API says about fields into what to do about flags.
func inFlags(cmd *cobra.Command, err error) error {
	var refused *client.Error
	if !errors.As(err, &refused) || len(refused.Problem.Errors) == 0 {
		return err
	}
	var wrong []error
	for _, f := range refused.Problem.Errors {
		wrong = append(wrong, &attache.FieldError{Field: flagOf(cmd, f.Field), Rule: f.Rule, Remedy: f.Remedy})
	}
	return errors.Join(wrong...)
}

// renamed changes what the API calls the fields that it complains about.
func renamed(err error, name func(field string) string) error {
	if refused := (*client.Error)(nil); errors.As(err, &refused) {
		for i := range refused.Problem.Errors {
			f := &refused.Problem.Errors[i]
			f.Field = name(f.Field)
		}
	}
	return err
}

// flagOf is the flag that a field of the API is given with, or the field where
// there is none.
func flagOf(cmd *cobra.Command, field string) string {
	name := strings.ReplaceAll(field, "_", "-")
	// allowed_ports are --allowed-port, and what is secret comes from a file.
	candidates := []string{name, strings.TrimSuffix(name, "s"), name + "-file"}
	switch field {
	case "client_secret", "api_key", "token", "password":
		candidates = append(candidates, "secret-file")
	case "oauth_client":
		candidates = append(candidates, "client")
	case "oauth_url_subdomain":
		candidates = append(candidates, "subdomain")
	case "permission_scope":
		candidates = append(candidates, "scopes")
	case "redirect_url":
		candidates = append(candidates, "callback-port")
	case "pkce":
		candidates = append(candidates, "no-pkce")
	}
	for _, flag := range candidates {
		if cmd.Flags().Lookup(flag) != nil {
			return "--" + flag
		}
	}
	return field
}

// hint tells people, on standard error, what they may want to know beside the
// result.
func (a *app) hint(format string, args ...any) {
	for line := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		_, _ = fmt.Fprintln(a.err, printable(line))
	}
}

// notFound says what does not exist, where the API could not know what was meant.
// What cannot be a name, or is a token in its place, is not repeated.
func notFound(err error, what, name, remedy string) error {
	if !errors.Is(err, attache.ErrNotFound) {
		return err
	}
	token := strings.HasPrefix(name, string(attache.AccessTokenPrefix)) || strings.HasPrefix(name, string(attache.AdminTokenPrefix))
	if _, invalid := policy.ParseName(what, name); invalid != nil || token {
		name = "of that name"
	}
	return fmt.Errorf("there is no %s %s: %s", what, name, remedy)
}

func noIntegration(err error, name string) error {
	return notFound(err, "integration", name, "attache integration list shows those that there are")
}

// integrationFlag gives a command --integration.
func (a *app) integrationFlag(cmd *cobra.Command) *string {
	standard, _ := a.lookup(integrationVariable)
	if standard == "" {
		standard = defaultIntegration
	}
	name := cmd.Flags().StringP("integration", "i", standard, "`NAME` of the integration that it is about; "+integrationVariable+" sets the default")
	a.completeFlag(cmd, "integration", integrationNames)
	return name
}

func yesFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().BoolP("yes", "y", false, "do not ask")
}

// exactly accepts one argument for each name. What is too much is not repeated:
// it may be a secret that does not belong there.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s is missing: %s %s", names[len(args)], cmd.CommandPath(), names[len(args)])
		case len(args) > len(names) && cmd.Flags().Lookup("secret-file") != nil:
			return fmt.Errorf("too many arguments: %s takes %d, and a secret is none: --secret-file names a file that holds it", cmd.CommandPath(), len(names))
		case len(args) > len(names) && len(names) == 0:
			return fmt.Errorf("too many arguments: %s takes none", cmd.CommandPath())
		case len(args) > len(names):
			return fmt.Errorf("too many arguments: %s takes %d", cmd.CommandPath(), len(names))
		}
		return nil
	}
}

// atMostOneFile accepts the name of a file, or no argument.
func atMostOneFile(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("too many arguments: %s takes one file", cmd.CommandPath())
	}
	return nil
}
