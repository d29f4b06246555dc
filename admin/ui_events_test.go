package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/admin"
	"attache/secret"
)

// rows reads a stream's next message and returns its data.
func rows(t testing.TB, lines *bufio.Scanner, want string) string {
	t.Helper()
	var kind string
	var data []string
	for lines.Scan() {
		switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
		case "event":
			kind = value
		case "data":
			data = append(data, value)
		case "":
			if kind == want {
				return strings.Join(data, "\n")
			}
			kind, data = "", nil
		default:
			t.Errorf("the stream has the line %q", lines.Text())
		}
	}
	t.Fatalf("the stream ends without %s: %v", want, lines.Err())
	return ""
}

// stream opens a stream of rows; reading it is bounded by the test's context.
func (b *browser) stream(path string) (lines *bufio.Scanner, end func()) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), "GET", b.url+path, nil)
	must(b.t, err)
	resp, err := b.http.Do(r)
	must(b.t, err)
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || ct != "text/event-stream" {
		b.t.Fatalf("%s: %d %s", path, resp.StatusCode, ct)
	}
	lines = bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return lines, func() { _ = resp.Body.Close() }
}

func firstRows(t testing.TB, b *browser) string {
	t.Helper()
	lines, end := b.stream("/events/stream")
	defer end()
	return rows(t, lines, "rows")
}

// paths are the paths of the events in a page or a message, in order.
func paths(text string) []string {
	var found []string
	for _, part := range strings.Split(text, "https://api.example.com")[1:] {
		path, _, _ := strings.Cut(part, "</code>")
		found = append(found, path)
	}
	return found
}

func event(path string, decision attache.Action) attache.Event {
	e := attache.Event{
		ID: path, Time: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Kind: attache.RequestEvent, Decision: decision, Method: "GET",
		Target: "https://api.example.com", Path: path, Status: 200, Integration: "bot", Duration: 0.0421,
	}
	switch decision {
	case attache.Deny:
		e.Status, e.Code, e.Reason = 403, attache.CodeNoConnection, "nothing covers the host"
	case attache.Inject:
		e.Connection = "tickets"
	}
	return e
}

func TestEventsAreShownNewestFirst(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	if page := b.get("/events").body; !strings.Contains(page, "No events yet") {
		t.Error("an empty page does not say so")
	}
	s.ring.Record(new(event("/1", attache.Inject)))
	s.ring.Record(new(event("/2", attache.Tunnel)))
	if page := b.get("/events?decision=deny").body; !strings.Contains(page, "Nothing was denied lately") {
		t.Error("an empty page of denials does not say so")
	}
	s.ring.Record(new(event("/3", attache.Deny)))
	all := b.get("/events").body
	if diff := cmp.Diff([]string{"/3", "/2", "/1"}, paths(all)); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{
		`<tr class="event inject">`, `<span class="decision deny">deny</span>`, ">403<", "no_connection", "nothing covers the host",
		"bot / <strong>tickets</strong>", "42.1 ms", "2026-01-31 12:00:00",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if diff := cmp.Diff([]string{"/3"}, paths(b.get("/events?decision=deny").body)); diff != "" {
		t.Error(diff)
	}
}

func TestAnOpenPageIsKeptUpToDate(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	s.ring.Record(new(event("/1", attache.Inject)))
	lines, end := b.stream("/events/stream")
	defer end()
	denials, endDenials := b.stream("/events/stream?decision=deny")
	defer endDenials()
	if diff := cmp.Diff([]string{"/1"}, paths(rows(t, lines, "rows"))); diff != "" {
		t.Errorf("at first: %s", diff)
	}
	if diff := cmp.Diff([]string(nil), paths(rows(t, denials, "rows"))); diff != "" {
		t.Errorf("of denials at first: %s", diff)
	}
	s.ring.Record(new(event("/2", attache.Tunnel)))
	if diff := cmp.Diff([]string{"/2", "/1"}, paths(rows(t, lines, "rows"))); diff != "" {
		t.Errorf("then: %s", diff)
	}
	s.ring.Record(new(event("/3", attache.Deny)))
	if diff := cmp.Diff([]string{"/3"}, paths(rows(t, denials, "rows"))); diff != "" {
		t.Errorf("of denials then: %s", diff)
	}
	close(s.done)
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("as the server shuts down, the stream ends with %v", err)
	}
}

// TestAFloodOfEventsIsSentOnceASecond holds what an open page costs.
func TestAFloodOfEventsIsSentOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTimed(t, 24*time.Hour)
		session := u.signIn()
		var wg sync.WaitGroup
		wg.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for i := range 5000 {
				<-tick.C
				u.ring.Record(new(event(fmt.Sprintf("/%d", i), attache.Tunnel)))
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		sent := u.do(ctx, "GET", "/events/stream", session, nil).Body.String()
		wg.Wait()
		if n := strings.Count(sent, "event: rows"); n < 5 || n > 7 {
			t.Errorf("of five thousand events in five seconds, the rows were sent %d times", n)
		}
		if strings.Contains(sent, "heartbeat") {
			t.Error("what had been sent was looked at again")
		}
		last := sent[strings.LastIndex(sent, "event: rows"):]
		if got := paths(last); len(got) != 100 || got[0] != "/4999" {
			t.Errorf("at last, the rows are %v", got)
		}
	})
}

