package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"attache"
	"attache/client"
	"attache/policy"
	"attache/secret"
)

func newOAuthClientCreate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Register an OAuth client of a provider",
		Long: `Register an OAuth client: what a provider has given you for your application. Connections of
type oauth get their tokens with it.

With --issuer, the provider says its URLs itself. URLs may contain {subdomain}, which each
connection fills in with --subdomain.

The client secret is asked for on a terminal, without showing it; elsewhere it comes from
--secret-file. It is never an argument. A public client has none: --client-auth none. Client id
and secrets can be changed later (attache client update), and nothing else.`,
		Example: `  attache client create helpdesk --client-id my_app --auth-url 'https://{subdomain}.zendesk.com/oauth/authorizations/new' \
      --token-url 'https://{subdomain}.zendesk.com/oauth/tokens' --default-scopes 'read write'
  attache client create sso --issuer https://id.example.com --client-id attache --client-auth none
  attache client create robot --grant-type client_credentials --client-id robot --token-url https://id.example.com/token --secret-file secret.txt`,
		Args: exactly("NAME"),
	}
	integration := a.integrationFlag(cmd)
	r := newRegistrationFlags(cmd)
	out := outputFlag(cmd)
	_ = cmd.MarkFlagRequired("client-id") // fails where there is no such flag
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		// Before somebody types a secret for nothing.
		if _, err := policy.ParseName("name", args[0]); err != nil {
			return err
		}
		in, err := r.read(cmd.Context(), a)
		if err != nil {
			return err
		}
		in.Name = args[0]
		return a.withAPI(cmd, func(ctx context.Context, c *client.Client) error {
			made, err := c.CreateOAuthClient(ctx, *integration, in)
			if err != nil {
				return noIntegration(err, *integration)
			}
			a.hint("OAuth client %s is made. %s", made.Name, afterRegistration(made, *integration))
			return out.write(cmd, made, oauthClientDetails(made))
		})
	}
	return cmd
}

// afterRegistration says what comes next.
func afterRegistration(c client.OAuthClient, integration string) string {
	connect := "attache connection create NAME --type oauth --client " + c.Name + " --allowed-domain HOST --integration " + integration
	if c.GrantType != attache.AuthorizationCode {
		return "Use it: " + connect
	}
	give := ""
	if c.CallbackURL != "" {
		give = "\n  " + c.CallbackURL + "   for browsers that reach this server, and --no-browser"
	}
	return "Give the provider as callback URLs:\n" + give +
		"\n  http://127.0.0.1" + callbackPath + "   with any port, or the one that --callback-port names, for attache connection authorize\n\n" +
		"Then: " + connect
}

func newOAuthClientUpdate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update NAME",
		Short: "Change the client id of an OAuth client, or what it proves itself with",
		Long: `Change the client id, and what the client proves itself with: the client secret, the private key
of --client-auth private_key_jwt, the certificate. Without a flag the client secret, where there
is one, is asked for on a terminal, without showing it. Connections keep their grants, and those
that the provider refused because of what has changed are tried again.`,
		Example: `  attache client update helpdesk --secret-file new-secret.txt
  attache client update helpdesk --client-id my_other_app --secret-file -
  attache client update bank --private-key-file new-key.pem --certificate-file new-certificate.pem`,
		Args: exactly("NAME"),
	}
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, oauthClientNames(integration))
	var in client.OAuthClientUpdate
	cmd.Flags().StringVar(&in.ClientID, "client-id", "", "new client `ID`")
	secrets := newSecretFlags(cmd)
	completeWith(cmd, "client-id", cobra.NoFileCompletions)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if secrets.asks = in.ClientID == "" && *secrets == (secretFlags{}); secrets.asks {
			if err := a.hasClientSecret(cmd, *integration, args[0]); err != nil {
				return err
			}
		}
		if in.ClientSecret.Text, in.PrivateKey.Text, in.Certificate.Text, err = secrets.read(cmd.Context(), a); err != nil {
			return err
		}
		return a.withAPI(cmd, func(ctx context.Context, c *client.Client) error {
			changed, err := c.UpdateOAuthClient(ctx, *integration, args[0], in)
			if err != nil {
				return noOAuthClient(err, *integration, args[0])
			}
			a.hint("OAuth client %s is changed since %s.", changed.Name, changed.UpdatedAt.Local().Format(time.TimeOnly))
			return out.write(cmd, changed, oauthClientDetails(changed))
		})
	}
	return cmd
}

