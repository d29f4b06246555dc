package proxy_test

import (
	"bufio"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"attache"
	"attache/proxy"
)

// A conversation is the same on the fast path and on the ordinary one, whether that
// uses the pool or not: what the upstream is asked, what the client is answered, and
// what the events say.

// conversation is what either peer sends. In what the client sends, HOST stands
// for the tunnel's target.
type conversation struct {
	client   string
	upstream string // its answer to each request; empty: okAnswer
	closes   bool   // the upstream, after its answer
}

// account is what one path made of a conversation.
type account struct {
	Asked    []asked
	Answered []answered
	Told     []told
}

type asked struct {
	Method, Target, Host, Body string
	Header                     http.Header
	Length                     int64
	Err                        bool // inside it
}

type answered struct {
	Status          int
	Header, Trailer http.Header
	Body            string
	Length          int64
	Err             bool // inside it
}

// told is what of an event is the same on all paths.
type told struct {
	Method, Path, Target, Connection, Reason string
	Decision                                 attache.Action
	Code                                     attache.Code
	Status                                   int
	BytesIn, BytesOut                        int64
}

// paths is a proxy of each kind in front of one upstream.
type paths struct {
	fast, ordinary, pooled *world
	up                     *origin

	mu     sync.Mutex // guards what follows
	asked  []asked
	answer string
	closes bool
}

// newPaths has proxies that wait so long for what does not come.
func newPaths(t testing.TB, patience time.Duration) *paths {
	p := &paths{}
	p.up = rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					p.note(asked{Err: true})
				}
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // who has asked is answered, and so asks once
			body, err := io.ReadAll(r.Body)
			answer, closes := p.note(asked{r.Method, r.RequestURI, r.Host, string(body), r.Header, r.ContentLength, err != nil})
			if err != nil {
				return
			}
			if r.Method == http.MethodHead && answer == okAnswer { // net/http may or may not take its body for the next answer
				answer = strings.TrimSuffix(answer, "ok")
			}
			if _, err := io.WriteString(c, answer); err != nil || closes {
				return
			}
		}
	})
	limits := func(s *proxy.Settings) {
		s.Limits.HeadTimeout, s.Limits.IdleTimeout = 2*patience, patience
		s.Upstream.ResponseTimeout = patience
	}
	p.fast = newWorld(t, p.up, limits, bearer("for-a", host))
	ordinary := func(s *proxy.Settings) { limits(s); s.Ordinary = true }
	p.ordinary = newWorld(t, p.up, ordinary, bearer("for-a", host))
	p.ordinary.proxy.LearnNoOrigin()
	p.pooled = newWorld(t, p.up, ordinary, bearer("for-a", host))
	return p
}

func (p *paths) note(a asked) (answer string, closes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, a)
	return p.answer, p.closes
}

// compare has the conversation on all paths.
func (p *paths) compare(t *testing.T, c conversation) {
	t.Helper()
	p.mu.Lock()
	p.answer, p.closes = cmp.Or(c.upstream, okAnswer), c.closes
	p.mu.Unlock()
	sent := strings.ReplaceAll(c.client, "HOST", p.up.authority(host))
	have := func(w *world) account {
		return p.have(t, w, func(open func(...string) net.Conn) []answered {
			conn := open()
			defer conn.Close()
			_, _ = io.WriteString(conn, sent)
			return readAnswers(conn, methods(sent))
		})
	}
	p.alike(t, fmt.Sprintf("%q, answered %.200q", sent, c.upstream), have)
}

// alike compares what the paths made of a conversation.
func (p *paths) alike(t *testing.T, about string, have func(*world) account) {
	t.Helper()
	p.pooled.assumeHTTP1()
	ordinary := have(p.ordinary)
	for name, w := range map[string]*world{"fast": p.fast, "pooled": p.pooled} {
		other := have(w)
		if diff := gocmp.Diff(ordinary, other); diff != "" {
			t.Errorf("%s: the ordinary path (-) and the %s one (+):\n%s", about, name, diff)
		}
		for _, a := range other.Asked {
			if v := a.Header["Authorization"]; len(v) != 1 || v[0] != "Bearer "+canary {
				t.Errorf("%s: the upstream saw Authorization %q", about, v)
			}
		}
	}
}

