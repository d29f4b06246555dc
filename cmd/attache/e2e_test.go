package main_test

// The end-to-end test runs the real binary as somebody would who has just
// installed it, with real clients before it and a real TLS server behind it.
//
//	e2e_test.go             the story, and the installation that it happens in
//	e2e_upstream_test.go    the server that the clients want to reach
//	e2e_clients_test.go     the clients
//	e2e_events_test.go      what the proxy says about them
//	e2e_prometheus_test.go  what Prometheus reads of it
//	e2e_canary_test.go      where the credentials must not be
//
// Nothing of the environment that the test runs in reaches the programs that it
// starts, but PATH. A program that is missing fails it: make test installs them.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"attache"
	"attache/client"
)

const (
	integration = "support-bot"

	// patience is how long anything may take that the test waits for.
	patience = time.Minute
	pollEach = 20 * time.Millisecond
)

func TestRealClients(t *testing.T) {
	up := newUpstream(t)
	in := install(t, up)
	clients := callers(t)
	for _, s := range sites {
		in.store(t, s, up.port)
	}
	t.Run("send the stored credential and nothing of their own", func(t *testing.T) { testClients(t, in, up, clients) })
	t.Run("do so with the variables of env, and by hand", func(t *testing.T) { testWithoutRun(t, in, up) })
	t.Run("still trust whom they trusted before", func(t *testing.T) { testRoots(t, in, up, clients) })
	t.Run("have one event for each request", func(t *testing.T) { testEvents(t, in, up) })
	t.Run("are counted for Prometheus", func(t *testing.T) { testPrometheus(t, in, up) })
	t.Run("leave no secret anywhere but where it belongs", func(t *testing.T) { testCanaries(t, in, up) })
}

// site is a host that the upstream answers for, and the connection for it.
type site struct {
	connection string
	kind       attache.ConnectionType
	host       string
	flags      []string // more of connection create
	username   string   // with basic_auth
	secret     string
	// The one field that has to reach the upstream.
	header, value string
}

// sites have one connection of each type. The secrets are the canaries. They
// have characters that other formats escape, so that a search for the escaped
// forms is one for something else.
var sites = []site{
	{
		connection: "tickets", kind: attache.APIKey, host: "tickets.example.test",
		flags: []string{"--header-name", "X-Tickets-Key"}, secret: ticketsKey,
		header: "X-Tickets-Key", value: ticketsKey,
	},
	{
		connection: "forge", kind: attache.BasicAuth, host: "forge.example.test",
		username: forgeUser, secret: forgePassword,
		header: "Authorization", value: basic(forgeUser, forgePassword),
	},
	{
		connection: "models", kind: attache.BearerToken, host: "models.example.test", secret: modelsToken,
		header: "Authorization", value: "Bearer " + modelsToken,
	},
}

const (
	ticketsKey    = `canary-tickets 7e"57\<&>%/+`
	forgeUser     = "canary-bot@example.test"
	forgePassword = `canary-fòrge:7e"57\<&>%/+`
	modelsToken   = `canary-models-7e"57\<&>%/+`
)

// installation is attache on a machine of its own: the binary, a home and a data
// directory, and a server that runs.
type installation struct {
	binary  string
	home    string
	dir     string // data directory
	events  string // the log of events
	api     *client.Client
	status  client.Status
	printed *transcript // by all attache commands, the server included
	tokens  []string    // that commands issued; they are not in printed
}

