package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"attache"
	"attache/secret"
)

// The test binary is also the other process of the tests that need one: with
// childVariable set it does what children has under that name, in the directory
// named by dirVariable, and ends.
const (
	childVariable = "ATTACHE_STORE_CHILD"
	dirVariable   = "ATTACHE_STORE_DIR"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		if err := children[name](os.Getenv(dirVariable)); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

var children = map[string]func(dir string) error{
	"write for ever":      writeForEver,
	"open and hold":       openAndHold,
	"open as nobody":      openAsNobody,
	"read only as nobody": readOnlyAsNobody,
}

type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

// startChild starts another process. It is killed at the end of the test at the
// latest.
func startChild(t *testing.T, name, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+name, dirVariable+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, stdin, bufio.NewScanner(stdout)}
	t.Cleanup(c.kill)
	return c
}

// line waits for a line of output; false at its end.
func (c *child) line() (string, bool) {
	if !c.lines.Scan() {
		return "", false
	}
	return c.lines.Text(), true
}

// kill is SIGKILL, and waits for the end.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// openAndHold opens once there is a line on its standard input, says how that
// went, and holds on until the input ends.
func openAndHold(dir string) error {
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	s, err := Open(context.Background(), Options{Dir: dir})
	switch {
	case errors.Is(err, ErrInUse):
		fmt.Println("in use")
		return nil
	case err != nil:
		return err
	}
	fmt.Println("opened")
	_, _ = io.Copy(io.Discard, in)
	return s.Close()
}

var created = time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)

// open opens a store with a generated key, and closes it at the end of the test
// after a check: whatever a test did, the store is consistent after it.
func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := s.Check(context.Background()); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("after the test: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openWith opens a store that holds the integrations bot and other.
func openWith(t *testing.T) *Store {
	t.Helper()
	s := open(t, t.TempDir())
	for _, name := range []string{"bot", "other"} {
		must(t, s.CreateIntegration(t.Context(), attache.Integration{Name: name, CreatedAt: created}))
	}
	return s
}

func apiKey(integration, name, key string) attache.Connection {
	return attache.Connection{
		Integration:   integration,
		Name:          name,
		Type:          attache.APIKey,
		AllowedDomain: "*.example.com",
		AllowedPorts:  []uint16{443, 8443},
		HeaderName:    "X-Api-Key",
		StripCookies:  true,
		Credential:    attache.Credential{APIKey: secret.New(key)},
		CreatedAt:     created,
		UpdatedAt:     created,
	}
}

// deleteConnection is for who asks whether it was deleted, and not what it was.
func deleteConnection(ctx context.Context, s *Store, integration, name string) error {
	_, err := s.DeleteConnection(ctx, integration, name)
	return err
}

func oauthClient(integration, name string) attache.OAuthClient {
	return attache.OAuthClient{
		Integration:   integration,
		Name:          name,
		GrantType:     attache.AuthorizationCode,
		ClientID:      "id",
		ClientSecret:  secret.New("client secret"),
		AuthURL:       "https://{subdomain}.example.com/authorize",
		TokenURL:      "https://{subdomain}.example.com/token",
		DefaultScopes: "read write",
		CreatedAt:     created,
		UpdatedAt:     created,
	}
}

// oauth is a connection that uses the OAuth client "client", not authorized yet.
func oauth(integration, name string) attache.Connection {
	return attache.Connection{
		Integration:   integration,
		Name:          name,
		Type:          attache.OAuth,
		AllowedDomain: "acme.example.com",
		AllowedPorts:  []uint16{443},
		OAuthClient:   "client",
		Subdomain:     "acme",
		Scope:         "read",
		CreatedAt:     created,
		UpdatedAt:     created,
	}
}

// authorized is such a connection with a grant, refreshed n-1 times.
func authorized(integration, name string, n int) attache.Connection {
	c := oauth(integration, name)
	c.Grant = &attache.Grant{
		State:        attache.GrantActive,
		AccessToken:  numbered("access", n),
		RefreshToken: numbered("refresh", n),
		TokenType:    "Bearer",
		Scope:        "read",
		IssuedAt:     created,
		ExpiresAt:    created.Add(time.Hour),
		Generation:   uint64(n),
	}
	return c
}

// numbered is a token as long as real ones that ends in its number.
func numbered(kind string, n int) secret.Text {
	return secret.New(fmt.Sprintf("%s-token-of-forty-eight-characters-%013d", kind, n))
}

// refresh replaces both tokens of an oauth connection of the integration bot by
// their successors.
func refresh(ctx context.Context, s *Store, name string) (next int, err error) {
	err = s.UpdateGrant(ctx, "bot", name, func(g *attache.Grant) error {
		next = int(g.Generation) + 1
		*g = *authorized("bot", name, next).Grant
		return nil
	})
	return next, err
}

func accessToken(integration, id string) attache.AccessToken {
	return attache.AccessToken{
		ID: id, Integration: integration, Hash: attache.TokenHash{1, 2, 3},
		CreatedAt: created, ExpiresAt: created.Add(time.Hour),
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError fails the test unless err is want and says what.
func wantError(t *testing.T, err, want error, what ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	for _, w := range what {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
