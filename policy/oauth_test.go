package policy_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/policy"
	"attache/secret"
)

// oauthClient is a valid client of the integration "bot", changed by edits.
func oauthClient(edits ...func(*attache.OAuthClient)) *attache.OAuthClient {
	c := &attache.OAuthClient{
		Integration: "bot", Name: "client", GrantType: attache.AuthorizationCode,
		ClientID: "id", ClientSecret: secret.New(canary),
		AuthURL: "https://example.com/authorize", TokenURL: "https://example.com/token",
		DefaultScopes: "read write",
	}
	for _, edit := range edits {
		edit(c)
	}
	return c
}

func clientCredentials(c *attache.OAuthClient) {
	c.GrantType, c.AuthURL = attache.ClientCredentials, ""
}

func withSecret(s string) func(*attache.OAuthClient) {
	return func(c *attache.OAuthClient) { c.ClientSecret = secret.New(s) }
}

// proving makes a client prove itself in some way, with these and nothing else.
func proving(how attache.ClientAuth, secret, key, certificate secret.Text) func(*attache.OAuthClient) {
	return func(c *attache.OAuthClient) {
		c.ClientSecret, c.Provider.ClientAuth, c.Provider.PrivateKey, c.Provider.Certificate = secret, how, key, certificate
	}
}

// signer is a key in PKCS #8 and PEM.
func signer(t *testing.T, key crypto.Signer, err error) secret.Text {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	text, err := secret.FromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// certificate is a certificate of the key, without and with it.
func certificate(t *testing.T, key *ecdsa.PrivateKey) (alone, both secret.Text) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	alone = secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return alone, secret.Concat(alone, signer(t, key, nil))
}

