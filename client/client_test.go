package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"attache"
	"attache/client"
	"attache/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(o)
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// status answers like the API's status.
func status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"version":"1.2.3"}`)
}

func TestOptionsNameOneServerThatTheTokenMayGoTo(t *testing.T) {
	token := secret.New("attadmin_canary")
	for sentence, test := range map[string]struct {
		options client.Options
		ok      bool
	}{
		"a socket":                            {client.Options{Socket: "/run/admin.sock"}, true},
		"a handler":                           {client.Options{Handler: http.NotFoundHandler()}, true},
		"https anywhere":                      {client.Options{URL: "https://admin.example.com", Token: token}, true},
		"https with a port and a slash":       {client.Options{URL: "https://admin.example.com:3129/", Token: token}, true},
		"http on an IPv4 loopback address":    {client.Options{URL: "http://127.0.0.1:3129", Token: token}, true},
		"http on the IPv6 loopback address":   {client.Options{URL: "http://[::1]:3129", Token: token}, true},
		"http on localhost":                   {client.Options{URL: "http://localhost:3129", Token: token}, true},
		"http elsewhere shows the token":      {client.Options{URL: "http://admin.example.com", Token: token}, false},
		"http on a name that looks loopback":  {client.Options{URL: "http://127.0.0.1.example.com", Token: token}, false},
		"a URL with user information":         {client.Options{URL: "https://attadmin_canary@admin.example.com"}, false},
		"a URL with a path":                   {client.Options{URL: "https://admin.example.com/api/v1"}, false},
		"another scheme":                      {client.Options{URL: "ftp://127.0.0.1"}, false},
		"no scheme":                           {client.Options{URL: "127.0.0.1:3129"}, false},
		"nothing":                             {client.Options{}, false},
		"a socket and a URL at the same time": {client.Options{Socket: "/s", URL: "https://admin.example.com"}, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := client.New(test.options)
			if test.ok != (err == nil) || err != nil && !errors.Is(err, client.ErrOptions) {
				t.Errorf("got %v, want it accepted: %v", err, test.ok)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

func TestTheTokenIsSentAndNoProxyIsUsed(t *testing.T) {
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the proxy was used") })
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	var got string
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		status(w, r)
	})
	c := connect(t, client.Options{URL: server.URL, Token: secret.New("attadmin_x")})
	answered, err := c.Status(t.Context())
	must(t, err)
	if got != "Bearer attadmin_x" || answered.Version != "1.2.3" {
		t.Errorf("sent %q, got %+v", got, answered)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	c := connect(t, client.Options{URL: server.URL, Token: secret.New("attadmin_x")})
	_, err := c.CreateConnection(t.Context(), "bot", attache.BearerToken, client.NewConnection{
		Name: "tickets", Credential: client.Credential{Token: secret.Outgoing{Text: secret.New("canary")}},
	})
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Problem.Status != http.StatusTemporaryRedirect {
		t.Errorf("got %v", err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v", err, refused), "canary") {
		t.Errorf("the error shows the secret: %v", err)
	}
}

func TestSecretsTravelAndDoNotPrint(t *testing.T) {
	var got string
	c := connect(t, client.Options{Token: secret.New("attadmin_canary"), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = string(b)
		_, _ = io.WriteString(w, `{"id":"x","token":"att_canary"}`)
	})})
	ask := client.NewConnection{Name: "tickets", AllowedDomain: "api.example.com", Credential: client.Credential{
		Token: secret.Outgoing{Text: secret.New("canary")},
	}}
	_, err := c.CreateConnection(t.Context(), "bot", attache.BearerToken, ask)
	must(t, err)
	if want := `{"name":"tickets","allowed_domain":"api.example.com","token":"canary"}`; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
	made, err := c.CreateAccessToken(t.Context(), "bot", time.Time{})
	must(t, err)
	if got != "{}" || made.Token.Expose() != "att_canary" {
		t.Errorf("sent %s, got %q", got, made.Token.Expose())
	}
	if printed := fmt.Sprintf("%v %+v %#v %+v", ask, made, made, *c); strings.Contains(printed, "canary") {
		t.Errorf("printed: %s", printed)
	}
}

func TestErrorsSayWhatTheServerSays(t *testing.T) {
	answer := func(p attache.Problem) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
			w.WriteHeader(p.Status)
			_ = json.NewEncoder(w).Encode(p)
		}
	}
	for sentence, test := range map[string]struct {
		handler http.HandlerFunc
		is      error
		says    string
	}{
		"something is missing": {answer(attache.Problem{Status: 404, Code: "not_found", Title: "It does not exist", Detail: "Nothing has that name."}),
			attache.ErrNotFound, "It does not exist: Nothing has that name."},
		"something is taken": {answer(attache.Problem{Status: 409, Code: "already_exists", Title: "The name is taken"}),
			attache.ErrExists, "The name is taken"},
		"a route is missing, which is something else": {answer(attache.Problem{Status: 404, Code: "unknown_route", Title: "No route"}), nil, "No route"},
		"fields are wrong": {answer(attache.Problem{Status: 422, Title: "Invalid", Errors: []attache.ProblemField{
			{Field: "name", Rule: "is too short", Remedy: "write more"}, {Field: "token", Rule: "is empty"},
		}}), nil, "name is too short: write more; token is empty"},
		"the server failed": {answer(attache.Problem{Status: 500, Title: "It failed", RequestID: "r1"}), nil, "It failed (request_id r1)"},
		"somebody else answers": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) },
			nil, "Bad Gateway"},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := connect(t, client.Options{Handler: test.handler})
			_, err := c.Status(t.Context())
			var refused *client.Error
			if !errors.As(err, &refused) || err.Error() != test.says {
				t.Errorf("got %v, want %s", err, test.says)
			}
			for _, sentinel := range []error{attache.ErrNotFound, attache.ErrExists} {
				if errors.Is(err, sentinel) != (sentinel == test.is) {
					t.Errorf("is %v: %v", sentinel, errors.Is(err, sentinel))
				}
			}
		})
	}
}

func TestANameCannotChangeThePath(t *testing.T) {
	var got string
	c := connect(t, client.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.EscapedPath() + "?" + r.URL.RawQuery
		w.WriteHeader(http.StatusNoContent)
	})})
	must(t, c.DeleteIntegration(t.Context(), "a/../b?c#d"))
	if want := "/api/v1/integrations/a%2F..%2Fb%3Fc%23d?"; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	for _, name := range []string{"", ".", ".."} {
		if err := c.DeleteIntegration(t.Context(), name); !errors.Is(err, attache.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestACallEndsWithItsTimeoutOrContext(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	must(t, err)
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(hang)}}
	server.Start()
	t.Cleanup(server.Close)
	for name, o := range map[string]client.Options{
		"a socket":     {Socket: socket},
		"this process": {Handler: http.HandlerFunc(hang)},
	} {
		t.Run(name, func(t *testing.T) {
			o.Timeout = 20 * time.Millisecond
			if _, err := connect(t, o).Status(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the timeout gives %v", err)
			}
			o.Timeout = time.Hour
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := connect(t, o).Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the context gives %v", err)
			}
		})
	}
}

func TestAnAnswerInProcessStreams(t *testing.T) {
	more := make(chan struct{})
	c := connect(t, client.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, ": hello\n\ndata: {\"request_id\":\"a\"}\n\n")
		select {
		case <-more:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "data: {\"request_id\":\"b\"}\n\n")
		<-r.Context().Done() // until the reader has had enough
	})})
	var got string
	for e, err := range c.Events(t.Context()) {
		must(t, err)
		if got += e.ID; got == "ab" {
			break
		}
		close(more)
	}
	if got != "ab" {
		t.Errorf("got %q", got)
	}
}

func TestABrokenStreamIsAnError(t *testing.T) {
	for _, body := range []string{"data: {\n\n", "event: missed\ndata: x\n\n"} {
		c := connect(t, client.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, body)
		})})
		var last error
		for _, err := range c.Events(t.Context()) {
			last = err
		}
		if last == nil || errors.Is(last, client.ErrMissed) {
			t.Errorf("%q: %v", body, last)
		}
	}
}
