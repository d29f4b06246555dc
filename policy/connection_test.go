package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/policy"
	"attache/secret"
)

// A value that no error may contain.
const canary = "canary-7f3a"

// connection is a valid connection of the integration "bot", changed by edits.
func connection(name, domain string, edits ...func(*attache.Connection)) *attache.Connection {
	c := &attache.Connection{
		Integration: "bot", Name: name, Type: attache.APIKey, HeaderName: "X-Api-Key",
		AllowedDomain: attache.AllowedDomain(domain), AllowedPorts: []uint16{443},
		Credential: attache.Credential{APIKey: secret.New(canary)},
	}
	for _, edit := range edits {
		edit(c)
	}
	return c
}

func apiKey(key string) func(*attache.Connection) {
	return func(c *attache.Connection) { c.Credential = attache.Credential{APIKey: secret.New(key)} }
}

func basicAuth(username, password string) func(*attache.Connection) {
	return func(c *attache.Connection) {
		c.Type, c.HeaderName = attache.BasicAuth, ""
		c.Credential = attache.Credential{Username: secret.New(username), Password: secret.New(password)}
	}
}

func bearer(token string) func(*attache.Connection) {
	return func(c *attache.Connection) {
		c.Type, c.HeaderName, c.Credential = attache.BearerToken, "", attache.Credential{Token: secret.New(token)}
	}
}

func oauth(c *attache.Connection) {
	c.Type, c.HeaderName, c.Credential, c.OAuthClient = attache.OAuth, "", attache.Credential{}, "client"
}

func onPorts(ports ...uint16) func(*attache.Connection) {
	return func(c *attache.Connection) { c.AllowedPorts = ports }
}

func named(name string) func(*attache.Connection) {
	return func(c *attache.Connection) { c.Name = name }
}

func allEdits(edits ...func(*attache.Connection)) func(*attache.Connection) {
	return func(c *attache.Connection) {
		for _, edit := range edits {
			edit(c)
		}
	}
}

