package main_test

import (
	"net/http"
	"sync"
	"testing"

	"attache"
)

// An upstream that holds its 401 back until its connection was deleted, and made
// anew for another host, gets no token of the new one.
func TestAnUpstreamGetsNothingOfASuccessor(t *testing.T) {
	m := newMortal(t, build(t, "."), 1)
	s := m.start(t)
	m.provider.expire()
	var uses int
	succeed := sync.OnceFunc(func() {
		if err := s.api.DeleteConnection(t.Context(), integration, attache.OAuth, "api"); err != nil {
			t.Error(err)
		}
		m.attache(t, "connection", "create", "api", "--integration", integration, "--type", "oauth", "--client", "sso",
			"--allowed-domain", "other.example.test", "--allowed-port", m.provider.port)
		m.authorize(t, s)
	})
	m.provider.use(func() {
		uses++
		succeed()
		m.provider.expire()
	})
	given := m.provider.given
	if status, err := m.get(t, s); status != http.StatusUnauthorized || uses != 1 {
		t.Errorf("after %d requests, the client got %d %v", uses, status, err)
	}
	if now := m.provider.given; now != given+1 {
		t.Errorf("the provider gave %d tokens, want one: the new connection's grant was spent for the old", now-given)
	}
}
