package main

import (
	"context"
	"errors"
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

func TestErrandsThatWaitAtTheEndAreToldSo(t *testing.T) {
	s := newTestServer(t)
	end := running(t, s)
	ran := make(chan error)
	s.later(func(ctx context.Context) {
		<-ctx.Done()
		ran <- nil
	})
	s.later(func(ctx context.Context) { ran <- ctx.Err() })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		end()
	}()
	if err := errors.Join(<-ran, <-ran); !errors.Is(err, context.Canceled) {
		t.Errorf("the errand that waited got %v", err)
	}
	<-ended
}
