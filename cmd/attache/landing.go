package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// callbackPath is the path of the server's callback URL too: a provider that
	// compares paths and not ports, as RFC 8252 (section 7.3) wants it, needs to
	// know one.
	callbackPath = "/oauth/callback"

	landingHead  = 32 << 10 // bytes
	landingGrace = 5 * time.Second
)

// landing is where a browser comes back to after an authorization: a listener on
// loopback that takes one answer and is gone (RFC 8252).
type landing struct{ listener net.Listener }

// listenForBrowser makes a landing. Port 0 is one that the kernel chooses.
func listenForBrowser(ctx context.Context, port uint16) (*landing, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if addressInUse(err) {
		return nil, fmt.Errorf("port %d on loopback is in use: name another with --callback-port", port)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for the browser to come back: %w", err)
	}
	return &landing{l}, nil
}

// url is the callback URL.
func (l *landing) url() string { return loopbackURL(l.listener.Addr().String()) }

func loopbackURL(address string) string { return "http://" + address + callbackPath }

// await waits for the browser to come back with a state. The query that it brings
// is for finish, whose outcome the browser shows and await returns. Whatever else
// comes is sent away. The landing is gone afterwards.
func (l *landing) await(ctx context.Context, state string, finish func(query string) error) error {
	outcome := make(chan error, 1)
	s := &http.Server{
		Handler:           l.handler(state, func(query string) error { return tell(outcome, finish(query)) }),
		MaxHeaderBytes:    landingHead,
		ReadHeaderTimeout: landingGrace,
		WriteTimeout:      time.Minute, // finish asks the provider in the meantime
		IdleTimeout:       landingGrace,
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l.listener) }()
	var err error
	select {
	case err = <-outcome:
	case err = <-served:
		return fmt.Errorf("listen for the browser to come back: %w", err)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	// The page that says how it went is still to be written.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), landingGrace)
	defer cancel()
	if s.Shutdown(grace) != nil {
		_ = s.Close() // whoever is left has had the time
	}
	<-served
	return err
}

// tell sends an error on, and returns it.
func tell(to chan<- error, err error) error {
	to <- err
	return err
}

func (l *landing) handler(state string, finish func(query string) error) http.Handler {
	var once sync.Once
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+callbackPath, func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.URL.Query().Get("state")), []byte(state)) != 1 {
			landed(w, http.StatusBadRequest, notWaiting)
			return
		}
		err := errLanded
		once.Do(func() { err = finish("?" + r.URL.RawQuery) })
		switch {
		case err == nil:
			landed(w, http.StatusOK, authorized)
		case errors.Is(err, errLanded):
			landed(w, http.StatusBadRequest, notWaiting)
		default:
			landed(w, http.StatusBadGateway, notAuthorized)
		}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != l.listener.Addr().String() { // a page elsewhere has given this address a name
			landed(w, http.StatusMisdirectedRequest, notWaiting)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// errLanded: the browser has been here before.
var errLanded = errors.New("the browser has come back already")

// page is what the browser shows in the end. It says nothing that came from
// outside.
type page struct{ Title, Text string }

var (
	authorized    = page{"The connection is authorized", "You can close this page and go back to the terminal."}
	notAuthorized = page{"The connection is not authorized", "Nothing was changed. The terminal says why."}
	notWaiting    = page{"Nobody is waiting for this", "Start again in the terminal, with: attache connection authorize"}
)

var pageTemplate = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{.Title}}</title>
<style>
:root { color-scheme: light dark }
body { font: 1.1rem/1.6 system-ui, sans-serif; max-width: 34rem; margin: 20vh auto; padding: 0 1.5rem }
h1 { font-size: 1.5rem }
</style>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
</html>
`))

func landed(w http.ResponseWriter, status int, p page) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer") // the address has the code in it
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, p) // the browser has gone away
}
