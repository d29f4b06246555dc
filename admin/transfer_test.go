package admin_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"attache"
	"attache/client"
	"attache/secret"
)

// pair is a key of age, both halves.
type pair struct {
	public string
	file   secret.Outgoing
	secret age.Identity
	to     age.Recipient
}

func newPair(t testing.TB) pair {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	must(t, err)
	return pair{i.Recipient().String(), outgoing(i.String()), i, i.Recipient()}
}

// inside is the document in a file.
func (p pair) inside(t testing.TB, file string) string {
	t.Helper()
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(file)), p.secret)
	must(t, err)
	document, err := io.ReadAll(r)
	must(t, err)
	return string(document)
}

// around is a file with a document in it.
func (p pair) around(t testing.TB, document string, to ...age.Recipient) string {
	t.Helper()
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, append(to, p.to)[0])
	must(t, err)
	_, err = io.WriteString(w, document)
	must(t, errors.Join(err, w.Close(), armored.Close()))
	return out.String()
}

// startAuthorized is a server whose connection "tickets" is authorized.
func startAuthorized(t testing.TB) *oauthServer {
	t.Helper()
	s := startOAuth(t)
	c := s.client()
	begun := s.begin(c)
	_, err := c.FinishAuthorization(t.Context(), "bot", "tickets", begun.State, secret.New(s.provider.consent(begun.AuthorizationURL)))
	must(t, err)
	_, err = c.CreateIntegration(t.Context(), "other")
	must(t, err)
	return s
}

// TestAConnectionMovesBetweenIntegrations exports a connection and imports it into
// another integration, which has nothing of it before.
func TestAConnectionMovesBetweenIntegrations(t *testing.T) {
	s, key := startAuthorized(t), newPair(t)
	c := s.as(attache.RoleAdmin)
	before := s.shown()
	ask := client.Export{Mode: client.Move, Recipients: []string{key.public}}
	first, err := c.ExportConnection(t.Context(), "bot", "tickets", ask)
	must(t, err)
	if shown := s.shown(); shown.State != attache.GrantMoved || shown.ErrorCode != "move_unconfirmed" || shown.Advice == "" || !shown.TokenExpiry.IsZero() {
		t.Errorf("moved, it is shown as %+v", shown)
	}
	again, err := c.ExportConnection(t.Context(), "bot", "tickets", ask)
	must(t, err)
	if again.ExportID != first.ExportID || again.File == first.File || key.inside(t, again.File) != key.inside(t, first.File) {
		t.Error("it is not the same move that is repeated")
	}
	if _, err := c.ConfirmMove(t.Context(), "bot", "tickets", "another"); refusal(t, err).Code != "unknown_move" {
		t.Errorf("another is confirmed: %v", err)
	}
	confirmed, err := c.ConfirmMove(t.Context(), "bot", "tickets", first.ExportID)
	must(t, err)
	if confirmed.State != attache.GrantMoved || confirmed.ErrorCode != "grant_moved" {
		t.Errorf("confirmed, it is %+v", confirmed)
	}
	if _, err := c.ExportConnection(t.Context(), "bot", "tickets", ask); refusal(t, err).Code != "not_exportable" {
		t.Errorf("exported after that: %v", err)
	}

	in := client.Import{File: first.File, Identity: key.file}
	imported, err := c.ImportConnection(t.Context(), "other", in)
	must(t, err)
	if diff := cmp.Diff(before, imported, cmpopts.IgnoreFields(client.Connection{}, "CreatedAt", "UpdatedAt")); diff != "" {
		t.Error(diff)
	}
	if _, err := c.ImportConnection(t.Context(), "bot", in); refusal(t, err).Code != "imported_before" {
		t.Errorf("imported again: %v", err)
	}
	must(t, c.DeleteConnection(t.Context(), "bot", attache.OAuth, "tickets"))
	if revoked := s.provider.revocations(); len(revoked) != 0 {
		t.Errorf("what was moved is revoked: %v", revoked)
	}
	leaks(t, "the log", s.log.String())
}

