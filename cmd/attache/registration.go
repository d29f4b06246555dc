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
and secret can be changed later (attache client update), and nothing else.`,
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
		Short: "Change the client id or the client secret of an OAuth client",
		Long: `Change the client id, the client secret, or both. Without a flag the secret is asked for on a
terminal, without showing it. Connections keep their grants, and those that the provider
refused because of the old ones are tried again.`,
		Example: `  attache client update helpdesk --secret-file new-secret.txt
  attache client update helpdesk --client-id my_other_app --secret-file -`,
		Args: exactly("NAME"),
	}
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, oauthClientNames(integration))
	var in client.OAuthClientUpdate
	var secretFrom secretFile
	cmd.Flags().StringVar(&in.ClientID, "client-id", "", "new client `ID`")
	clientSecretFlag(cmd, &secretFrom)
	completeWith(cmd, "client-id", cobra.NoFileCompletions)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if secretFrom != "" || in.ClientID == "" {
			if in.ClientSecret.Text, err = a.readSecret(cmd.Context(), "secret-file", secretFrom, "client secret"); err != nil {
				return err
			}
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

func clientSecretFlag(cmd *cobra.Command, from *secretFile) {
	cmd.Flags().StringVar((*string)(from), "secret-file", "", "`FILE` that holds the client secret, or - for standard input; one line break at its end is not part of it")
}

// registrationFlags are what an OAuth client is made of.
type registrationFlags struct {
	in          client.NewOAuthClient
	secret      secretFile
	privateKey  secretFile
	certificate secretFile
	noPKCE      bool
	keepalive   lifetime
}

func newRegistrationFlags(cmd *cobra.Command) *registrationFlags {
	r := new(registrationFlags)
	in, flags := &r.in.Registration, cmd.Flags()
	in.GrantType = attache.AuthorizationCode
	choiceFlag(cmd, &in.GrantType, flagName{long: "grant-type"}, "how tokens are got", attache.AuthorizationCode, attache.ClientCredentials)
	choiceFlag(cmd, &in.ClientAuth, flagName{long: "client-auth"}, "how the client proves itself (default basic)",
		attache.ClientAuthBasic, attache.ClientAuthPost, attache.ClientAuthNone, attache.ClientAuthPrivateKeyJWT)
	choiceFlag(cmd, &in.TokenBody, flagName{long: "token-body"}, "how token requests are written (default form)", "form", "json")
	clientSecretFlag(cmd, &r.secret)
	flags.StringVar((*string)(&r.privateKey), "private-key-file", "", "`FILE` with the key of --client-auth private_key_jwt: PKCS #8 in PEM; or - for standard input")
	flags.StringVar((*string)(&r.certificate), "certificate-file", "", "`FILE` with a certificate chain and its key in PEM, which the token endpoint wants to see; or - for standard input")
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
	fromStdin := 0
	for _, from := range []secretFile{r.secret, r.privateKey, r.certificate} {
		if from == stdin {
			fromStdin++
		}
	}
	if fromStdin > 1 {
		return in, usagef("only one of --secret-file, --private-key-file and --certificate-file can read standard input")
	}
	in = r.in
	if r.noPKCE {
		in.PKCE = new(bool)
	}
	if r.keepalive != 0 {
		in.Keepalive = time.Duration(r.keepalive).String()
	}
	if r.privateKey != "" {
		if in.PrivateKey.Text, err = a.readSecret(ctx, "private-key-file", r.privateKey, "private key"); err != nil {
			return in, err
		}
	}
	if r.certificate != "" {
		if in.Certificate.Text, err = a.readSecret(ctx, "certificate-file", r.certificate, "certificate"); err != nil {
			return in, err
		}
	}
	if r.secret != "" || in.ClientAuth != attache.ClientAuthNone && in.ClientAuth != attache.ClientAuthPrivateKeyJWT {
		in.ClientSecret.Text, err = a.readSecret(ctx, "secret-file", r.secret, "client secret")
	}
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