// hasClientSecret fails where an OAuth client has no client secret that somebody
// could be asked for.
func (a *app) hasClientSecret(cmd *cobra.Command, integration, name string) error {
	return a.withAPI(cmd, func(ctx context.Context, c *client.Client) error {
		found, err := c.OAuthClient(ctx, integration, name)
		flags := "--certificate-file or --client-id"
		switch {
		case err != nil:
			return noOAuthClient(err, integration, name)
		case found.ClientAuth == attache.ClientAuthPrivateKeyJWT:
			flags = "--private-key-file, " + flags
		case found.ClientAuth != attache.ClientAuthNone:
			return nil
		}
		return usagef("OAuth client %s has no client secret to ask for (%s): give what is new, %s", found.Name, found.ClientAuth, flags)
	})
}

// secretFlags name where an OAuth client's secrets are.
type secretFlags struct {
	secret, privateKey, certificate secretFile
	asks                            bool // for the client secret, where no file is named
}

func newSecretFlags(cmd *cobra.Command) *secretFlags {
	s, flags := new(secretFlags), cmd.Flags()
	flags.StringVar((*string)(&s.secret), "secret-file", "", "`FILE` that holds the client secret, or - for standard input; one line break at its end is not part of it")
	flags.StringVar((*string)(&s.privateKey), "private-key-file", "", "`FILE` with the key of --client-auth private_key_jwt: PKCS #8 in PEM; or - for standard input")
	flags.StringVar((*string)(&s.certificate), "certificate-file", "", "`FILE` with a certificate chain and its key in PEM, which the token endpoint wants to see; or - for standard input")
	return s
}

// read reads the secrets. Those that no flag is about stay empty.
func (s *secretFlags) read(ctx context.Context, a *app) (clientSecret, privateKey, certificate secret.Text, err error) {
	fromStdin := 0
	for _, from := range []secretFile{s.secret, s.privateKey, s.certificate} {
		if from == stdin {
			fromStdin++
		}
	}
	if fromStdin > 1 {
		err = usagef("only one of --secret-file, --private-key-file and --certificate-file can read standard input")
		return clientSecret, privateKey, certificate, err
	}
	for _, one := range []struct {
		to          *secret.Text
		from        secretFile
		asks        bool
		flag, label string
	}{
		{&privateKey, s.privateKey, false, "private-key-file", "private key"},
		{&certificate, s.certificate, false, "certificate-file", "certificate"},
		{&clientSecret, s.secret, s.asks, "secret-file", "client secret"},
	} {
		if one.from == "" && !one.asks {
			continue
		}
		if *one.to, err = a.neededSecret(ctx, one.flag, one.from, one.label); err != nil {
			break
		}
	}
	return clientSecret, privateKey, certificate, err
}

// registrationFlags are what an OAuth client is made of.
type registrationFlags struct {
	in        client.NewOAuthClient
	secrets   *secretFlags
	noPKCE    bool
	keepalive lifetime
}