// TestNothingOfAnExportIsForgotten sets every field that an OAuth client and a
// connection have, and finds them again where they are imported.
func TestNothingOfAnExportIsForgotten(t *testing.T) {
	s, key := startAuthorized(t), newPair(t)
	now := time.Now().UTC().Truncate(time.Second)
	o := attache.OAuthClient{
		Integration: "bot", Name: "full", GrantType: attache.AuthorizationCode, ClientID: "id", ClientSecret: secret.New("secret-7b1f"),
		AuthURL: "https://{subdomain}.example.com/a", TokenURL: "https://{subdomain}.example.com/t", DefaultScopes: "read write",
		Provider: attache.Provider{
			Issuer: "https://example.com", RefreshURL: "https://example.com/r", RevocationURL: "https://example.com/x", DeviceURL: "https://example.com/d",
			ClientAuth: attache.ClientAuthPost, NoPKCE: true, ScopeSeparator: ",", AuthParams: map[string]string{"prompt": "consent"},
			TokenParams: map[string]string{"realm": "x"}, TokenHeaders: map[string]string{"X-Tenant": "y"}, JSONBody: true,
			Audience: "api", Resource: "https://api.example.com/", Keepalive: 36 * time.Hour,
		},
		CreatedAt: now, UpdatedAt: now,
	}
	c := attache.Connection{
		Integration: "bot", Name: "all", Type: attache.OAuth, AllowedDomain: "*.example.com", AllowedPorts: []uint16{443, 8443}, StripCookies: true,
		OAuthClient: "full", Subdomain: "acme", Scope: "read", CreatedAt: now, UpdatedAt: now,
		Grant: &attache.Grant{
			State: attache.GrantActive, AccessToken: secret.New("access-7b1f"), RefreshToken: secret.New("refresh-7b1f"), TokenType: "Bearer", Scope: "read",
			IssuedAt: now, ExpiresAt: now.Add(time.Hour), Generation: 1, Rotation: attache.DoesNotRotate,
		},
	}
	complete(t, o, "PrivateKey", "Certificate") // for these the policy has rules of its own
	complete(t, c, "HeaderName", "Credential")
	complete(t, *c.Grant, "ErrorCode", "Failures", "RetryAt", "Intent", "Move")
	must(t, s.store.CreateOAuthClient(t.Context(), o))
	must(t, s.store.CreateConnection(t.Context(), c))
	e, err := s.client().ExportConnection(t.Context(), "bot", "all", client.Export{Mode: client.Copy, Recipients: []string{key.public}})
	must(t, err)
	_, err = s.client().ImportConnection(t.Context(), "other", client.Import{File: e.File, Identity: key.file})
	must(t, err)
	gotClient, err := s.store.OAuthClient(t.Context(), "other", "full")
	must(t, err)
	got, err := s.store.Connection(t.Context(), "other", "all")
	must(t, err)
	here := cmpopts.IgnoreFields(attache.OAuthClient{}, "Integration", "CreatedAt", "UpdatedAt")
	if diff := cmp.Diff(o, gotClient, here); diff != "" {
		t.Error(diff)
	}
	here = cmpopts.IgnoreFields(attache.Connection{}, "Integration", "CreatedAt", "UpdatedAt")
	if diff := cmp.Diff(c, got, here); diff != "" {
		t.Error(diff)
	}
}

// complete fails where a field of v, which is a struct, is not set, so that none is
// added without being exported.
func complete(t testing.TB, v any, but ...string) {
	t.Helper()
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		of := reflect.ValueOf(v).FieldByIndex(f.Index)
		if of.Kind() == reflect.Struct && of.Type() == reflect.TypeFor[attache.Provider]() {
			complete(t, of.Interface(), but...)
		}
		excused := false
		for _, name := range but {
			excused = excused || name == f.Name
		}
		if of.IsZero() && !excused {
			t.Errorf("%T.%s is not set: export it, and set it here", v, f.Name)
		}
	}
}