// checkClients runs a table of edits of a valid client, and the errors that they
// must cause.
func checkClients(t *testing.T, table map[string]clientCase) {
	for sentence, tt := range table {
		t.Run(sentence, func(t *testing.T) {
			c := oauthClient(tt.edit)
			err := policy.CheckOAuthClient(c)
			if diff := cmp.Diff(tt.want, messages(t, err)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if err != nil {
				if strings.Contains(err.Error(), canary) {
					t.Errorf("the error repeats the value: %v", err)
				}
				return
			}
			if want := oauthClient(tt.edit).Provider.Issuer; c.Provider.Issuer != want {
				t.Errorf("the issuer %q became %q", want, c.Provider.Issuer)
			}
			again := *c
			if err := policy.CheckOAuthClient(&again); err != nil || !cmp.Equal(*c, again) {
				t.Errorf("checked twice: %v, %s", err, cmp.Diff(*c, again))
			}
		})
	}
}

type clientCase struct {
	edit func(*attache.OAuthClient)
	want []string
}

func TestOAuthClients(t *testing.T) {
	text := func(s string) secret.Text { return secret.New(s) }
	checkClients(t, map[string]clientCase{
		"a client of grant type authorization_code is accepted": {func(*attache.OAuthClient) {}, nil},
		"a client of grant type client_credentials is accepted": {clientCredentials, nil},
		"a name is checked": {func(c *attache.OAuthClient) { c.Name = "a b" }, []string{"name must be 3 to 64 characters of A-Z a-z 0-9 _ -"}},
		"another grant type is refused": {func(c *attache.OAuthClient) { c.GrantType = "password" },
			[]string{"grant_type must be authorization_code or client_credentials"}},
		"an empty client id is refused": {func(c *attache.OAuthClient) { c.ClientID = "" },
			[]string{"client_id is empty: give the one that the provider has assigned"}},
		"a client id that is a URL is accepted":   {func(c *attache.OAuthClient) { c.ClientID = "https://example.com/client.json" }, nil},
		"a client id of 1024 bytes is accepted":   {func(c *attache.OAuthClient) { c.ClientID = strings.Repeat("i", 1024) }, nil},
		"a longer client id is refused":           {func(c *attache.OAuthClient) { c.ClientID = strings.Repeat("i", 1025) }, []string{"client_id is longer than 1024 characters"}},
		"a client id with a line break":           {func(c *attache.OAuthClient) { c.ClientID = canary + "\n" }, []string{"client_id has a character other than printable ASCII, such as a line break"}},
		"a client id beyond ASCII is refused":     {func(c *attache.OAuthClient) { c.ClientID = "é" + canary }, []string{"client_id has a character other than printable ASCII, such as a line break"}},
		"a missing secret is refused":             {withSecret(""), []string{"client_secret is empty: give it, or say client_auth none for a public client"}},
		"a secret with a line break is refused":   {withSecret(canary + "\n"), []string{"client_secret has a character other than printable ASCII, such as a line break"}},
		"a secret with a space is accepted":       {withSecret(canary + " " + canary), nil},
		"a secret of more than 16 KiB is refused": {withSecret(strings.Repeat("s", 16<<10+1)), []string{"client_secret is longer than 16 KiB"}},
		"a public client has no secret":           {proving(attache.ClientAuthNone, text(""), text(""), text("")), nil},
		"a public client with one is refused": {proving(attache.ClientAuthNone, text(canary), text(""), text("")),
			[]string{"client_secret is not used with this client_auth: leave it out"}},
		"everything that is wrong is said at once": {func(c *attache.OAuthClient) { *c = attache.OAuthClient{} }, []string{
			"name must be 3 to 64 characters of A-Z a-z 0-9 _ -",
			"grant_type must be authorization_code or client_credentials",
			"client_id is empty: give the one that the provider has assigned",
			"client_secret is empty: give it, or say client_auth none for a public client",
			"token_url is empty: write it as the provider documents it, such as https://example.com/oauth/token",
		}},
	})
}

func TestHowOAuthClientsProveThemselves(t *testing.T) {
	none := secret.Text{}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ec := signer(t, key, err)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	weak := signer(t, short, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	large := signer(t, p384, err)
	alone, both := certificate(t, key)
	long := secret.New(strings.Repeat("k", 16<<10+1))
	const (
		badKey         = "private_key is not a private key in PKCS #8 and PEM: `openssl pkcs8 -topk8 -nocrypt` makes one of most other forms"
		badCertificate = "certificate is not a certificate chain and its private key in PEM: put one behind the other, the certificate first"
	)
	checkClients(t, map[string]clientCase{
		"a client may send its secret in the body": {proving(attache.ClientAuthPost, secret.New(canary), none, none), nil},
		"in the body or in the header, it needs one": {proving(attache.ClientAuthPost, none, none, none),
			[]string{"client_secret is empty: give it, or say client_auth none for a public client"}},
		"another way is refused":               {proving("digest", none, none, none), []string{"client_auth must be basic, post, none or private_key_jwt"}},
		"a key is accepted":                    {proving(attache.ClientAuthPrivateKeyJWT, none, ec, none), nil},
		"a missing key is refused":             {proving(attache.ClientAuthPrivateKeyJWT, none, none, none), []string{"private_key is empty: give a private key in PKCS #8 and PEM"}},
		"what is no key is refused":            {proving(attache.ClientAuthPrivateKeyJWT, none, secret.New(canary), none), []string{badKey}},
		"a certificate is no key":              {proving(attache.ClientAuthPrivateKeyJWT, none, alone, none), []string{badKey}},
		"a key of more than 16 KiB is refused": {proving(attache.ClientAuthPrivateKeyJWT, none, long, none), []string{"private_key is longer than 16 KiB"}},
		"an RSA key of 1024 bits is refused": {proving(attache.ClientAuthPrivateKeyJWT, none, weak, none),
			[]string{"private_key is neither RSA of at least 2048 bits, EC on P-256 nor Ed25519: make another key"}},
		"an EC key on another curve is refused": {proving(attache.ClientAuthPrivateKeyJWT, none, large, none),
			[]string{"private_key is neither RSA of at least 2048 bits, EC on P-256 nor Ed25519: make another key"}},
		"a key and a secret are one too many": {proving(attache.ClientAuthPrivateKeyJWT, secret.New(canary), ec, none),
			[]string{"client_secret is not used with this client_auth: leave it out"}},
		"a key is for private_key_jwt only": {proving(attache.ClientAuthBasic, secret.New(canary), ec, none),
			[]string{"private_key is only for client_auth private_key_jwt: leave it out"}},
		"a certificate may come with a secret":         {proving("", secret.New(canary), none, both), nil},
		"a certificate without its key is refused":     {proving("", secret.New(canary), none, alone), []string{badCertificate}},
		"what is no certificate is refused":            {proving("", secret.New(canary), none, secret.New(canary)), []string{badCertificate}},
		"a certificate of more than 16 KiB is refused": {proving("", secret.New(canary), none, long), []string{"certificate is longer than 16 KiB"}},
		"client_credentials may go without a secret by a certificate": {func(c *attache.OAuthClient) {
			clientCredentials(c)
			proving(attache.ClientAuthNone, none, none, both)(c)
		}, nil},
		"client_credentials without credentials is refused": {func(c *attache.OAuthClient) {
			clientCredentials(c)
			proving(attache.ClientAuthNone, none, none, none)(c)
		}, []string{"client_auth is none, and a client without credentials gets no token by client_credentials: use another client_auth, or give a certificate"}},
	})
}

func TestWhichURLsAnOAuthClientHas(t *testing.T) {
	const u = "https://example.com/" + canary
	checkClients(t, map[string]clientCase{
		"all URLs are accepted": {func(c *attache.OAuthClient) {
			p := &c.Provider
			c.AuthURL, c.TokenURL, p.RefreshURL, p.RevocationURL, p.DeviceURL, p.Issuer = u, u, u, u, u, u
		}, nil},
		"authorization_code needs an authorization URL": {func(c *attache.OAuthClient) { c.AuthURL = "" },
			[]string{"auth_url is empty: write it as the provider documents it, such as https://example.com/oauth/token"}},
		"authorization_code needs a token URL": {func(c *attache.OAuthClient) { c.TokenURL = "" },
			[]string{"token_url is empty: write it as the provider documents it, such as https://example.com/oauth/token"}},
		"client_credentials has nothing that is for people": {func(c *attache.OAuthClient) {
			clientCredentials(c)
			c.AuthURL, c.Provider.RefreshURL, c.Provider.DeviceURL = u, u, u
		}, []string{
			"auth_url is only for the grant type authorization_code: leave it out",
			"refresh_url is only for the grant type authorization_code: leave it out",
			"device_url is only for the grant type authorization_code: leave it out",
		}},
		"a URL may have a query": {func(c *attache.OAuthClient) { c.AuthURL = u + "?tenant=x&prompt=" }, nil},
		"a URL must not have what the protocol sets": {func(c *attache.OAuthClient) {
			c.AuthURL, c.TokenURL = u+"?State=x", u+"?grant%5ftype=x"
		}, []string{
			"auth_url has the parameter state, which the protocol sets itself or which has a field of its own: leave it out",
			"token_url has the parameter grant_type, which the protocol sets itself or which has a field of its own: leave it out",
		}},
		"an issuer must not have a query": {func(c *attache.OAuthClient) { c.Provider.Issuer = u + "?x=y" }, []string{"issuer has a query: leave it out"}},
		"an issuer may have a subdomain":  {func(c *attache.OAuthClient) { c.Provider.Issuer = "https://{subdomain}.example.com" }, nil},
		"an issuer stays as it is":        {func(c *attache.OAuthClient) { c.Provider.Issuer = "https://Example.com:443/" }, nil},
		"an issuer is checked as a URL":   {func(c *attache.OAuthClient) { c.Provider.Issuer = "example.com" }, []string{"issuer does not begin with https://: write it as the provider documents it, such as https://example.com/oauth/token"}},
		"each URL is checked": {func(c *attache.OAuthClient) {
			p := &c.Provider
			c.AuthURL, c.TokenURL, p.RefreshURL, p.RevocationURL, p.DeviceURL = "https://", "https://", "https://", "https://", "https://"
		}, []string{
			"auth_url has no host: write it as the provider documents it, such as https://example.com/oauth/token",
			"token_url has no host: write it as the provider documents it, such as https://example.com/oauth/token",
			"refresh_url has no host: write it as the provider documents it, such as https://example.com/oauth/token",
			"revocation_url has no host: write it as the provider documents it, such as https://example.com/oauth/token",
			"device_url has no host: write it as the provider documents it, such as https://example.com/oauth/token",
		}},
	})
}

func TestOAuthURLs(t *testing.T) {
	const (
		noScheme = "does not begin with https://"
		char     = "has a character that no URL has"
		braces   = "has braces other than {subdomain} as one whole label of its host"
		behind   = "has braces behind its host"
		suffix   = "has {subdomain} directly below a public suffix, where anybody can own a name"
		number   = "is a number that is not an IPv4 address in its usual form"
	)
	for sentence, tt := range map[string]struct {
		typed, want string // want is empty where the rule is broken
		rule        string
	}{
		"a URL is kept":                                  {"https://example.com/oauth/token", "https://example.com/oauth/token", ""},
		"a host alone is enough":                         {"https://example.com", "https://example.com", ""},
		"a port is kept":                                 {"https://example.com:8443/t", "https://example.com:8443/t", ""},
		"port 443 goes away":                             {"https://example.com:443/t", "https://example.com/t", ""},
		"the host is lowered, the path is not":           {"https://API.Example.com./Token?A=B", "https://api.example.com/Token?A=B", ""},
		"an address is kept":                             {"https://192.0.2.1/t", "https://192.0.2.1/t", ""},
		"an IPv6 address is kept":                        {"https://[2001:DB8::1]:8443/t", "https://[2001:db8::1]:8443/t", ""},
		"an escape in the path is kept":                  {"https://example.com/a%20b", "https://example.com/a%20b", ""},
		"http is refused":                                {"http://example.com/token", "", noScheme},
		"no scheme is refused":                           {"example.com/token", "", noScheme},
		"another scheme is refused":                      {"javascript:alert(1)", "", noScheme},
		"no host is refused":                             {"https:///token", "", "has no host"},
		"user information is refused":                    {"https://me:pw@example.com/", "", "has user information"},
		"an empty user is refused":                       {"https://@example.com/", "", "has user information"},
		"a fragment is refused":                          {"https://example.com/#x", "", "has a fragment"},
		"an empty fragment is refused":                   {"https://example.com/#", "", "has a fragment"},
		"a space is refused":                             {"https://example.com/a b", "", char},
		"a line break is refused":                        {"https://example.com/\n", "", char},
		"a backslash is refused":                         {`https://example.com\@evil.org/`, "", char},
		"a letter beyond ASCII is refused":               {"https://bücher.example/", "", char},
		"an A-label is kept":                             {"https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/", ""},
		"an escape in the host is refused":               {"https://example%2ecom/", "", "has a character that no host name has"},
		"half an escape is refused":                      {"https://example.com/%2", "", "has a path that cannot be read"},
		"a query that reads two ways is refused":         {"https://example.com/?a=b;c=d", "", "has a query that cannot be read"},
		"a port that is none is refused":                 {"https://example.com:x/", "", "has a port that is not a number from 1 to 65535"},
		"2048 characters are kept":                       {"https://example.com/" + strings.Repeat("x", 2028), "https://example.com/" + strings.Repeat("x", 2028), ""},
		"2049 characters are refused":                    {"https://example.com/" + strings.Repeat("x", 2029), "", "is longer than 2048 characters"},
		"a subdomain in front of a domain is kept":       {"https://{subdomain}.example.com/token", "https://{subdomain}.example.com/token", ""},
		"a subdomain in the middle is kept":              {"https://login.{subdomain}.example.com/token", "https://login.{subdomain}.example.com/token", ""},
		"a subdomain and a port are kept":                {"https://{subdomain}.EXAMPLE.com:8443", "https://{subdomain}.example.com:8443", ""},
		"a subdomain whose neighbours look like ours":    {"https://x.x.{subdomain}.x.example.com", "https://x.x.{subdomain}.x.example.com", ""},
		"a subdomain of a private suffix is kept":        {"https://{subdomain}.myshopify.com/t", "https://{subdomain}.myshopify.com/t", ""},
		"a subdomain of a rule's exception is kept":      {"https://{subdomain}.www.ck", "https://{subdomain}.www.ck", ""},
		"a subdomain of com is refused":                  {"https://{subdomain}.com/token", "", suffix},
		"a subdomain of com. is refused":                 {"https://{subdomain}.com./token", "", suffix},
		"a subdomain of COM.AU is refused":               {"https://{subdomain}.COM.AU/token", "", suffix},
		"a label in front makes no difference":           {"https://login.{subdomain}.co.uk", "", suffix},
		"a subdomain that may be a suffix is refused":    {"https://{subdomain}.kawasaki.jp", "", suffix},
		"a subdomain of an unlisted top level":           {"https://{subdomain}.internal", "", suffix},
		"a subdomain of a suffix in A-labels":            {"https://{subdomain}.xn--55qx5d.cn", "", suffix},
		"a subdomain of nothing but a dot is refused":    {"https://{subdomain}./token", "", suffix},
		"a subdomain as the whole host is refused":       {"https://{subdomain}/token", "", braces},
		"a subdomain with a port behind it is refused":   {"https://{subdomain}:443/token", "", braces},
		"a subdomain as the port is refused":             {"https://example.com:{subdomain}/token", "", braces},
		"a subdomain as the last label is refused":       {"https://example.{subdomain}/token", "", braces},
		"a subdomain as part of a label is refused":      {"https://api-{subdomain}.example.com", "", braces},
		"a subdomain with something behind is refused":   {"https://{subdomain}-api.example.com", "", braces},
		"a subdomain twice is refused":                   {"https://{subdomain}.{subdomain}.example.com", "", braces},
		"another word in braces is refused":              {"https://{tenant}.example.com", "", braces},
		"another case is refused":                        {"https://{Subdomain}.example.com", "", braces},
		"a subdomain in the path is refused":             {"https://example.com/{subdomain}/token", "", behind},
		"a subdomain in the query is refused":            {"https://{subdomain}.example.com/?x={subdomain}", "", behind},
		"a subdomain as a user is refused":               {"https://{subdomain}@example.com/", "", "has user information"},
		"a subdomain in front of an address is refused":  {"https://{subdomain}.192.0.2.1/", "", number},
		"a subdomain in front of a number is refused":    {"https://{subdomain}.0x7f", "", number},
		"a subdomain in front of a bracket is refused":   {"https://{subdomain}.[::1]/", "", "has a character that no host name has"},
		"an empty label beside the subdomain is refused": {"https://.{subdomain}.example.com/", "", "has an empty label"},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := oauthClient(func(c *attache.OAuthClient) { c.TokenURL = tt.typed })
			err := policy.CheckOAuthClient(c)
			if err != nil {
				err = err.(interface{ Unwrap() []error }).Unwrap()[0]
			}
			if rule := broken(t, err, "token_url", tt.typed); rule != tt.rule {
				t.Errorf("broken rule %q, want %q", rule, tt.rule)
			}
			if err == nil && c.TokenURL != tt.want {
				t.Errorf("got %q, want %q", c.TokenURL, tt.want)
			}
		})
	}
}