func newRegistrationFlags(cmd *cobra.Command) *registrationFlags {
	r := &registrationFlags{secrets: newSecretFlags(cmd)}
	in, flags := &r.in.Registration, cmd.Flags()
	in.GrantType = attache.AuthorizationCode
	choiceFlag(cmd, &in.GrantType, flagName{long: "grant-type"}, "how tokens are got", attache.AuthorizationCode, attache.ClientCredentials)
	choiceFlag(cmd, &in.ClientAuth, flagName{long: "client-auth"}, "how the client proves itself (default basic)",
		attache.ClientAuthBasic, attache.ClientAuthPost, attache.ClientAuthNone, attache.ClientAuthPrivateKeyJWT)
	choiceFlag(cmd, &in.TokenBody, flagName{long: "token-body"}, "how token requests are written (default form)", "form", "json")
	flags.BoolVar(&r.noPKCE, "no-pkce", false, "the provider fails on PKCE (RFC 7636)")
	flags.Var(&r.keepalive, "keepalive", "`TIME` after which a grant that nobody uses is refreshed, such as 36h or 3d (default 7d)")
	for _, p := range []struct {
		value       *map[string]string
		name, usage string
	}{
		{&in.AuthParams, "auth-param", "`NAME=VALUE` to add to the authorization URL; can be repeated"},
		{&in.TokenParams, "token-param", "`NAME=VALUE` to add to token requests; can be repeated"},
		{&in.TokenHeaders, "token-header", "`NAME=VALUE` of a header to add to token requests; can be repeated"},
	} {
		flags.Var(parameters{p.value}, p.name, p.usage)
		completeWith(cmd, p.name, cobra.NoFileCompletions)
	}
	for _, t := range []struct {
		value       *string
		name, usage string
	}{
		{&in.ClientID, "client-id", "client `ID` that the provider has assigned"},
		{&in.Issuer, "issuer", "`URL` of the provider, which says the URLs that are not given (RFC 8414)"},
		{&in.AuthURL, "auth-url", "`URL` where people authorize"},
		{&in.TokenURL, "token-url", "`URL` that gives tokens"},
		{&in.RefreshURL, "refresh-url", "`URL` that refreshes tokens, where it is another"},
		{&in.RevocationURL, "revocation-url", "`URL` that is told when a connection is deleted (RFC 7009)"},
		{&in.DeviceURL, "device-url", "`URL` that gives device codes (RFC 8628)"},
		{&in.DefaultScopes, "default-scopes", "`SCOPES` of connections that name none, separated by spaces"},
		{&in.ScopeSeparator, "scope-separator", "`CHARACTER` that the provider wants between scopes (default a space)"},
		{&in.Audience, "audience", "`AUDIENCE` to ask tokens for"},
		{&in.Resource, "resource", "`URI` of the resource to ask tokens for (RFC 8707)"},
	} {
		flags.StringVar(t.value, t.name, "", t.usage)
		completeWith(cmd, t.name, cobra.NoFileCompletions)
	}
	return r
}

// read reads the secrets of a new OAuth client, and asks for the client secret
// where there has to be one.
func (r *registrationFlags) read(ctx context.Context, a *app) (in client.NewOAuthClient, err error) {
	in = r.in
	if r.noPKCE {
		in.PKCE = new(bool)
	}
	if r.keepalive != 0 {
		in.Keepalive = time.Duration(r.keepalive).String()
	}
	r.secrets.asks = in.ClientAuth != attache.ClientAuthNone && in.ClientAuth != attache.ClientAuthPrivateKeyJWT
	in.ClientSecret.Text, in.PrivateKey.Text, in.Certificate.Text, err = r.secrets.read(ctx, a)
	return in, err
}

// parameters are the value of a flag that gives a name and a value, and can be
// repeated.
type parameters struct{ of *map[string]string }

func (p parameters) String() string {
	if p.of == nil {
		return ""
	}
	return pairs(*p.of)
}

func (p parameters) Type() string { return parameterType }

const parameterType = "parameter"

func (p parameters) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if _, again := (*p.of)[name]; again {
		return errors.New("must not be given twice for one name")
	}
	if !ok || name == "" {
		return errors.New("must be NAME=VALUE")
	}
	if *p.of == nil {
		*p.of = map[string]string{}
	}
	(*p.of)[name] = value
	return nil
}