func TestATransferThatIsAskedForWrongly(t *testing.T) {
	s, key := startAuthorized(t), newPair(t)
	c := s.client()
	to := []string{key.public}
	for sentence, test := range map[string]struct {
		ask   client.Export
		field string
	}{
		"for nobody":                      {client.Export{Mode: client.Move}, "passphrase"},
		"for some and a passphrase":       {client.Export{Mode: client.Move, Recipients: to, Passphrase: outgoing(canary + canary)}, "passphrase"},
		"with a passphrase that is short": {client.Export{Mode: client.Move, Passphrase: outgoing("7b1f7b1f7b1")}, "passphrase"},
		"for who is nobody":               {client.Export{Mode: client.Move, Recipients: []string{canary}}, "recipients"},
		"for who gave a secret away":      {client.Export{Mode: client.Move, Recipients: []string{"AGE-SECRET-KEY-1" + canary}}, "recipients"},
		"as what is neither":              {client.Export{Mode: "lend", Recipients: to}, "mode"},
		"as a move by force":              {client.Export{Mode: client.Move, Force: true, Recipients: to}, "force"},
		"as a copy of who knows what":     {client.Export{Mode: client.Copy, Recipients: to}, "force"},
	} {
		_, err := c.ExportConnection(t.Context(), "bot", "tickets", test.ask)
		p := refusal(t, err)
		if p.Status != 422 || len(p.Errors) != 1 || p.Errors[0].Field != test.field {
			t.Errorf("%s: %+v", sentence, p)
		}
		leaks(t, sentence, err.Error())
	}
	if shown := s.shown(); shown.State != attache.GrantActive {
		t.Errorf("what was refused has made it %s", shown.State)
	}
	if _, err := c.ExportConnection(t.Context(), "bot", "no-such", client.Export{Mode: client.Move, Recipients: to}); !errors.Is(err, attache.ErrNotFound) {
		t.Errorf("what does not exist: %v", err)
	}

	quick, err := age.NewScryptRecipient("correct horse 7b1f")
	must(t, err)
	quick.SetWorkFactor(5)
	file := key.around(t, "{}")
	for sentence, test := range map[string]struct {
		ask   client.Import
		field string
	}{
		"with nothing to open it":       {client.Import{File: file}, "passphrase"},
		"with two things to open it":    {client.Import{File: file, Identity: key.file, Passphrase: outgoing("7b1f")}, "passphrase"},
		"with a key that is none":       {client.Import{File: file, Identity: outgoing(canary)}, "identity"},
		"with another key":              {client.Import{File: file, Identity: newPair(t).file}, "identity"},
		"with another passphrase":       {client.Import{File: key.around(t, "{}", quick), Passphrase: outgoing(canary)}, "passphrase"},
		"of half a file":                {client.Import{File: file[:len(file)/2], Identity: key.file}, "file"},
		"of no file":                    {client.Import{Identity: key.file}, "file"},
		"of a file with something else": {client.Import{File: key.around(t, canary), Identity: key.file}, "file"},
		"of a file with another object": {client.Import{File: file, Identity: key.file}, "file"},
	} {
		_, err := c.ImportConnection(t.Context(), "other", test.ask)
		p := refusal(t, err)
		if p.Status != 422 || len(p.Errors) != 1 || p.Errors[0].Field != test.field {
			t.Errorf("%s: %+v", sentence, p)
		}
		leaks(t, sentence, err.Error())
	}
	leaks(t, "the log", s.log.String())
}

