package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"attache"
	"attache/client"
	"attache/secret"
)

func newConnectionCreate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Store a credential and say where it may be used",
		Long: `Store a credential and say for which host it may be used. Its type decides which header
carries it:

  api_key        the header that --header-name names, with the key as its value
  basic_auth     Authorization: Basic, from --username and the password
  bearer_token   Authorization: Bearer, with the token
  oauth          Authorization: Bearer, with a token that --client gets and refreshes

The secret is asked for on a terminal, without showing it; elsewhere it comes from
--secret-file. It is never an argument. Name, type, domain, ports and header cannot be
changed later; the credential can (attache connection rotate). An oauth connection has none:
its provider gives it tokens, once somebody has authorized it (attache connection authorize) or,
where the client's grant type is client_credentials, by itself.

An allowed domain is a host name, or *. and a domain: that domain and all below it.`,
		Example: `  attache connection create tickets --type api_key --header-name X-Api-Key --allowed-domain api.example.com
  attache connection create wiki --type bearer_token --allowed-domain '*.wiki.example' --secret-file - <token.txt
  attache connection create helpdesk --type basic_auth --username me@example.com --api-token --allowed-domain example.zendesk.com
  attache connection create calendar --type oauth --client sso --scopes 'read write' --allowed-domain api.example.com`,
		Args: exactly("NAME"),
	}
	integration := a.integrationFlag(cmd)
	var kind attache.ConnectionType
	choiceFlag(cmd, &kind, flagName{long: "type"}, "what is stored", attache.APIKey, attache.BasicAuth, attache.BearerToken, attache.OAuth)
	var in client.NewConnection
	flags := cmd.Flags()
	flags.StringVar(&in.AllowedDomain, "allowed-domain", "", "`HOST` that the credential may be sent to, or *. and a domain")
	flags.Var((*ports)(&in.AllowedPorts), "allowed-port", "`PORT` that it may be sent to; can be repeated (default 443)")
	flags.StringVar(&in.HeaderName, "header-name", "", "`HEADER` that carries an API key, such as X-Api-Key")
	flags.BoolVar(&in.StripCookies, "strip-cookies", false, "remove the client's cookies from requests that get the credential")
	flags.StringVar(&in.OAuthClient, "client", "", "`CLIENT` that gets the tokens of an oauth connection")
	flags.StringVar(&in.PermissionScope, "scopes", "", "`SCOPES` to ask for, separated by spaces (default those of the client)")
	flags.StringVar(&in.Subdomain, "subdomain", "", "`LABEL` for {subdomain} in the URLs of the client")
	a.completeFlag(cmd, "client", oauthClientNames(integration))
	credential := newCredentialFlags(cmd)
	out := outputFlag(cmd)
	for _, name := range []string{"type", "allowed-domain"} {
		_ = cmd.MarkFlagRequired(name) // fails where there is no such flag
	}
	for _, name := range []string{"allowed-domain", "allowed-port", "header-name", "scopes", "subdomain"} {
		completeWith(cmd, name, cobra.NoFileCompletions)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		in.Name = args[0]
		if (kind == attache.APIKey) != (in.HeaderName != "") {
			return usagef("--header-name and --type api_key go together: the header carries the key")
		}
		if (kind == attache.OAuth) != (in.OAuthClient != "") || kind != attache.OAuth && (in.PermissionScope != "" || in.Subdomain != "") {
			return usagef("--client, --scopes and --subdomain go with --type oauth, and that needs --client: an OAuth client gets the tokens")
		}
		// Before somebody types a secret for nothing.
		if err := inFlags(cmd, checkNew(in)); err != nil {
			return err
		}
		if in.Credential, err = credential.read(cmd.Context(), a, kind); err != nil {
			return err
		}
		return a.withAPI(cmd, func(ctx context.Context, c *client.Client) error {
			made, err := c.CreateConnection(ctx, *integration, kind, in)
			if errors.Is(err, attache.ErrExists) {
				return fmt.Errorf("integration %s has a connection %s already: choose another name, or replace its credential with attache connection rotate %[2]s --integration %[1]s", *integration, in.Name)
			}
			if err != nil {
				return noIntegration(err, *integration)
			}
			next, err := nextStep(ctx, c, *integration, made)
			if err != nil {
				return err
			}
			a.hint("Connection %s is made. %s --integration %s", made.Name, next, *integration)
			return out.write(cmd, made, connectionDetails(made))
		})
	}
	return cmd
}

// nextStep is what to do with a new connection, but for the integration.
func nextStep(ctx context.Context, c *client.Client, integration string, made client.Connection) (string, error) {
	test := "See that it works: attache connection test " + made.Name
	if strings.HasPrefix(string(made.AllowedDomain), "*.") {
		test += " --host HOST"
	}
	if made.Type != attache.OAuth {
		return test, nil
	}
	registration, err := c.OAuthClient(ctx, integration, made.OAuthClient)
	if err != nil {
		return "", err
	}
	if registration.GrantType == attache.AuthorizationCode {
		return "Authorize it: attache connection authorize " + made.Name, nil
	}
	return "It gets its first token while a server runs. " + test, nil
}

