package main_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// disguise is a way to write a secret down.
type disguise struct {
	name string
	text string
}

// disguises are a secret as it is and as other formats have it: inside JSON,
// URLs and Go strings, in hexadecimal, and at any place inside of something that
// is in base64.
func disguises(secret string) []disguise {
	all := []disguise{
		{"itself", secret},
		{"a part of a query", url.QueryEscape(secret)},
		{"a part of a path", url.PathEscape(secret)},
		{"a path", (&url.URL{Path: secret}).EscapedPath()},
		{"a Go string", strings.Trim(strconv.Quote(secret), `"`)},
		{"a Go string in ASCII", strings.Trim(strconv.QuoteToASCII(secret), `"`)},
		{"hexadecimal", hex.EncodeToString([]byte(secret))},
	}
	for _, escape := range []bool{true, false} {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(escape)
		_ = e.Encode(secret) // a string, into memory
		all = append(all, disguise{"JSON", strings.Trim(b.String(), "\"\n")})
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			// The characters at both ends also depend on what is beside the secret.
			whole := encoding.EncodeToString(append(make([]byte, before), secret...))
			first, last := (before*8+5)/6, (before+len(secret))*8/6
			all = append(all, disguise{fmt.Sprintf("base64 behind %d bytes", before), whole[first:last]})
		}
	}
	return all
}

// disguisesIn names those of a secret's disguises that a text has.
func disguisesIn(text []byte, secret string) []string {
	var found []string
	for _, d := range disguises(secret) {
		if bytes.Contains(text, []byte(d.text)) {
			found = append(found, d.name)
		}
	}
	return found
}

func TestDisguisesAreSeenThrough(t *testing.T) {
	inJSON, err := json.Marshal(map[string]string{"secret": ticketsKey})
	if err != nil {
		t.Fatal(err)
	}
	for sentence, c := range map[string]struct {
		text string
		want bool
	}{
		"nothing":                    {"canary", false},
		"another secret":             {modelsToken, false},
		"the secret":                 {"key=" + ticketsKey + ";", true},
		"a document in JSON":         {string(inJSON), true},
		"a printed Go value":         {fmt.Sprintf("%#v", struct{ s string }{ticketsKey}), true},
		"a query":                    {"?" + url.Values{"key": {ticketsKey}}.Encode(), true},
		"a path":                     {(&url.URL{Path: "/" + ticketsKey + "/"}).EscapedPath(), true},
		"the password of basic auth": {basic("", ticketsKey), true},
		"it after one letter more":   {basic("u", ticketsKey), true},
		"it after two letters more":  {basic("us", ticketsKey), true},
		"a line of base64 for URLs":  {base64.URLEncoding.EncodeToString([]byte("a line with " + ticketsKey + " in it")), true},
		"a dump in hexadecimal":      {fmt.Sprintf("%x", ticketsKey), true},
	} {
		t.Run(sentence, func(t *testing.T) {
			if found := disguisesIn([]byte(c.text), ticketsKey); (found != nil) != c.want {
				t.Errorf("found %q in %s, want any: %t", found, c.text, c.want)
			}
		})
	}
}

// testCanaries looks for the stored credentials, and for the tokens that were
// issued, in all that the installation holds, prints and answers.
func testCanaries(t *testing.T, in *installation, up *upstream) {
	texts := map[string][]byte{}
	in.addCommands(t, texts)
	in.addAnswers(t, texts)
	in.addFiles(t, texts)
	texts["what attache commands printed"] = []byte(in.printed.String())

	for _, s := range sites {
		for _, secret := range []string{s.secret, s.username, s.value} {
			if secret != "" {
				expectNowhere(t, texts, "the credential of "+s.connection, secret)
			}
		}
		// It can be found where it belongs.
		for _, a := range up.seen(func(a arrival) bool { return a.Host == s.host }) {
			if disguisesIn(a.raw, s.secret) == nil {
				t.Errorf("the credential of %s is not found in what arrived:\n%s", s.connection, a.raw)
			}
		}
	}
	for _, token := range in.tokens {
		expectNowhere(t, texts, "a token", token)
	}
}

func expectNowhere(t *testing.T, texts map[string][]byte, what, secret string) {
	t.Helper()
	for where, text := range texts {
		for _, form := range disguisesIn(text, secret) {
			t.Errorf("%s has %s, as %s", where, what, form)
		}
	}
}

// addFiles adds every file of the data directory, byte for byte.
func (in *installation) addFiles(t *testing.T, texts map[string][]byte) {
	t.Helper()
	err := filepath.WalkDir(in.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		texts[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"attache.db", "ca.pem", "events.jsonl"} {
		if texts[filepath.Join(in.dir, name)] == nil {
			t.Errorf("there is no %s in the data directory", name)
		}
	}
}

// addCommands adds what each command prints that has something to show.
func (in *installation) addCommands(t *testing.T, texts map[string][]byte) {
	t.Helper()
	commands := []string{
		"integration show " + integration, "connection list --integration " + integration,
		"token list --integration " + integration,
	}
	for _, s := range sites {
		commands = append(commands, "connection show "+s.connection+" --integration "+integration,
			"explain --integration "+integration+" https://"+s.host+"/")
	}
	lines := []string{"run --integration " + integration + " -- env"}
	for _, command := range commands {
		for _, format := range []string{"table", "json", "yaml"} {
			lines = append(lines, command+" -o "+format)
		}
	}
	for _, line := range lines {
		printed := in.attache(t, strings.Fields(line)...)
		if printed == "" {
			t.Errorf("attache %s prints nothing", line)
		}
		texts["attache "+line] = []byte(printed)
	}
}

// addAnswers adds what the API and the metrics listener answer.
func (in *installation) addAnswers(t *testing.T, texts map[string][]byte) {
	t.Helper()
	_, token := in.issue(t, "admin-token", "create", "--role", "admin")
	base := "/api/v1/integrations/" + integration
	paths := []string{"/api/v1/status", "/api/v1/events?limit=1000", "/api/v1/openapi.json", "/api/v1/integrations",
		base, base + "/tokens", base + "/connections/all"}
	for _, s := range sites {
		kind := base + "/connections/" + string(s.kind)
		paths = append(paths, kind, kind+"/"+s.connection)
	}
	for _, path := range paths {
		texts[path] = get(t, "http://"+in.status.AdminAddress+path, token)
	}
	texts["/metrics"] = get(t, "http://"+in.status.MetricsAddress+"/metrics", "")
}

// get is what a URL answers, which must be 200.
func get(t *testing.T, url, bearer string) []byte {
	t.Helper()
	body, err := fetch(t.Context(), url, bearer)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// fetch is what a URL answers; every status but 200 is an error.
func fetch(ctx context.Context, url, bearer string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := direct.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, resp.Status, body)
	}
	return body, err
}

// direct goes through no proxy, whatever the environment says.
var direct = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