func TestStreamsOfPagesAndOfTheAPIAreBoundedTogether(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	for range 64 {
		_, end := b.stream("/events/stream")
		defer end()
	}
	for _, got := range []answer{b.get("/events/stream"), b.do("GET", "/api/v1/events", nil, as(s.token(attache.RoleViewer)), "Accept: text/event-stream")} {
		if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
			t.Errorf("one more stream is answered with %d", got.status)
		}
	}
}

func TestExplainShowsTheDecision(t *testing.T) {
	s := start(t)
	b := s.browser()
	b.signIn(s.token(attache.RoleViewer))
	if page := b.get("/explain").body; !strings.Contains(page, "attache integration create") {
		t.Error("without integrations, the page does not say how to make one")
	}
	must(t, s.store.CreateIntegration(t.Context(), attache.Integration{Name: "bot"}))
	for name, domain := range map[string]attache.AllowedDomain{"exact": "api.example.com", "wide": "*.example.com"} {
		must(t, s.store.CreateConnection(t.Context(), attache.Connection{
			Integration: "bot", Name: name, Type: attache.APIKey, HeaderName: "X-Special", AllowedDomain: domain, AllowedPorts: []uint16{443},
			Credential: attache.Credential{APIKey: secret.New("Canary7b1f")},
		}))
	}
	for sentence, test := range map[string]struct {
		form   url.Values
		status int
		says   []string
	}{
		"the narrower domain wins": {
			url.Values{"url": {"https://api.example.com/x?y=z"}}, 200,
			[]string{`<span class="decision inject">inject</span>`, "X-Special: [redacted]", "is wider than", "<code>Proxy-Authorization</code>", `value="https://api.example.com/x"`},
		},
		"a named connection wins": {
			url.Values{"url": {"https://api.example.com/"}, "connection": {"wide"}, "method": {"POST"}}, 200,
			[]string{`<dd><strong>wide</strong></dd>`, `<option selected>POST</option>`, "the client named another connection"},
		},
		"plain http is refused": {
			url.Values{"url": {"http://api.example.com/"}}, 200,
			[]string{`<span class="decision deny">deny</span>`, "plaintext_refused"},
		},
		"tunnels to other hosts are passed on": {
			url.Values{"url": {"https://example.org/"}, "method": {"CONNECT"}}, 200,
			[]string{`<span class="decision tunnel">tunnel</span> passed on without being decrypted`},
		},
		"a wrong URL is explained at its field": {
			url.Values{"url": {"api.example.com"}}, 422,
			[]string{`aria-invalid="true" aria-describedby="url-fault"`, `<small id="url-fault">url is not an http or https URL: write it as https://host/path</small>`, `value="api.example.com"`},
		},
		"a wrong name is explained at its field": {
			url.Values{"url": {"https://api.example.com/"}, "connection": {"a b"}}, 422,
			[]string{`<small id="connection-fault">connection must be`},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			test.form.Set("integration", "bot")
			got := b.do("POST", "/explain", test.form)
			if got.status != test.status {
				t.Errorf("answered %d", got.status)
			}
			for _, want := range test.says {
				if !strings.Contains(got.body, want) {
					t.Errorf("the page lacks %q:\n%s", want, got.body)
				}
			}
		})
	}
	if got := b.do("POST", "/explain", url.Values{"integration": {"gone"}, "url": {"https://api.example.com/"}}); got.status != 404 {
		t.Errorf("an integration that is gone: %d", got.status)
	}
}

// A visitor who comes to every interface is shown the name that led there.
func TestTheProxysAddressIsOneThatCanBeReached(t *testing.T) {
	for _, c := range []struct {
		listening string
		tls       bool
		want      string // the proxy's URL
	}{
		{"127.0.0.1:3128", false, "http://default:ACCESS_TOKEN@127.0.0.1:3128"},
		{"0.0.0.0:3128", false, "http://default:ACCESS_TOKEN@admin.example.com:3128"},
		{"[::]:3128", true, "https://default:ACCESS_TOKEN@admin.example.com:3128"},
		{"", false, ""},
	} {
		s := startAs(t, admin.Instance{ProxyAddress: c.listening, ProxyTLS: c.tls})
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "POST", "http://admin.example.com:3129/sign-in", strings.NewReader("token="+s.token(attache.RoleViewer).Expose()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		s.api.ServeHTTP(w, r)
		r = httptest.NewRequestWithContext(t.Context(), "GET", "http://admin.example.com:3129/", nil)
		r.AddCookie(w.Result().Cookies()[0])
		w = httptest.NewRecorder()
		s.api.ServeHTTP(w, r)
		_, after, _ := strings.Cut(html.UnescapeString(w.Body.String()), "HTTPS_PROXY='")
		if got, _, _ := strings.Cut(after, "'"); got != c.want {
			t.Errorf("listening on %q, the proxy is shown at %q, want %q", c.listening, got, c.want)
		}
	}
}
