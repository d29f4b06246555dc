package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"attache/policy"
)

// stowaway is in every credential that the clients bring themselves. It must
// never arrive.
const stowaway = "stowaway-5eed"

// ownHeaders are what each client adds to its request where it can. Servers that
// read headers as CGI does take the last for an X-Api-Key.
var ownHeaders = []string{
	"Authorization: Bearer " + stowaway,
	"X-Tickets-Key: " + stowaway,
	"X-Api-Key: " + stowaway,
	"Private-Token: " + stowaway,
	"x_api_key: " + stowaway,
}

// caller is a client, and what it does.
type caller struct {
	name   string // the first segment of the paths that it asks for
	debian string // the package that it comes from
	// command has {url}, an address below /NAME/ at one of the sites, {authority},
	// its host and port, {host}, its host, and {headers}, the own headers in JSON.
	command []string
	env     []string
	leaves  string // a file that it must leave behind; empty: it prints the greeting
}

// callers are all of them.
func callers(t *testing.T) []caller {
	t.Helper()
	script := func(interpreter, name string) []string {
		return []string{interpreter, absolute(t, "testdata/"+name), "{url}?page=2", "{headers}"}
	}
	return []caller{
		{name: "curl", debian: "curl",
			command: flagged("curl -sSf {url}", "-H", ""),
		},
		{name: "wget", debian: "wget",
			command: flagged("wget -nv -O - {url}", "--header", ""),
		},
		{name: "git", debian: "git",
			command: append(flagged("git", "-c", "http.extraHeader="), "clone", "--quiet", "{url}.git"),
			env:     []string{"GIT_TERMINAL_PROMPT=0"},
			leaves:  "greeting/greeting.txt",
		},
		{name: "requests", debian: "python3-requests", command: script("python3", "python/requests_get.py")},
		{name: "httpx", debian: "python3-httpx", command: script("python3", "python/httpx_get.py")},
		{name: "urllib", debian: "python3", command: script("python3", "python/urllib_get.py")},
		{name: "aiohttp", debian: "python3-aiohttp", command: script("python3", "python/aiohttp_get.py")},
		{name: "axios", debian: "nodejs", command: script("node", "node/axios.js")},
		{name: "fetch", debian: "npm", command: script(newerNode(t), "node/fetch.js")},
		{name: "https", debian: "npm", command: script(newerNode(t), "node/https.js")},
		{name: "go", debian: "golang",
			command: []string{build(t, "./testdata/goclient"), "{url}", "{headers}"},
		},
		{name: "gh", debian: "gh",
			command: flagged("gh api {url}", "-H", ""),
			// It does nothing without a token.
			env: []string{"GH_HOST={host}", "GH_ENTERPRISE_TOKEN=" + stowaway, "GH_TOKEN=" + stowaway},
		},
		{name: "aws", debian: "awscli",
			command: strings.Fields("aws s3api list-buckets --region us-east-1 --endpoint-url https://{authority}/aws/"),
			env:     []string{"AWS_ACCESS_KEY_ID=" + stowaway, "AWS_SECRET_ACCESS_KEY=" + stowaway, "AWS_SESSION_TOKEN=" + stowaway, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER="},
		},
		{name: "pip", debian: "python3-pip",
			command: strings.Fields("python3 -m pip download --quiet --no-deps --no-cache-dir --disable-pip-version-check" +
				" --index-url https://" + stowaway + ":" + stowaway + "@{authority}/pip/simple/ greeting"),
			leaves: "greeting-1.0-py3-none-any.whl",
		},
		{name: "npm", debian: "npm",
			command: strings.Fields("npm install --silent --no-audit --no-fund --no-update-notifier --prefix . --registry https://{authority}/npm/" +
				" --//{authority}/npm/:_authToken=" + stowaway + " greeting"),
			leaves: "node_modules/greeting/package.json",
		},
	}
}

// flagged is a command line that ends with the flag for each own header, the
// header itself behind a prefix.
func flagged(command, flag, prefix string) []string {
	line := strings.Fields(command)
	for _, h := range ownHeaders {
		line = append(line, flag, prefix+h)
	}
	return line
}

// newerNode is Node 24, in which fetch and https know proxies.
func newerNode(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("testdata/node/node_modules/node-*/bin/node")
	if err != nil || len(found) != 1 {
		t.Fatalf("Node 24 is missing, of the npm packages in testdata/node: make test installs it (Debian's package npm): %v", err)
	}
	return absolute(t, found[0])
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// testClients runs each client against each site, as many at a time as there are
// processors.
func testClients(t *testing.T, in *installation, up *upstream, clients []caller) {
	for _, c := range clients {
		for _, s := range sites {
			t.Run(c.name+" with "+string(s.kind), func(t *testing.T) {
				t.Parallel()
				c.call(t, in, up.authority(s.host))
				got := up.seen(func(a arrival) bool { return a.Host == s.host && strings.HasPrefix(a.Path, "/"+c.name+"/") })
				if len(got) == 0 {
					t.Fatal("nothing arrived")
				}
				for _, a := range got {
					checkArrival(t, s, a)
				}
			})
		}
	}
}

// checkArrival holds that a request has the stored credential and no other.
func checkArrival(t *testing.T, s site, a arrival) {
	t.Helper()
	if values := a.header[s.header]; !slices.Equal(values, []string{s.value}) {
		t.Errorf("%s %s has %s %q, want what is stored", a.Method, a.Path, s.header, values)
	}
	for name := range a.header {
		if name != s.header && slices.ContainsFunc(policy.KnownCredentialHeaders(), sameHeader(name)) {
			t.Errorf("%s %s has %s, too", a.Method, a.Path, name)
		}
	}
	for _, found := range disguisesIn(a.raw, stowaway) {
		t.Errorf("%s %s has what the client brought itself, as %s:\n%s", a.Method, a.Path, found, a.raw)
	}
}

// sameHeader compares header names as CGI and its heirs do.
func sameHeader(name string) func(string) bool {
	return func(other string) bool { return strings.EqualFold(strings.ReplaceAll(name, "_", "-"), other) }
}

// call runs the client by attache run, in a directory of its own, and sees that
// it got what it asked for.
func (c caller) call(t *testing.T, in *installation, authority string) {
	t.Helper()
	headers := map[string]string{}
	for _, h := range ownHeaders {
		name, value, _ := strings.Cut(h, ": ")
		headers[name] = value
	}
	asJSON, err := json.Marshal(headers)
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := strings.Cut(authority, ":")
	fill := strings.NewReplacer(
		"{url}", "https://"+authority+"/"+c.name+"/greeting", "{authority}", authority, "{host}", host, "{headers}", string(asJSON))
	args := []string{"run", "--integration", integration, "--"}
	for _, a := range c.command {
		args = append(args, fill.Replace(a))
	}
	var env []string
	for _, e := range c.env {
		env = append(env, fill.Replace(e))
	}

	home, out, err := in.visit(t, args, env)
	switch {
	case err != nil:
		t.Fatalf("%s (Debian's package %s; make test installs it): %v\n%s", c.name, c.debian, err, out)
	case c.leaves == "" && !strings.Contains(out, greeting):
		t.Errorf("%s printed no greeting:\n%s", c.name, out)
	case c.leaves != "":
		if _, err := os.Stat(filepath.Join(home, c.leaves)); err != nil {
			t.Error(err)
		}
	}
}

// visit runs attache as somebody else, in a home that is empty before. It
// returns the home and all that was printed.
func (in *installation) visit(t *testing.T, args, env []string) (home, printed string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	home = t.TempDir()
	cmd := in.command(ctx, args...)
	cmd.Dir = home
	cmd.Env = append(append(cmd.Env, "HOME="+home), env...) // the last of a name counts
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	in.printed.add(out.String())
	return home, out.String(), err
}

// testWithoutRun shows the two other ways: the variables that env prints, and
// those that somebody types.
func testWithoutRun(t *testing.T, in *installation, up *upstream) {
	script, _ := in.issue(t, "env", "--integration", integration)
	_, token := in.issue(t, "token", "create", "--integration", integration)
	typed := "export HTTPS_PROXY=http://" + integration + ":" + token + "@" + in.status.ProxyAddress +
		" CURL_CA_BUNDLE=" + filepath.Join(in.dir, "ca.pem")
	for name, script := range map[string]string{"env": script, "hand": typed} {
		for _, s := range sites {
			t.Run(name+" with "+string(s.kind), func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), "sh", "-c", script+"\nexec curl -sSf https://"+up.authority(s.host)+"/"+name+"/greeting")
				cmd.Env = []string{"PATH=" + programs(), "HOME=" + t.TempDir()}
				out, err := cmd.CombinedOutput()
				if err != nil || string(out) != greeting {
					t.Errorf("curl (Debian's package curl; make test installs it): %v\n%s", err, out)
				}
			})
		}
	}
}