// install builds attache and starts a server that finds the sites at the
// upstream.
func install(t *testing.T, up *upstream) *installation {
	t.Helper()
	root := t.TempDir()
	in := &installation{
		binary: build(t, "."), home: root, dir: filepath.Join(root, "data"),
		events: filepath.Join(root, "data", "events.jsonl"), printed: new(transcript),
	}
	if err := os.Mkdir(in.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var hosts strings.Builder
	for _, h := range up.hosts() {
		fmt.Fprintf(&hosts, "    - %s=127.0.0.1\n", h)
	}
	config := in.file(t, "attache.yaml", fmt.Sprintf(`
listen: 127.0.0.1:0
admin:
  listen: 127.0.0.1:0
metrics:
  listen: 127.0.0.1:0
upstream:
  allow_private: [127.0.0.0/8]
  ca_file: %s
  hosts:
%slog:
  level: debug
  events: %s
`, up.caFile, hosts.String(), in.events))

	server := in.command(t.Context(), "serve", "--config", config)
	server.Stdout, server.Stderr = in.printed, in.printed
	start(t, server)

	var err error
	if in.api, err = client.New(client.Options{Socket: filepath.Join(in.dir, "admin.sock")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.api.Close)
	until(t, "the server answers", func() (ok bool) {
		in.status, err = in.api.Status(t.Context())
		return err == nil
	}, in.printed.String)
	in.attache(t, "integration", "create", integration)
	return in
}

// store makes the connection of a site.
func (in *installation) store(t *testing.T, s site, port string) {
	t.Helper()
	args := []string{"connection", "create", s.connection, "--integration", integration, "--type", string(s.kind),
		"--allowed-domain", s.host, "--allowed-port", port, "--secret-file", in.file(t, "secret", s.secret+"\n")}
	if s.username != "" {
		args = append(args, "--username-file", in.file(t, "username", s.username+"\n"))
	}
	in.attache(t, append(args, s.flags...)...)
}

// file writes a file of whoever uses the installation.
func (in *installation) file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(in.home, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// command is attache with arguments, in an environment that is empty but for
// what it needs and what is given.
func (in *installation) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, in.binary, args...)
	cmd.Dir = in.home
	cmd.Env = []string{"PATH=" + programs(), "HOME=" + in.home, "ATTACHE_DATA_DIR=" + in.dir}
	return cmd
}

// attache runs a command line, which must succeed, and returns what it printed
// on standard output.
func (in *installation) attache(t *testing.T, args ...string) string {
	t.Helper()
	out := in.unnoted(t, args)
	in.printed.add(out)
	return out
}

// issue runs a command line that prints a token, and returns both. Standard
// output is the one place for it.
func (in *installation) issue(t *testing.T, args ...string) (out, token string) {
	t.Helper()
	out = in.unnoted(t, args)
	if token = regexp.MustCompile(`att(admin)?_\w+`).FindString(out); token == "" {
		t.Fatalf("attache %s printed no token", strings.Join(args, " "))
	}
	in.tokens = append(in.tokens, token)
	return out, token
}

// unnoted leaves out of the transcript what a command printed on standard output.
func (in *installation) unnoted(t *testing.T, args []string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := in.command(t.Context(), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	in.printed.add(errs.String())
	if err != nil {
		t.Fatalf("attache %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// build compiles a program of this module as make build does, which has left
// most of the work in Go's cache.
func build(t *testing.T, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// start starts a program that runs until the test ends, and then has to end
// well when it is told to.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", cmd.Path, err)
		}
	})
}

// until waits until something is so. explain adds what there is to say when it
// never is.
func until(t *testing.T, what string, isSo func() bool, explain func() string) {
	t.Helper()
	tick, over := time.NewTicker(pollEach), time.After(patience)
	defer tick.Stop()
	for !isSo() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("%s: not within %s\n%s", what, patience, explain())
		}
	}
}

// programs is the PATH of what the test starts: Debian's programs come before
// those that a developer's tools put there.
func programs() string {
	return strings.Join([]string{"/usr/bin", "/bin", os.Getenv("PATH")}, string(os.PathListSeparator))
}

// find is the path of a program.
func find(t *testing.T, name, debianPackage string) string {
	t.Helper()
	for _, dir := range filepath.SplitList(programs()) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	t.Fatalf("%s is missing, of Debian's package %s: make test installs it", name, debianPackage)
	return ""
}

// transcript is what programs wrote. It is safe for concurrent use.
type transcript struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (tr *transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.Write(p)
}

func (tr *transcript) add(text string) { _, _ = tr.Write([]byte(text)) } // into memory

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String()
}
