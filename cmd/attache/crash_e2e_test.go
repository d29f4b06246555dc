package main_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"attache"
	"attache/client"
	"attache/oauth"
	"attache/secret"
	"attache/store"
)

const (
	lives = 2 // data directories, each killed at the same time as the others
	kills = 100
)

// TestKilledServerKeepsItsGrants kills a server again and again while it
// refreshes, by kill -9, at a provider that takes the use of a spent refresh token
// for theft. What is on the disk of the dead says what has to come of it.
func TestKilledServerKeepsItsGrants(t *testing.T) {
	binary := build(t, ".")
	var mu sync.Mutex // guards total
	total := map[fate]int{}
	t.Run("killed", func(t *testing.T) {
		for seed := range uint64(lives) {
			t.Run(fmt.Sprintf("with seed %d", seed), func(t *testing.T) {
				t.Parallel()
				m := newMortal(t, binary, seed)
				for range kills {
					m.liveAndDie(t)
				}
				m.provider.check(t)
				mu.Lock()
				defer mu.Unlock()
				for f, n := range m.fates {
					total[f] += n
				}
			})
		}
	})
	t.Logf("%v", total)
	for _, f := range []fate{unspent, stored, lost, abandoned} {
		if total[f] == 0 {
			t.Errorf("no kill left a grant %s: %v", f, total)
		}
	}
}

// fate is what a kill has left on disk, and so what has to become of the grant.
type fate string

const (
	unspent   fate = "unspent"   // the provider has not seen the refresh token: the grant survives
	stored    fate = "stored"    // the answer is there: the grant survives
	lost      fate = "lost"      // the answer is not: one recovery, then a person is needed
	abandoned fate = "abandoned" // a recovery was cut off, or refused: a person is needed
)

// mortal is an installation whose server does not last.
type mortal struct {
	*installation
	provider *rotating
	random   *rand.Rand
	token    string
	config   string
	fate     fate
	fates    map[fate]int
}

func newMortal(t *testing.T, binary string, seed uint64) *mortal {
	t.Helper()
	root := t.TempDir()
	m := &mortal{
		installation: &installation{binary: binary, home: root, dir: filepath.Join(root, "data"), printed: new(transcript)},
		provider:     newRotating(t), random: rand.New(rand.NewPCG(seed, 3)), fate: unspent, fates: map[fate]int{},
	}
	m.config = m.file(t, "attache.yaml", fmt.Sprintf(`
listen: 127.0.0.1:0
admin:
  listen: 127.0.0.1:0
metrics:
  listen: 127.0.0.1:0
upstream:
  allow_private: [127.0.0.0/8]
  ca_file: %s
  hosts:
    - %s=127.0.0.1
    - %s=127.0.0.1
`, m.provider.caFile, rotatingHost, guardedHost))
	m.attache(t, "integration", "create", integration)
	at := "https://" + rotatingHost + ":" + m.provider.port
	m.attache(t, "client", "create", "sso", "--integration", integration, "--client-id", "my-app",
		"--auth-url", at+"/authorize", "--token-url", at+"/token", "--secret-file", m.file(t, "secret", "client-secret\n"))
	m.attache(t, "connection", "create", "api", "--integration", integration, "--type", "oauth", "--client", "sso",
		"--allowed-domain", guardedHost, "--allowed-port", m.provider.port)
	_, m.token = m.issue(t, "token", "create", "--integration", integration)
	s := m.start(t)
	m.authorize(t, s)
	s.kill()
	return m
}

// life is one run of the server, and who talks to it.
type life struct {
	cmd  *exec.Cmd
	over chan struct{} // closed when the process is gone
	api  *client.Client
	http *http.Client
}

func (m *mortal) start(t *testing.T) *life {
	t.Helper()
	s := &life{cmd: m.command(context.Background(), "serve", "--config", m.config), over: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = m.printed, m.printed
	m.provider.arm(s, never, 0)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.over)
		_ = s.cmd.Wait() // killed
	}()
	t.Cleanup(s.kill)
	var err error
	if s.api, err = client.New(client.Options{Socket: filepath.Join(m.dir, "admin.sock")}); err != nil {
		t.Fatal(err)
	}
	var status client.Status
	until(t, "the server answers", func() bool {
		status, err = s.api.Status(t.Context())
		return err == nil
	}, m.printed.String)
	ca, err := os.ReadFile(filepath.Join(m.dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	proxy := &url.URL{Scheme: "http", Host: status.ProxyAddress, User: url.UserPassword(integration, m.token)}
	s.http = &http.Client{Timeout: patience, Transport: &http.Transport{
		Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots},
	}}
	return s
}

// kill ends the process, and returns when it is gone.
func (s *life) kill() {
	_ = s.cmd.Process.Kill() // or it is gone
	<-s.over
	if s.api != nil {
		s.api.Close()
	}
	if s.http != nil {
		s.http.CloseIdleConnections()
	}
}