func TestWhatAnOAuthClientSends(t *testing.T) {
	scopes := func(s string) func(*attache.OAuthClient) {
		return func(c *attache.OAuthClient) { c.DefaultScopes = s }
	}
	param := func(name, value string) func(*attache.OAuthClient) {
		return func(c *attache.OAuthClient) { c.Provider.AuthParams = map[string]string{name: value} }
	}
	header := func(name, value string) func(*attache.OAuthClient) {
		return func(c *attache.OAuthClient) { c.Provider.TokenHeaders = map[string]string{name: value} }
	}
	many := map[string]string{}
	for i := range 33 {
		many[fmt.Sprint("x", i)] = ""
	}
	const (
		noScope   = "default_scopes has a character that no scope has: give the scopes that the provider documents, separated by spaces"
		badName   = "auth_params has a parameter whose name is not 1 to 128 characters of letters, digits and - . _ [ ] :"
		badValue  = "auth_params has a value with a control character, such as a line break, or that is not UTF-8"
		noHeader  = "token_headers has a header whose name is none, or longer than 128 characters"
		noCarrier = "token_headers has a value that no header can carry: with white space at an end, or a control character"
		shown     = "token_headers has a header that carries credentials, and what is in these headers is shown: use client_auth, or certificate"
	)
	checkClients(t, map[string]clientCase{
		"no scope is accepted":                 {scopes(""), nil},
		"a scope that is a URL is accepted":    {scopes("https://example.com/auth/mail.read a:b,c"), nil},
		"255 characters of scope are accepted": {scopes(strings.Repeat("s", 255)), nil},
		"more are refused":                     {scopes(strings.Repeat("s", 256)), []string{"default_scopes is longer than 255 characters: ask for fewer scopes"}},
		"a scope with a quote is refused":      {scopes(`"` + canary), []string{noScope}},
		"a scope with a backslash is refused":  {scopes(`\` + canary), []string{noScope}},
		"a scope with a line break is refused": {scopes("a\n" + canary), []string{noScope}},
		"a scope beyond ASCII is refused":      {scopes("é" + canary), []string{noScope}},

		"a comma parts scopes":         {func(c *attache.OAuthClient) { c.Provider.ScopeSeparator = "," }, nil},
		"a letter does not":            {func(c *attache.OAuthClient) { c.Provider.ScopeSeparator = "x" }, []string{"scope_separator must be a space or one of , + ; |"}},
		"two characters do not either": {func(c *attache.OAuthClient) { c.Provider.ScopeSeparator = ", " }, []string{"scope_separator must be a space or one of , + ; |"}},

		"a parameter is accepted":                         {param("access_type", "offline"), nil},
		"a parameter without a value is accepted":         {param("prompt", ""), nil},
		"a parameter with brackets is accepted":           {param("a[b]", "ü"), nil},
		"a parameter without a name is refused":           {param("", "x"), []string{badName}},
		"a parameter whose name has a space is refused":   {param("a b", "x"), []string{badName}},
		"a parameter whose name is long is refused":       {param(strings.Repeat("x", 129), "x"), []string{badName}},
		"a parameter with a line break is refused":        {param("x", canary+"\r\n"), []string{badValue}},
		"a parameter that is not UTF-8 is refused":        {param("x", canary+"\xff"), []string{badValue}},
		"a parameter of more than 1024 bytes is refused":  {param("x", strings.Repeat("v", 1025)), []string{"auth_params has a value longer than 1024 bytes"}},
		"33 parameters are refused":                       {func(c *attache.OAuthClient) { c.Provider.TokenParams = many }, []string{"token_params has more than 32 parameters"}},
		"a parameter of the protocol is refused":          {param("code_challenge", canary), []string{"auth_params has the parameter code_challenge, which the protocol sets itself or which has a field of its own: leave it out"}},
		"a parameter of the protocol in another spelling": {param("Redirect_URI", canary), []string{"auth_params has the parameter redirect_uri, which the protocol sets itself or which has a field of its own: leave it out"}},

		"a header is accepted":                           {header("Notion-Version", "2022-06-28"), nil},
		"the kind of answer may be asked for":            {header("Accept", "application/json"), nil},
		"a header without a name is refused":             {header("", "x"), []string{noHeader}},
		"a header with a space in its name is refused":   {header("X Y", "x"), []string{noHeader}},
		"a header with a long name is refused":           {header(strings.Repeat("x", 129), "x"), []string{noHeader}},
		"a header with a line break is refused":          {header("X-Y", canary+"\r\nHost: x"), []string{noCarrier}},
		"a header with a space at its end is refused":    {header("X-Y", canary+" "), []string{noCarrier}},
		"a header of more than 1024 bytes is refused":    {header("X-Y", strings.Repeat("v", 1025)), []string{"token_headers has a value longer than 1024 bytes"}},
		"a hop-by-hop header is refused":                 {header("TE", "trailers"), []string{"token_headers has the header te, which frames the message or belongs to one connection: leave it out"}},
		"a header that frames is refused":                {header("Content-Type", "text/plain"), []string{"token_headers has the header content-type, which frames the message or belongs to one connection: leave it out"}},
		"the host is not for a header":                   {header("Host", canary), []string{"token_headers has the header host, which frames the message or belongs to one connection: leave it out"}},
		"a credential is not for a header":               {header("AUTHORIZATION", canary), []string{shown}},
		"a credential in another spelling is not either": {header("x_api_key", canary), []string{shown}},
		"a cookie is a credential":                       {header("Cookie", canary), []string{shown}},
		"33 headers are refused":                         {func(c *attache.OAuthClient) { c.Provider.TokenHeaders = many }, []string{"token_headers has more than 32 headers"}},
		"one header twice is refused": {func(c *attache.OAuthClient) { c.Provider.TokenHeaders = map[string]string{"X-Y": "1", "x-y": "2"} },
			[]string{"token_headers has one header twice, spelled differently"}},

		"an audience is accepted":            {func(c *attache.OAuthClient) { c.Provider.Audience = "api.example.com" }, nil},
		"an audience is checked":             {func(c *attache.OAuthClient) { c.Provider.Audience = canary + "\n" }, []string{"audience has a value with a control character, such as a line break, or that is not UTF-8"}},
		"a resource is accepted":             {func(c *attache.OAuthClient) { c.Provider.Resource = "urn:example:api" }, nil},
		"a relative resource is refused":     {func(c *attache.OAuthClient) { c.Provider.Resource = "/api" }, []string{"resource is not an absolute URI without a fragment: write it as the provider documents it"}},
		"a resource's fragment is refused":   {func(c *attache.OAuthClient) { c.Provider.Resource = "https://example.com#x" }, []string{"resource is not an absolute URI without a fragment: write it as the provider documents it"}},
		"an hour of keepalive is accepted":   {func(c *attache.OAuthClient) { c.Provider.Keepalive = time.Hour }, nil},
		"less is refused":                    {func(c *attache.OAuthClient) { c.Provider.Keepalive = time.Hour - 1 }, []string{"keepalive must be from 1 hour to 365 days: leave it out for 7 days"}},
		"more than a year of it is refused":  {func(c *attache.OAuthClient) { c.Provider.Keepalive = 366 * 24 * time.Hour }, []string{"keepalive must be from 1 hour to 365 days: leave it out for 7 days"}},
		"less than nothing of it is refused": {func(c *attache.OAuthClient) { c.Provider.Keepalive = -1 }, []string{"keepalive must be from 1 hour to 365 days: leave it out for 7 days"}},
	})
}

func TestOAuthConnections(t *testing.T) {
	set := func(client, subdomain, scope string) func(*attache.Connection) {
		return func(c *attache.Connection) { c.OAuthClient, c.Subdomain, c.Scope = client, subdomain, scope }
	}
	const notALabel = "oauth_url_subdomain is not one label of a host name: give letters, digits and hyphens between them, at most 63, such as acme for acme.example.com"
	for sentence, tt := range map[string]struct {
		edit             func(*attache.Connection)
		subdomain, scope string // in canonical form
		want             []string
	}{
		"a client is enough":               {allEdits(oauth, set("client", "", "")), "", "", nil},
		"a client is needed":               {allEdits(oauth, set("", "", "")), "", "", []string{"oauth_client must be 3 to 64 characters of A-Z a-z 0-9 _ -"}},
		"a subdomain is lowered":           {allEdits(oauth, set("client", "Acme-1", "")), "acme-1", "", nil},
		"scopes are parted by one space":   {allEdits(oauth, set("client", "", "  a  b ")), "", "a b", nil},
		"255 characters of scope are kept": {allEdits(oauth, set("client", "", strings.Repeat("s", 255))), "", strings.Repeat("s", 255), nil},
		"more are refused":                 {allEdits(oauth, set("client", "", strings.Repeat("s", 256))), "", "", []string{"permission_scope is longer than 255 characters: ask for fewer scopes"}},
		"a scope with a quote is refused":  {allEdits(oauth, set("client", "", `"`)), "", "", []string{"permission_scope has a character that no scope has: give the scopes that the provider documents, separated by spaces"}},
		"two labels are refused":           {allEdits(oauth, set("client", "evil.org", "")), "", "", []string{notALabel}},
		"a label and a slash are refused":  {allEdits(oauth, set("client", "evil.org/", "")), "", "", []string{notALabel}},
		"a label and an @ are refused":     {allEdits(oauth, set("client", "me@evil", "")), "", "", []string{notALabel}},
		"a hyphen at its end is refused":   {allEdits(oauth, set("client", "acme-", "")), "", "", []string{notALabel}},
		"a hyphen in front is refused":     {allEdits(oauth, set("client", "-acme", "")), "", "", []string{notALabel}},
		"an underscore is refused":         {allEdits(oauth, set("client", "ac_me", "")), "", "", []string{notALabel}},
		"a label beyond ASCII is refused":  {allEdits(oauth, set("client", "ａcme", "")), "", "", []string{notALabel}},
		"the Kelvin sign is not a k":       {allEdits(oauth, set("client", "\u212Aey", "")), "", "", []string{notALabel}},
		"63 characters are a label":        {allEdits(oauth, set("client", strings.Repeat("a", 63), "")), strings.Repeat("a", 63), "", nil},
		"64 characters are none":           {allEdits(oauth, set("client", strings.Repeat("a", 64), "")), "", "", []string{notALabel}},
		"another type has none of all this": {allEdits(bearer("t"), set("client", "acme", "read")), "", "", []string{
			"oauth_client is only for connections of type oauth: leave it out",
			"oauth_url_subdomain is only for connections of type oauth: leave it out",
			"permission_scope is only for connections of type oauth: leave it out",
		}},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := connection("api", "api.example.com", tt.edit)
			err := policy.CheckConnection(c)
			if diff := cmp.Diff(tt.want, messages(t, err)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if err == nil && (c.Subdomain != tt.subdomain || c.Scope != tt.scope) {
				t.Errorf("subdomain %q, scope %q", c.Subdomain, c.Scope)
			}
		})
	}
}

func TestASubdomainIsNeededWhereAURLHasOne(t *testing.T) {
	const u = "https://{subdomain}.example.com/"
	for field, edit := range map[string]func(*attache.OAuthClient){
		"auth_url":       func(c *attache.OAuthClient) { c.AuthURL = u },
		"token_url":      func(c *attache.OAuthClient) { c.TokenURL = u },
		"issuer":         func(c *attache.OAuthClient) { c.Provider.Issuer = u },
		"refresh_url":    func(c *attache.OAuthClient) { c.Provider.RefreshURL = u },
		"revocation_url": func(c *attache.OAuthClient) { c.Provider.RevocationURL = u },
		"device_url":     func(c *attache.OAuthClient) { c.Provider.DeviceURL = u },
	} {
		c := connection("api", "api.example.com", oauth)
		err := policy.CheckSubdomain(c, oauthClient(edit))
		if rule := broken(t, err, "oauth_url_subdomain", ""); rule != "is empty, but the URLs of the OAuth client have {subdomain}" {
			t.Errorf("%s: %v", field, err)
		}
		c.Subdomain = "acme"
		if err := policy.CheckSubdomain(c, oauthClient(edit)); err != nil {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := policy.CheckSubdomain(connection("api", "api.example.com", oauth), oauthClient()); err != nil {
		t.Errorf("no URL has one: %v", err)
	}
}