// TestADocumentThatBreaksARuleIsRefused edits an export as only somebody could who
// can open it. Nothing is left behind by any of them.
func TestADocumentThatBreaksARuleIsRefused(t *testing.T) {
	s, key := startAuthorized(t), newPair(t)
	c := s.client()
	e, err := c.ExportConnection(t.Context(), "bot", "tickets", client.Export{Mode: client.Copy, Force: true, Recipients: []string{key.public}})
	must(t, err)
	for sentence, test := range map[string]struct {
		at    string // "section.field" or "field"
		value any    // nil: it is left out
		field string // that is named
	}{
		"a version to come":              {"version", 2, "version"},
		"another format":                 {"format", "7b1f", "file"},
		"another mode":                   {"mode", "7b1f", "mode"},
		"no ID":                          {"export_id", nil, "export_id"},
		"an ID with a line break":        {"export_id", "0123456789abcdef\n", "export_id"},
		"a time that is none":            {"exported_at", "7b1f", "exported_at"},
		"a field that nobody knows":      {"x-7", 1, "x-7"},
		"no OAuth client":                {"oauth_client", nil, "oauth_client"},
		"no grant":                       {"grant", nil, "grant"},
		"a connection that is a list":    {"connection", []int{1}, "connection"},
		"a field there that nobody has":  {"connection.oauth_client", "7b1f", "connection.oauth_client"},
		"a bad name":                     {"connection.name", "7b1f!", "connection.name"},
		"too wide a domain":              {"connection.allowed_domain", "*.com", "connection.allowed_domain"},
		"a port that is none":            {"connection.allowed_ports", []int{0}, "connection.allowed_ports"},
		"a token URL in the clear":       {"oauth_client.token_url", "http://example.com/7b1f", "oauth_client.token_url"},
		"no client secret":               {"oauth_client.client_secret", nil, "oauth_client.client_secret"},
		"a placeholder for one":          {"oauth_client.client_secret", secret.Redacted, "oauth_client.client_secret"},
		"a key that is none":             {"oauth_client.private_key", "7b1f", "oauth_client.private_key"},
		"a keepalive that is none":       {"oauth_client.keepalive", "7b1f", "oauth_client.keepalive"},
		"a grant where there is none":    {"oauth_client.grant_type", "client_credentials", "grant"},
		"no access token":                {"grant.access_token", nil, "grant.access_token"},
		"a token with a line break":      {"grant.refresh_token", "7b1f\r\nX: y", "grant.refresh_token"},
		"a number in place of a token":   {"grant.refresh_token", 7, "grant.refresh_token"},
		"an expiry before the beginning": {"grant.expires_at", "2001-01-01T00:00:00Z", "grant.expires_at"},
	} {
		document := map[string]any{}
		must(t, json.Unmarshal([]byte(key.inside(t, e.File)), &document))
		part, name, nested := strings.Cut(test.at, ".")
		of := document
		if nested {
			of = document[part].(map[string]any)
		} else {
			name = part
		}
		if of[name] = test.value; test.value == nil {
			delete(of, name)
		}
		edited, err := json.Marshal(document)
		must(t, err)
		_, err = c.ImportConnection(t.Context(), "other", client.Import{File: key.around(t, string(edited)), Identity: key.file})
		p := refusal(t, err)
		named := false
		for _, f := range p.Errors {
			named = named || f.Field == test.field
		}
		if p.Status != 422 || !named {
			t.Errorf("%s: %+v", sentence, p)
		}
		leaks(t, sentence, err.Error())
	}
	if all, err := c.OAuthClients(t.Context(), "other"); err != nil || len(all) != 0 {
		t.Errorf("what was refused has left %v, %v", all, err)
	}
	if _, err := c.ImportConnection(t.Context(), "other", client.Import{File: e.File, Identity: key.file}); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

func TestWithoutAKeeperNothingIsTransferred(t *testing.T) {
	s, key := start(t), newPair(t)
	c := s.client()
	_, err := c.CreateIntegration(t.Context(), "bot")
	must(t, err)
	for _, err := range []error{
		second(c.ExportConnection(t.Context(), "bot", "tickets", client.Export{Mode: client.Move, Recipients: []string{key.public}})),
		second(c.ConfirmMove(t.Context(), "bot", "tickets", "x")),
		second(c.ImportConnection(t.Context(), "bot", client.Import{File: key.around(t, "{}"), Identity: key.file})),
	} {
		if p := refusal(t, err); p.Status != 503 || p.Code != "oauth_unavailable" {
			t.Errorf("%+v", p)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// FuzzDocumentsAreImportedOrRefused: whatever is inside a file, it is imported whole
// or refused without a value of it, and the server stays up.
func FuzzDocumentsAreImportedOrRefused(f *testing.F) {
	s, key := startAuthorized(f), newPair(f)
	c := s.client()
	e, err := c.ExportConnection(f.Context(), "bot", "tickets", client.Export{Mode: client.Copy, Force: true, Recipients: []string{key.public}})
	must(f, err)
	document := key.inside(f, e.File)
	for _, seed := range []string{
		document, strings.Replace(document, `"copy"`, `"move"`, 1), strings.Replace(document, `"grant": {`, `"grant": null, "7b1f": {`, 1), "{}", "null", "",
		`{"format":"attache-connection-export","version":1}`, `{"format":"attache-connection-export","version":1,"oauth_client":{},"connection":{},"grant":{}}`,
		document[:len(document)/2], strings.ReplaceAll(document, "example.com", "\u202e.com"), strings.Replace(document, `{`, `{"version":1,`, 1),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, document string) {
		_, err := c.ImportConnection(t.Context(), "other", client.Import{File: key.around(t, document), Identity: key.file})
		all, _, storeErr := s.store.Connections(t.Context(), "other", "", 0)
		must(t, storeErr)
		if (err == nil) != (len(all) == 1) {
			t.Errorf("error %v, and %d connections", err, len(all))
		}
		for _, one := range all {
			_, err := s.store.DeleteConnection(t.Context(), "other", one.Name)
			must(t, err)
			must(t, s.store.DeleteOAuthClient(t.Context(), "other", one.OAuthClient))
		}
		if err == nil {
			return
		}
		if p := refusal(t, err); p.Status >= 500 || strings.Contains(err.Error(), "7b1f") && !strings.Contains(document, `7b1f"`) {
			t.Errorf("answered %d: %v", p.Status, err)
		}
	})
}
