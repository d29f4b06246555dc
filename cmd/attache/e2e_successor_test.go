package main_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"attache"
)

// An upstream that holds its 401 back until its connection was deleted, and made
// anew for another host, gets no token of the new one.
func TestAnUpstreamGetsNothingOfASuccessor(t *testing.T) {
	m := newMortal(t, build(t, "."), 1)
	s := m.start(t)
	var uses atomic.Int64
	succeed := sync.OnceFunc(func() {
		if err := s.api.DeleteConnection(t.Context(), integration, attache.OAuth, "api"); err != nil {
			t.Error(err)
		}
		m.attache(t, "connection", "create", "api", "--integration", integration, "--type", "oauth", "--client", "sso",
			"--allowed-domain", "other.example.test", "--allowed-port", m.provider.port)
		m.authorize(t, s)
	})
	m.provider.use(func() {
		uses.Add(1)
		succeed()
		m.provider.expire()
	})
	if status, err := m.get(t, s); status != http.StatusUnauthorized || uses.Load() != 1 {
		t.Errorf("after %d requests to the old host, the client got %d %v", uses.Load(), status, err)
	}
}