func TestConnections(t *testing.T) {
	seventeen := make([]uint16, 17)
	for i := range seventeen {
		seventeen[i] = uint16(8000 + i)
	}
	long := strings.Repeat("k", 16<<10)
	for sentence, c := range map[string]struct {
		edit func(*attache.Connection)
		want []string // errors, in the order of the fields
	}{
		"an api_key connection is accepted": {apiKey("k"), nil},
		"a name is checked":                 {named("a b"), []string{"name must be 3 to 64 characters of A-Z a-z 0-9 _ -"}},
		"a domain is checked": {func(c *attache.Connection) { c.AllowedDomain = "*.com" },
			[]string{"allowed_domain is a wildcard over a public suffix, below which anybody can own a name: name a domain below it, such as *.example.com"}},
		"a header name is checked": {func(c *attache.Connection) { c.HeaderName = "Host" },
			[]string{"header_name is a standard header that never carries an API key: use the header that the API documents for its key, such as X-Api-Key"}},
		"an api_key connection needs a header name": {func(c *attache.Connection) { c.HeaderName = "" },
			[]string{"header_name must be 1 to 128 characters of letters, digits and # + - _ |: use the header that the API documents for its key, such as X-Api-Key"}},
		"another type has no header name": {allEdits(bearer("t"), func(c *attache.Connection) { c.HeaderName = "X-Key" }),
			[]string{"header_name is only for connections of type api_key: leave it out"}},
		"an unknown type is refused": {func(c *attache.Connection) { c.Type, c.HeaderName = "ntlm", "" },
			[]string{"type must be api_key, basic_auth, bearer_token or oauth"}},
		"port 0 is refused":          {onPorts(443, 0), []string{"allowed_ports has a port that is not a number from 1 to 65535"}},
		"17 ports are too many":      {onPorts(seventeen...), []string{"allowed_ports has more than 16 ports: make another connection for the others"}},
		"16 ports are allowed":       {onPorts(seventeen[:16]...), nil},
		"the same port often is one": {onPorts(slices.Repeat([]uint16{443}, 17)...), nil},

		"the name zendesk is reserved": {named("zendesk"),
			[]string{"name is reserved for an oauth connection to zendesk.com or below it: choose another name"}},
		"the name zendesk is for oauth to zendesk.com only": {allEdits(oauth, named("zendesk")),
			[]string{"name is reserved for an oauth connection to zendesk.com or below it: choose another name"}},
		"the name zendesk is for oauth to zendesk.com":  {allEdits(oauth, named("zendesk"), to("zendesk.com")), nil},
		"the name zendesk is for oauth below":           {allEdits(oauth, named("zendesk"), to("acme.zendesk.com")), nil},
		"the name zendesk is for oauth to its wildcard": {allEdits(oauth, named("zendesk"), to("*.zendesk.com")), nil},
		"the name zendesk is not for a look-alike": {allEdits(oauth, named("zendesk"), to("notzendesk.com")),
			[]string{"name is reserved for an oauth connection to zendesk.com or below it: choose another name"}},
		"the name zendesk is not for zendesk.com with a key": {allEdits(named("zendesk"), to("zendesk.com")),
			[]string{"name is reserved for an oauth connection to zendesk.com or below it: choose another name"}},

		"an empty key is refused":                     {apiKey(""), []string{"api_key is empty"}},
		"a key with a space inside is accepted":       {apiKey("Token " + canary), nil},
		"a key beyond ASCII is accepted":              {apiKey("clé-" + canary), nil},
		"a key with a space in front is refused":      {apiKey(" " + canary), []string{"api_key has white space at its beginning or end, which no header can carry"}},
		"a key with a tab behind is refused":          {apiKey(canary + "\t"), []string{"api_key has white space at its beginning or end, which no header can carry"}},
		"a key with a line break is refused":          {apiKey(canary + "\nHost: x"), []string{"api_key has a control character, such as a line break, which no header can carry"}},
		"a key with a NUL is refused":                 {apiKey(canary + "\x00"), []string{"api_key has a control character, such as a line break, which no header can carry"}},
		"a key of 16 KiB is accepted":                 {apiKey(long), nil},
		"a key of more is refused":                    {apiKey(long + "k"), []string{"api_key is longer than 16 KiB"}},
		"a key does not come with a token":            {func(c *attache.Connection) { c.Credential.Token = secret.New(canary) }, []string{"token is not stored by connections of type api_key: leave it out"}},
		"user name and password are accepted":         {basicAuth("me@example.com/token", canary), nil},
		"a user name alone is accepted":               {basicAuth(canary, ""), nil},
		"a password alone is accepted":                {basicAuth("", canary), nil},
		"a password with a colon is accepted":         {basicAuth("me", ":"+canary+":"), nil},
		"a password beyond ASCII is accepted":         {basicAuth("mé", "pässword"), nil},
		"neither user name nor password is refused":   {basicAuth("", ""), []string{"username is empty, and so is password: give one of them or both"}},
		"a user name with a colon is refused":         {basicAuth("me:"+canary, ""), []string{"username has a colon, which ends the user name in basic authentication"}},
		"a user name with a control is refused":       {basicAuth(canary+"\x7f", ""), []string{"username has a control character, such as a line break"}},
		"a password with a line break is refused":     {basicAuth("me", canary+"\n"), []string{"password has a control character, such as a line break"}},
		"a password that is not UTF-8 is refused":     {basicAuth("me", canary+"\xff"), []string{"password is not UTF-8"}},
		"a token is accepted":                         {bearer("eyJ.a-b_c~+/=" + canary), nil},
		"an empty token is refused":                   {bearer(""), []string{"token is empty"}},
		"a token with the word Bearer is refused":     {bearer("Bearer " + canary), []string{"token has a character other than visible ASCII: give the token alone, without the word Bearer"}},
		"a token with a line break is refused":        {bearer(canary + "\n"), []string{"token has a character other than visible ASCII: give the token alone, without the word Bearer"}},
		"a token beyond ASCII is refused":             {bearer("é" + canary), []string{"token has a character other than visible ASCII: give the token alone, without the word Bearer"}},
		"an oauth connection stores nothing at first": {oauth, nil},
		"an oauth connection cannot be made from a token": {allEdits(oauth, func(c *attache.Connection) { c.Credential.Token = secret.New(canary) }),
			[]string{"token is not stored by connections of type oauth: leave it out"}},
		"everything that is wrong is said at once": {allEdits(bearer(canary+" "), named("x"), to("localhost"), onPorts(0)), []string{
			"name must be 3 to 64 characters of A-Z a-z 0-9 _ -",
			"allowed_domain has only one label: write a full name, with a dot, such as api.example.com",
			"allowed_ports has a port that is not a number from 1 to 65535",
			"token has a character other than visible ASCII: give the token alone, without the word Bearer",
		}},
	} {
		t.Run(sentence, func(t *testing.T) {
			conn := connection("api", "api.example.com", c.edit)
			err := policy.CheckConnection(conn)
			if diff := cmp.Diff(c.want, messages(t, err)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("the error shows the credential: %v", err)
			}
			if err == nil && policy.CheckCredential(conn) != nil {
				t.Error("CheckCredential refuses what CheckConnection accepts")
			}
		})
	}
}

func to(domain attache.AllowedDomain) func(*attache.Connection) {
	return func(c *attache.Connection) { c.AllowedDomain = domain }
}

// messages are the texts of the field errors that err joins.
func messages(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("the error is a %T, want joined errors", err)
	}
	var texts []string
	for _, e := range joined.Unwrap() {
		if _, ok := errors.AsType[*attache.FieldError](e); !ok {
			t.Errorf("one error is a %T, want a *attache.FieldError", e)
		}
		texts = append(texts, e.Error())
	}
	return texts
}

func TestAConnectionIsBroughtToCanonicalForm(t *testing.T) {
	typed := []uint16{8443, 443, 8443}
	c := connection("api", "*.Bücher.Example.", onPorts(typed...))
	if err := policy.CheckConnection(c); err != nil {
		t.Fatal(err)
	}
	if c.AllowedDomain != "*.xn--bcher-kva.example" {
		t.Errorf("the domain is %q", c.AllowedDomain)
	}
	if diff := cmp.Diff([]uint16{443, 8443}, c.AllowedPorts); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	if typed[0] != 8443 {
		t.Error("the caller's slice was sorted")
	}
	c = connection("api", "api.example.com", onPorts())
	if err := policy.CheckConnection(c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint16{443}, c.AllowedPorts); diff != "" {
		t.Errorf("ports without any (-want +got):\n%s", diff)
	}
}
