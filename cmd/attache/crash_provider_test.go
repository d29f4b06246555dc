package main_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"attache/certs"
)

const (
	rotatingHost = "id.example.test"
	guardedHost  = "api.example.test"
)

// step is where in a refresh the server is killed.
type step int

const (
	never      step = iota
	connecting      // before the provider gets the request
	received        // the provider has the request and has not looked at it
	spent           // the provider has spent the token and has not answered
	answered        // the answer is on its way
	later           // some time after that
	used            // the new token has reached the API
)

var (
	everyStep = []step{connecting, received, spent, answered, later, later, used}
	callSteps = everyStep[:6]
)

// rotating is an OAuth provider that gives a new refresh token with each answer
// and takes the use of an old one for theft, and the API that takes its tokens. It
// kills the server that asks, at a step.
type rotating struct {
	port   string
	caFile string

	mu      sync.Mutex // guards what follows
	given   int
	refresh string          // the one that is good; empty: the grant is revoked
	access  map[string]bool // those that are good
	past    map[string]bool // refresh tokens that are spent
	excused map[string]bool // of those, what may be spent once more: who did it cannot know
	thefts  []string        // others that were spent again
	onSpent func()          // called before a refresh is answered; nil: nothing is
	onUse   func()          // called before the API looks at a token; nil: nothing is
	step    step
	delay   time.Duration // with later
	victim  *life
}

func newRotating(t *testing.T) *rotating {
	t.Helper()
	ca, err := certs.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	minter := certs.NewMinter(certs.MinterOptions{})
	minter.Use(ca)
	p := &rotating{
		caFile: filepath.Join(t.TempDir(), "provider-ca.pem"),
		access: map[string]bool{}, past: map[string]bool{}, excused: map[string]bool{},
	}
	if err := os.WriteFile(p.caFile, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+rotatingHost+"/token", p.token)
	mux.HandleFunc(guardedHost+"/", p.guarded)
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv.Config.SetKeepAlivesEnabled(false) // each call begins with a handshake
	srv.TLS = &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return minter.Leaf(hello.Context(), hello.ServerName)
		},
		// Unlike GetCertificate, it is called when a session is resumed, too.
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if hello.ServerName == rotatingHost {
				p.reach(connecting)
			}
			return nil, nil
		},
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	if _, p.port, err = net.SplitHostPort(srv.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return p
}

// arm has a server killed when it gets to a step.
func (p *rotating) arm(s *life, at step, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.victim, p.step, p.delay = s, at, delay
}

// reach kills the server if this is the step, and returns when it is dead.
func (p *rotating) reach(at step) (killed bool) {
	p.mu.Lock()
	victim, delay := p.victim, p.delay
	if killed = p.step == at; killed {
		p.step = never
	}
	p.mu.Unlock()
	if !killed {
		return false
	}
	if at == later {
		<-time.After(delay)
	}
	victim.kill()
	return true
}

func (p *rotating) token(w http.ResponseWriter, r *http.Request) {
	refreshes := r.PostFormValue("grant_type") == "refresh_token"
	if refreshes && p.reach(received) {
		return
	}
	status, answer := p.spend(refreshes, r.PostFormValue("refresh_token"))
	if refreshes && p.reach(spent) {
		return
	}
	p.mu.Lock()
	onSpent := p.onSpent
	p.mu.Unlock()
	if refreshes && onSpent != nil {
		onSpent()
	}
	w.Header().Set("Content-Type", "application/json")
	body, _ := json.Marshal(answer)                           // strings and a number
	w.Header().Set("Content-Length", strconv.Itoa(len(body))) // so that it is whole before the handler returns
	w.WriteHeader(status)
	_, _ = w.Write(body) // or the client is gone
	_ = http.NewResponseController(w).Flush()
	if refreshes && !p.reach(answered) {
		p.reach(later)
	}
}

func (p *rotating) spend(refreshes bool, refresh string) (status int, answer map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.victim.over: // and its disk has been looked at
		return http.StatusServiceUnavailable, nil
	default:
	}
	if refreshes && (refresh == "" || refresh != p.refresh) {
		if p.past[refresh] && !p.excused[refresh] {
			p.thefts = append(p.thefts, refresh)
		}
		delete(p.excused, refresh)
		p.refresh = ""
		clear(p.access)
		return http.StatusBadRequest, map[string]any{"error": "invalid_grant"}
	}
	clear(p.excused)
	p.past[p.refresh] = true
	p.given++
	p.refresh = fmt.Sprintf("refresh-%d", p.given)
	access := fmt.Sprintf("access-%d", p.given)
	p.access[access] = true
	return http.StatusOK, map[string]any{
		"access_token": access, "refresh_token": p.refresh, "token_type": "bearer", "expires_in": 2,
	}
}

// guarded is the API.
func (p *rotating) guarded(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	onUse := p.onUse
	p.mu.Unlock()
	if onUse != nil {
		onUse()
	}
	p.mu.Lock()
	var token string
	_, _ = fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %s", &token)
	good := p.access[token]
	p.mu.Unlock()
	switch {
	case !good:
		w.WriteHeader(http.StatusUnauthorized)
	case !p.reach(used):
		w.WriteHeader(http.StatusNoContent)
	}
}

// use sets what is called before the API looks at a token.
func (p *rotating) use(onUse func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onUse = onUse
}

// answer sets what is called before a refresh is answered.
func (p *rotating) answer(onSpent func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onSpent = onSpent
}

// expire ends all access tokens.
func (p *rotating) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.access)
}

// judge says what a refresh token that somebody has is worth.
func (p *rotating) judge(refresh string) fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if refresh == p.refresh {
		return unspent
	}
	return lost
}

// excuse allows that a token is spent again, once.
func (p *rotating) excuse(refresh string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.excused[refresh] = true
}

// check sees that no token was spent again whose answer was there.
func (p *rotating) check(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.thefts) > 0 {
		t.Errorf("spent again: %v", p.thefts)
	}
}
