package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"attache"
)

// canary is a credential that no command may print, whatever happens.
const canary = "canary0f7e62b1"

// prints tells whether a text has the canary, in the clear or encoded.
func prints(text string) bool {
	forms := []string{canary, hex.EncodeToString([]byte(canary))}
	for before := range 3 { // base64 depends on where in a group of three bytes it begins
		b := base64.RawStdEncoding.EncodeToString([]byte("xx"[:before] + canary))
		forms = append(forms, b[(before*8+5)/6:(before+len(canary))*8/6]) // less what depends on its neighbours
	}
	return slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(text, form) })
}

func TestTheCanaryIsFound(t *testing.T) {
	for _, text := range []string{
		canary, "x" + canary + "\n", hex.EncodeToString([]byte("key " + canary)),
		"Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+canary)),
		"Basic " + base64.StdEncoding.EncodeToString([]byte("you:"+canary)),
		"Basic " + base64.URLEncoding.EncodeToString([]byte("user:"+canary+"/token")),
	} {
		if !prints(text) {
			t.Errorf("%q does not seem to have it", text)
		}
	}
	if prints("canary") {
		t.Error("it is seen where it is not")
	}
}

// commandLine is one call of the program.
type commandLine struct {
	args  string
	stdin string
	env   map[string]string
	code  int
}

// elsewhere are the commands that other tests call: they run servers and
// programs.
var elsewhere = []string{"serve", "run", "env", "demo", "healthcheck"}

