package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAServerIsAliveFromStartToEndAndReadyBetween(t *testing.T) {
	s := newTestServer(t)
	answers := func(path string, want int) {
		t.Helper()
		w := httptest.NewRecorder()
		s.metricsHandler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s answers %d %s, want %d", path, w.Code, w.Body, want)
		}
	}
	answers("/healthz", http.StatusOK)
	answers("/readyz", http.StatusServiceUnavailable)
	end := running(t, s)
	awaiting(t, "the server runs", s.ready.Load)
	answers("/readyz", http.StatusOK)
	end()
	answers("/readyz", http.StatusServiceUnavailable)
	answers("/healthz", http.StatusOK)
}