// roots are variables that clients take roots from, the second of a client
// where the first is not set.
var roots = []struct{ client, variable string }{
	{"curl", "CURL_CA_BUNDLE"}, {"curl", "SSL_CERT_FILE"},
	{"git", "GIT_SSL_CAINFO"},
	{"requests", "REQUESTS_CA_BUNDLE"}, {"requests", "CURL_CA_BUNDLE"},
	{"urllib", "SSL_CERT_FILE"},
	{"httpx", "SSL_CERT_FILE"},
	{"fetch", "NODE_EXTRA_CA_CERTS"},
	{"go", "SSL_CERT_FILE"},
	{"aws", "AWS_CA_BUNDLE"}, {"aws", "REQUESTS_CA_BUNDLE"},
	{"pip", "PIP_CERT"}, {"pip", "REQUESTS_CA_BUNDLE"},
	{"npm", "npm_config_cafile"}, {"npm", "NODE_EXTRA_CA_CERTS"},
}

// testRoots runs clients that were told before to trust the upstream's own CA.
// They reach both what the proxy decrypts and what it does not.
func testRoots(t *testing.T, in *installation, up *upstream, clients []caller) {
	for _, r := range roots {
		i := slices.IndexFunc(clients, func(c caller) bool { return c.name == r.client })
		c := clients[i]
		c.env = append(slices.Clone(c.env), r.variable+"="+up.caFile)
		for _, host := range []string{sites[0].host, openHost} {
			t.Run(r.client+" with "+r.variable+" to "+host, func(t *testing.T) {
				t.Parallel()
				c.call(t, in, up.authority(host))
			})
		}
	}
}