// liveAndDie starts the server, sees that the last death has led to what it had
// to, and kills the server in a refresh.
func (m *mortal) liveAndDie(t *testing.T) {
	t.Helper()
	s := m.start(t)
	steps := everyStep
	if m.fate == abandoned || m.random.IntN(4) > 0 {
		m.verify(t, s)
	} else if m.fate == lost {
		steps = callSteps // the recovery gets no token that could be used
	}
	delay := time.Duration(m.random.IntN(6000)) * time.Microsecond
	at := steps[m.random.IntN(len(steps))]
	m.provider.arm(s, at, delay)
	until(t, "the server dies", func() bool {
		m.provider.expire()
		_, _ = m.get(t, s) // fails when the server dies
		c, err := s.api.Connection(t.Context(), integration, attache.OAuth, "api")
		if err == nil && c.State == attache.GrantNeedsReauth {
			s.kill() // the recovery was over before the step was set
		}
		select {
		case <-s.over:
			return true
		default:
			return false
		}
	}, func() string { return fmt.Sprintf("it was to die at step %d, with a grant %s", at, m.fate) })
	s.kill()
	m.fate = m.autopsy(t)
	m.fates[m.fate]++
}

// verify sees that the server has made of its data what it had to.
func (m *mortal) verify(t *testing.T, s *life) {
	t.Helper()
	var shown client.Connection
	show := func(want attache.GrantState) {
		t.Helper()
		until(t, fmt.Sprintf("a grant %s becomes %s", m.fate, want), func() bool {
			_, _ = m.get(t, s) // makes the server look at the grant; what matters is how it stands then
			var err error
			if shown, err = s.api.Connection(t.Context(), integration, attache.OAuth, "api"); err != nil {
				t.Fatal(err)
			}
			return shown.State == want
		}, func() string { return fmt.Sprintf("it is %s (%s)", shown.State, shown.ErrorCode) })
	}
	if m.fate == lost || m.fate == abandoned {
		m.provider.expire()
		show(attache.GrantNeedsReauth)
		if shown.ErrorCode != oauth.CodeInterrupted || shown.Advice != oauth.Advice(oauth.CodeInterrupted) {
			t.Errorf("a grant %s says %q: %q", m.fate, shown.ErrorCode, shown.Advice)
		}
		m.authorize(t, s)
	}
	if status, err := m.get(t, s); status != http.StatusNoContent {
		t.Errorf("a request with a grant %s: %d %v", m.fate, status, err)
	}
	show(attache.GrantActive)
}

// get sends a request through the proxy.
func (m *mortal) get(t *testing.T, s *life) (status int, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+guardedHost+":"+m.provider.port+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// authorize is a person who says yes.
func (m *mortal) authorize(t *testing.T, s *life) {
	t.Helper()
	const back = "http://127.0.0.1:9/oauth/callback"
	a, err := s.api.Authorize(t.Context(), integration, "api", client.Authorize{Flow: client.CodeFlow, RedirectURL: back})
	if err != nil {
		t.Fatal(err)
	}
	answer := back + "?" + url.Values{"state": {a.State}, "code": {"code"}}.Encode()
	if _, err := s.api.FinishAuthorization(t.Context(), integration, "api", a.State, secret.New(answer)); err != nil {
		t.Fatal(err)
	}
}

// autopsy looks at what the dead server has left on disk.
func (m *mortal) autopsy(t *testing.T) fate {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: m.dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	c, err := s.Connection(t.Context(), integration, "api")
	if err != nil {
		t.Fatal(err)
	}
	g := c.Grant
	known := m.provider.judge(g.RefreshToken.Expose())
	switch {
	case g.State == attache.GrantNeedsReauth, g.Intent != nil && g.Intent.Recovered:
		return abandoned
	case known == lost:
		if g.Intent == nil || g.State != attache.GrantRefreshing {
			t.Errorf("the refresh token on disk is spent, and the state is %s with the intent %v", g.State, g.Intent)
		}
		m.provider.excuse(g.RefreshToken.Expose())
	case g.Intent == nil:
		return stored
	}
	return known
}

// TestAPoliteEndWaitsForASlowProvider ends the server while a provider takes longer
// than everything else that an end waits for.
func TestAPoliteEndWaitsForASlowProvider(t *testing.T) {
	m := newMortal(t, build(t, "."), 1)
	s := m.start(t)
	spent := make(chan struct{}, 1)
	m.provider.answer(func() {
		spent <- struct{}{}
		<-time.After(16 * time.Second)
	})
	m.provider.expire()
	go func() { _, _ = m.get(t, s) }() // is cut off
	<-spent
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-s.over
	if fate := m.autopsy(t); fate != stored || !s.cmd.ProcessState.Success() {
		t.Errorf("the server ended with %v and left a grant %s", s.cmd.ProcessState, fate)
	}
}