// have lets somebody talk through a tunnel of that proxy, who opens and closes it.
func (p *paths) have(t *testing.T, w *world, talk func(open func(protocols ...string) net.Conn) []answered) (a account) {
	t.Helper()
	w.mu.Lock()
	w.events = nil
	w.mu.Unlock()
	p.mu.Lock()
	p.asked = nil
	p.mu.Unlock()

	a.Answered = talk(func(protocols ...string) net.Conn {
		return w.secure(w.open(p.up.authority(host)), host, protocols...)
	})
	w.event(isConnect)
	w.proxy.WaitForHandlers() // over HTTP/2 they may be later

	p.mu.Lock()
	for _, asked := range p.asked {
		if normal(asked.Header); !asked.Err { // whether the upstream has seen that is a matter of time
			a.Asked = append(a.Asked, asked)
		}
	}
	p.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.events, func(a, b attache.Event) int { return a.Time.Compare(b.Time) })
	for _, e := range w.events {
		if e.Code != "" {
			e.BytesOut = 0
		}
		if e.Status == http.StatusBadGateway {
			e.Code, e.Reason = "", ""
		}
		if e.Kind == attache.RequestEvent {
			a.Told = append(a.Told, told{e.Method, e.Path, e.Target, e.Connection, e.Reason, e.Decision, e.Code, e.Status, e.BytesIn, e.BytesOut})
		}
	}
	return a
}

// methods are those of the requests in sent, as far as they can be told.
func methods(sent string) (found []string) {
	br := bufio.NewReader(strings.NewReader(sent))
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return found
		}
		found = append(found, r.Method)
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

func readAnswers(conn net.Conn, methods []string) (all []answered) {
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	br := bufio.NewReader(conn)
	for i := 0; ; {
		method := "GET"
		if i < len(methods) {
			method = methods[i]
		}
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return all
		}
		body, err := io.ReadAll(resp.Body)
		body = requestID.ReplaceAll(body, nil)
		if resp.StatusCode == http.StatusBadGateway { // in which of its ways an upstream spoke no HTTP
			body = nil
			delete(resp.Header, "Attache-Error")
			delete(resp.Header, "Proxy-Status")
		}
		normal(resp.Header)
		if len(resp.Trailer) == 0 {
			resp.Trailer = nil
		}
		length := resp.ContentLength
		if resp.Header.Get("Content-Type") == "application/problem+json" || length == 0 { // an id has more digits, or fewer
			length = -1
		}
		all = append(all, answered{resp.StatusCode, resp.Header, resp.Trailer, string(body), length, err != nil})
		if resp.StatusCode >= 200 {
			i++
		}
	}
}

var requestID = regexp.MustCompile(`,"request_id":"[^"]*"`)

// normal takes out what a hop may say in its own way.
func normal(h http.Header) {
	for _, k := range []string{"Connection", "Content-Length", "Transfer-Encoding", "Trailer", "Date"} {
		delete(h, k)
	}
}

// lastRequest ends a conversation, where it is taken for a request.
const lastRequest = "GET /end HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"

func TestBothPathsReadRequestsAlike(t *testing.T) {
	if !hasFastPath() {
		return // there is one path
	}
	for name, client := range requestShapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newPaths(t, time.Second).compare(t, conversation{client: client + lastRequest})
		})
	}
}

func TestBothPathsReadAnswersAlike(t *testing.T) {
	if !hasFastPath() {
		return
	}
	for name, c := range answerShapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := cmp.Or(c.client, "GET /a HTTP/1.1\r\nHost: HOST\r\n\r\n")
			newPaths(t, time.Second).compare(t, conversation{client + lastRequest, c.upstream, c.closes})
		})
	}
}

// FuzzPaths lets a client send anything that it likes.
func FuzzPaths(f *testing.F) {
	if flag.Lookup("test.fuzz").Value.String() != "" { // the tests above have them
		for _, client := range requestShapes {
			f.Add(client)
		}
	}
	f.Add("GET /a HTTP/1.1\r\nHost: HOST\r\n\r\n")
	p := newPaths(f, 150*time.Millisecond)
	f.Fuzz(func(t *testing.T, client string) {
		if len(client) > 4<<10 || strings.Contains(client, canary) {
			return
		}
		for _, w := range []*world{p.fast, p.ordinary, p.pooled} {
			w.t = t
			defer func() { w.t = f }()
			for len(w.news) > 0 {
				<-w.news
			}
		}
		p.compare(t, conversation{client: client + lastRequest})
	})
}