// TestNoCommandPrintsACredential calls every command, where it works and where
// it fails, with the canary in each place where a credential can be, on purpose
// or by mistake.
func TestNoCommandPrintsACredential(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file("secret", canary+"\n")
	file("two-lines", canary+"\n"+canary+"\n")
	file("not-text", canary+"\xff")
	file("colon", "me:"+canary)
	file("good.yaml", "upstream:\n  proxy: http://me:"+canary+"@proxy.example:3128\n")
	file("bad.yaml", "upstream:\n  proxy: ftp://me:"+canary+"@proxy.example:3128\n")
	identity, stranger := newIdentity(t), newIdentity(t)
	recipient := identity.Recipient().String()
	file("key", identity.String())
	file("other-key", stranger.String())
	const create = "connection create --allowed-domain api.example.com "
	const register = "client create --client-id app --auth-url https://id.example.com/authorize --token-url https://id.example.com/token "
	remote := map[string]string{adminTokenVariable: canary}
	called := map[string]bool{}
	for _, c := range []commandLine{
		{args: "integration create bot"},
		{args: "integration list"},
		{args: "integration show bot -o yaml"},
		{args: "integration show " + canary + "?", code: 1},
		{args: "token revoke " + string(attache.AccessTokenPrefix) + canary, code: 1},
		{args: "admin-token revoke " + string(attache.AdminTokenPrefix) + canary, code: 1},
		{args: "token list -i bot"},
		{args: "token revoke -i bot 0000000000000", code: 1},

		{args: create + "key --type api_key --header-name X-Api-Key --secret-file DIR/secret"},
		{args: create + "token --type bearer_token --secret-file - -o json", stdin: canary},
		{args: create + "basic --type basic_auth --username me --api-token --secret-file DIR/secret -o yaml"},
		{args: create + "name --type basic_auth --username-file - --secret-file DIR/secret", stdin: canary + "\n"},
		{args: create + "key --type api_key --header-name X-Api-Key --secret-file DIR/secret", code: 1},
		{args: create + "lines --type api_key --header-name X-Api-Key --secret-file DIR/two-lines", code: 1},
		{args: create + "lines --type bearer_token --secret-file DIR/two-lines", code: 1},
		{args: create + "not-text --type bearer_token --secret-file DIR/not-text", code: 1},
		{args: create + "colon --type basic_auth --username-file DIR/colon --secret-file DIR/secret", code: 1},
		{args: create + "path --type bearer_token --secret-file " + canary, code: 1},
		{args: create + "argument " + canary + " --type bearer_token", code: 2},
		{args: create + "flag --type bearer_token --secret=" + canary, code: 2},
		{args: create + "header --type api_key --header-name " + canary + ": --secret-file DIR/secret", code: 1},
		{args: "connection create domain --type bearer_token --allowed-domain https://me:" + canary + "@api.example.com --secret-file DIR/secret", code: 1},
		{args: create + "lost -i no-such-bot --type bearer_token --secret-file DIR/secret", code: 1},

		{args: register + "sso --secret-file DIR/secret"},
		{args: register + "sso --secret-file DIR/secret", code: 1},
		{args: register + "piped --secret-file - -o json", stdin: canary},
		{args: register + "lines --secret-file DIR/two-lines", code: 1},
		{args: register + "not-text --secret-file DIR/not-text", code: 1},
		{args: register + "no-key --client-auth private_key_jwt --private-key-file DIR/secret", code: 1},
		{args: register + "no-chain --secret-file DIR/secret --certificate-file DIR/secret", code: 1},
		{args: register + "two-keys --secret-file - --private-key-file -", stdin: canary, code: 2},
		{args: register + "no-value --secret-file DIR/secret --auth-param " + canary, code: 2},
		{args: register + "twice --secret-file DIR/secret --token-param a=b --token-param a=" + canary, code: 2},
		{args: register + "header --secret-file DIR/secret --token-header Authorization=" + canary, code: 1},
		{args: register + "url --secret-file DIR/secret --revocation-url https://me:" + canary + "@id.example.com/", code: 1},
		{args: register + "argument " + canary, code: 2},
		{args: "client list"},
		{args: "client list -o json"},
		{args: "client show sso -o yaml"},
		{args: "client update sso --client-id other"},
		{args: "client update sso --secret-file - -o json", stdin: canary},
		{args: "client update sso --secret-file DIR/two-lines", code: 1},
		{args: "client update no-such --secret-file DIR/secret", code: 1},
		{args: create + "grant --type oauth --client sso"},
		{args: "client create itself --grant-type client_credentials --client-id app --token-url https://id.example.com/token --secret-file DIR/secret"},
		{args: create + "robot --type oauth --client itself"},
		{args: create + "lost-grant --type oauth --client no-such", code: 1},
		{args: create + "given --type oauth --client sso --secret-file DIR/secret", code: 2},
		{args: "connection rotate grant --secret-file DIR/secret", code: 1},
		{args: "connection authorize grant --no-browser", stdin: "http://127.0.0.1/?state=x&code=" + canary + "\n", code: 1},
		{args: "connection authorize grant --no-browser", stdin: canary, code: 1},
		{args: "connection authorize grant --device", code: 1},
		{args: "connection authorize key", code: 1},
		{args: "connection authorize no-such", code: 1},
		{args: "connection show grant"},
		{args: "connection export grant --move --passphrase-file DIR/two-lines", code: 1},
		{args: "connection export grant --move --passphrase-file DIR/not-text", code: 1},
		{args: "connection export grant --move --passphrase-file " + canary, code: 1},
		{args: "connection export grant --move --recipient " + canary, code: 1},
		{args: "connection export grant --move --recipient AGE-SECRET-KEY-1" + canary, code: 1},
		{args: "connection export grant --copy --recipients-file DIR/secret", code: 1},
		{args: "connection export grant --move", code: 2},
		{args: "connection export grant " + canary + " --move", code: 2},
		{args: "connection export key --move --recipient age1x", code: 1},
		{args: "connection import --passphrase-file DIR/secret DIR/two-lines", code: 1},
		{args: "connection import --identity DIR/secret", stdin: canary, code: 1},
		{args: "connection import --identity - -", stdin: canary, code: 2},
		{args: "connection import --passphrase-file DIR/secret " + canary, code: 1},
		{args: "connection import DIR/secret " + canary, code: 2},
		{args: "connection export robot --move --recipient " + recipient + " --output DIR/robot.age"},
		{args: "connection import --identity DIR/other-key DIR/robot.age", code: 1},
		{args: "connection import --identity DIR/key DIR/robot.age", code: 1},
		{args: "connection import --identity DIR/key -i bot -o json DIR/robot.age"},
		{args: "client delete sso --yes", code: 1},
		{args: "client delete piped --yes"},

		{args: "connection list"},
		{args: "connection list -o json"},
		{args: "connection show key"},
		{args: "connection show basic -o yaml"},
		{args: "connection rotate key --secret-file DIR/secret"},
		{args: "connection rotate key --secret-file DIR/two-lines", code: 1},
		{args: "connection rotate no-such --secret-file DIR/secret", code: 1},
		{args: "connection test no-such", code: 1},
		{args: "connection test key --host me:" + canary + "@api.example.com", code: 2},
		{args: "explain https://api.example.com/?key=" + canary},
		{args: "explain -c key https://api.example.com/ -o json"},
		{args: "explain https://me:" + canary + "@api.example.com/", code: 1},
		{args: "explain -c key -o yaml POST https://api.example.com/"},

		{args: "admin-token list"},
		{args: "admin-token revoke 0000000000000", code: 1},
		{args: "integration list --server http://127.0.0.1:1", env: remote, code: 1},
		{args: "integration list --server http://api.example.com", env: remote, code: 1},
		{args: "integration list --server http://me:" + canary + "@127.0.0.1:1", env: remote, code: 1},
		{args: "ca show"},
		{args: "ca export"},
		{args: "ca path"},
		{args: "ca rotate"},
		{args: "ca drop 1234", code: 1},
		{args: "ca install --print"},
		{args: "ca uninstall --print"},
		{args: "config check --show DIR/good.yaml"},
		{args: "config check DIR/bad.yaml", code: 1},
		{args: "config check", env: map[string]string{"ATTACHE_UPSTREAM_PROXY": "ftp://me:" + canary + "@proxy.example"}, code: 1},
		{args: "version -o json"},
		{args: "completion bash"},
		{args: "completion zsh"},
		{args: "completion fish"},
		{args: "completion powershell"},
		{args: "connection delete key --yes"},
		{args: "connection delete key --yes", code: 1},
		{args: "integration delete bot --yes"},
		{args: "integration delete default", code: 2},

		// These print a secret, once: their own, and not the canary.
		{args: "token create"},
		{args: "admin-token create"},
	} {
		out := c.call(t, dir, called)
		if prints(out) {
			t.Errorf("attache %s prints it:\n%s", c.args, out)
		}
	}
	for _, path := range leaves(newRoot(&app{lookup: emptyEnvironment})) {
		if name, _, _ := strings.Cut(path, " "); !called[path] && !slices.Contains(elsewhere, name) {
			t.Errorf("attache %s is not called", path)
		}
	}
}

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// call runs the command line on the data directory below dir, and returns all
// that it printed.
func (c commandLine) call(t *testing.T, dir string, called map[string]bool) string {
	t.Helper()
	var out bytes.Buffer
	environment := map[string]string{"ATTACHE_DATA_DIR": filepath.Join(dir, "data")}
	for name, value := range c.env {
		environment[name] = value
	}
	a := &app{in: strings.NewReader(c.stdin), out: &out, err: &out, lookup: func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	}}
	args := strings.Fields(strings.ReplaceAll(c.args, "DIR/", dir+"/"))
	if cmd, _, err := newRoot(a).Find(args); err == nil {
		called[strings.TrimPrefix(cmd.CommandPath(), "attache ")] = true
	}
	if code := a.execute(context.Background(), args); code != c.code {
		t.Errorf("attache %s ends with %d, want %d:\n%s", c.args, code, c.code, out.String())
	}
	return out.String()
}

// leaves are the paths of the commands that do something.
func leaves(c *cobra.Command) []string {
	if !c.HasSubCommands() {
		return []string{strings.TrimPrefix(c.CommandPath(), "attache ")}
	}
	var all []string
	for _, sub := range c.Commands() {
		all = append(all, leaves(sub)...)
	}
	return all
}
