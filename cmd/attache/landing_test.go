package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// land listens for a browser, and returns where, what finish was given, and how
// it ended.
func land(t *testing.T, outcome error) (url string, brought <-chan string, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	l, err := listenForBrowser(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	queries, done := make(chan string, 10), make(chan error, 1)
	go func() {
		done <- l.await(ctx, "the-state", func(query string) error {
			queries <- query
			return outcome
		})
	}()
	return l.url(), queries, done
}

// visit is what a browser sees that is sent to a URL.
func visit(t *testing.T, method, url, host string) (status int, page string, h http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func TestTheBrowserComesBackOnce(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	url, brought, ended := land(t, nil)
	for what, tt := range map[string]struct {
		method, url, host string
		status            int
	}{
		"without a state":         {"GET", url + "?code=c", "", http.StatusBadRequest},
		"with another state":      {"GET", url + "?code=c&state=the-state-", "", http.StatusBadRequest},
		"with two states":         {"GET", url + "?code=c&state=other&state=the-state", "", http.StatusBadRequest},
		"at another path":         {"GET", strings.Replace(url, "callback", "other", 1) + "?state=the-state", "", http.StatusNotFound},
		"with another method":     {"POST", url + "?code=c&state=the-state", "", http.StatusMethodNotAllowed},
		"under a name, by rebind": {"GET", url + "?code=c&state=the-state", "attacker.example", http.StatusMisdirectedRequest},
		"for an icon":             {"GET", strings.Replace(url, "/oauth/callback", "/favicon.ico", 1), "", http.StatusNotFound},
	} {
		if status, _, _ := visit(t, tt.method, tt.url, tt.host); status != tt.status {
			t.Errorf("who comes %s gets %d, want %d", what, status, tt.status)
		}
	}
	if len(brought) != 0 {
		t.Fatalf("they brought %q", <-brought)
	}
	status, page, header := visit(t, "GET", url+"?code=c&state=the-state&iss=https://id.example", "")
	if status != http.StatusOK || !strings.Contains(page, "The connection is authorized") {
		t.Errorf("the browser shows %d: %s", status, page)
	}
	if strings.Contains(page, "the-state") || header.Get("Cache-Control") != "no-store" || header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("the page gives away its address: %v %s", header, page)
	}
	if got, want := <-brought, "?code=c&state=the-state&iss=https://id.example"; got != want {
		t.Errorf("it brought %q, want %q", got, want)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := http.Get(url + "?code=c&state=the-state"); err == nil {
		t.Error("the landing is still there")
	}
}

func TestTheBrowserSaysWhenItDidNotWork(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	refused := errors.New("refused: <b>by " + canary + "</b>")
	url, _, ended := land(t, refused)
	status, page, _ := visit(t, "GET", url+"?error=access_denied&state=the-state", "")
	if status != http.StatusBadGateway || !strings.Contains(page, "The connection is not authorized") || prints(page) {
		t.Errorf("the browser shows %d: %s", status, page)
	}
	if err := <-ended; !errors.Is(err, refused) {
		t.Errorf("it ended with %v", err)
	}
}

func TestNobodyComesBack(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	l, err := listenForBrowser(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errTooLate)
	defer cancel()
	if err := l.await(ctx, "the-state", nil); !errors.Is(err, errTooLate) {
		t.Errorf("it ended with %v", err)
	}
}

func TestAPortThatIsTaken(t *testing.T) {
	l, err := listenForBrowser(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.listener.Close() }()
	port := l.listener.Addr().(*net.TCPAddr).AddrPort().Port()
	if _, err := listenForBrowser(t.Context(), port); err == nil || !strings.Contains(err.Error(), "--callback-port") {
		t.Errorf("a second one on its port gets %v", err)
	}
}