func newConnectionRotate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Replace a connection's credential",
		Long: `Replace a connection's credential, all of it: basic_auth takes the user name again too. The
secret is asked for on a terminal, without showing it; elsewhere it comes from --secret-file.
Requests get the new one from the next on, also in tunnels that are open.`,
		Example: "  attache connection rotate tickets --secret-file new-key.txt",
		Args:    exactly("NAME"),
	}
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, connectionNames(integration, rotatedConnection))
	credential := newCredentialFlags(cmd)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		found, err := a.lookUp(cmd, *integration, args[0])
		if err != nil {
			return err
		}
		if found.Type == attache.OAuth {
			return fmt.Errorf("the tokens of oauth connection %s come from its provider: attache connection authorize %[1]s --integration %s gets new ones", found.Name, *integration)
		}
		fresh, err := credential.read(cmd.Context(), a, found.Type)
		if err != nil {
			return err
		}
		return a.withAPI(cmd, func(ctx context.Context, c *client.Client) error {
			changed, err := c.ReplaceCredential(ctx, *integration, found.Type, found.Name, fresh)
			if err != nil {
				return noConnection(err, *integration, found.Name)
			}
			a.hint("Connection %s has a new credential since %s.", changed.Name, changed.UpdatedAt.Local().Format(time.TimeOnly))
			return out.write(cmd, changed, connectionDetails(changed))
		})
	}
	return cmd
}

// credentialFlags say where a credential comes from.
type credentialFlags struct {
	secret       secretFile
	username     string
	usernameFile secretFile
	apiToken     bool
}

func newCredentialFlags(cmd *cobra.Command) *credentialFlags {
	f := new(credentialFlags)
	flags := cmd.Flags()
	flags.StringVar((*string)(&f.secret), "secret-file", "", "`FILE` that holds the key, token or password, or - for standard input; one line break at its end is not part of it")
	flags.StringVar(&f.username, "username", "", "user `NAME` of basic_auth")
	flags.StringVar((*string)(&f.usernameFile), "username-file", "", "`FILE` that holds the user name, or - for standard input")
	flags.BoolVar(&f.apiToken, "api-token", false, "the password is an API token: sign in as USERNAME/token, as help desks have it")
	cmd.MarkFlagsMutuallyExclusive("username", "username-file")
	completeWith(cmd, "username", cobra.NoFileCompletions)
	return f
}

// read reads the credential of a connection of type t, and asks for what the
// flags do not name.
func (f *credentialFlags) read(ctx context.Context, a *app, t attache.ConnectionType) (c client.Credential, err error) {
	if t == attache.OAuth {
		if *f != (credentialFlags{}) {
			return c, usagef("the tokens of an oauth connection come from its provider: leave out --secret-file, --username, --username-file and --api-token")
		}
		return c, nil
	}
	if t != attache.BasicAuth && (f.username != "" || f.usernameFile != "" || f.apiToken) {
		return c, usagef("--username, --username-file and --api-token are for connections of type basic_auth, and this is %s", t)
	}
	if f.usernameFile == stdin && f.secret == stdin {
		return c, usagef("--username-file and --secret-file cannot both read standard input")
	}
	switch t {
	case attache.APIKey:
		c.APIKey.Text, err = a.readSecret(ctx, "secret-file", f.secret, "API key")
	case attache.BearerToken:
		c.Token.Text, err = a.readSecret(ctx, "secret-file", f.secret, "token")
	case attache.BasicAuth:
		if c.Username.Text, err = f.readUsername(ctx, a); err != nil {
			return client.Credential{}, err
		}
		label := "password"
		if f.apiToken {
			label = "API token"
		}
		c.Password.Text, err = a.readSecret(ctx, "secret-file", f.secret, label)
	}
	return c, err
}

// apiTokenSuffix tells a help desk that the password is an API token.
const apiTokenSuffix = "/token"

func (f *credentialFlags) readUsername(ctx context.Context, a *app) (name secret.Text, err error) {
	const label = "user name"
	switch _, ok := a.terminal(); {
	case f.username != "":
		name, err = checked(f.username, label)
	case f.usernameFile == "" && ok:
		var typed string
		if typed, err = a.ask(ctx, capital(label)+": "); err == nil {
			name, err = checked(typed, label)
		}
	case f.usernameFile == "":
		err = usagef("the user name is missing: give --username, or --username-file")
	default:
		name, err = a.readSecret(ctx, "username-file", f.usernameFile, label)
	}
	if err != nil || !f.apiToken {
		return name, err
	}
	return withSuffix(name), nil
}

// withSuffix adds apiTokenSuffix, unless somebody has already.
func withSuffix(name secret.Text) secret.Text {
	has := false
	_ = name.Check(func(s string) error {
		has = strings.HasSuffix(s, apiTokenSuffix)
		return nil
	})
	if has {
		return name
	}
	return secret.Concat(name, secret.New(apiTokenSuffix))
}
