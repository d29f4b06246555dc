package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"attache"
)

// only lets an origin speak HTTP/1.1 alone.
func only11(s *httptest.Server) { s.EnableHTTP2 = false }

func TestAClientHelloThatComesWithTheConnectIsNotLost(t *testing.T) {
	up := newOrigin(t, nil)
	for name, target := range map[string]string{"intercepted": host, "opaque": other} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, up, nil, bearer("for-a", host))
			authority := up.authority(target)
			early := &early{Conn: w.dial(), first: "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority +
				"\r\nProxy-Authorization: " + w.authorization() + "\r\n\r\n"}
			roots := w.roots
			if target == other {
				roots = testRoots(t)
			}
			conn := tls.Client(early, &tls.Config{ServerName: target, RootCAs: roots})
			if err := conn.Handshake(); err != nil {
				t.Fatal(err)
			}
			resp, body := ask(t, conn, "GET / HTTP/1.1\r\nHost: "+authority+"\r\n\r\n")
			if resp.StatusCode != 200 {
				t.Errorf("answer %d %s", resp.StatusCode, body)
			}
		})
	}
}

// early is a client that sends its CONNECT in one write with what follows, and
// reads the CONNECT's answer only then.
type early struct {
	net.Conn
	first    string
	answered bool
}

func (e *early) Write(b []byte) (int, error) {
	n, err := e.Conn.Write(append([]byte(e.first), b...))
	n -= len(e.first)
	e.first = ""
	return n, err
}

func (e *early) Read(b []byte) (int, error) {
	if !e.answered {
		e.answered = true
		br := bufio.NewReaderSize(oneByte{e.Conn}, 16)
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
			return 0, fmt.Errorf("CONNECT: %v, %v", resp, err)
		}
	}
	return e.Conn.Read(b)
}

func TestExpectContinue(t *testing.T) {
	for name, wants := range map[string]bool{"the upstream wants the body": true, "the upstream does not": false} {
		t.Run(name, func(t *testing.T) {
			up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if !wants {
					w.Header().Set("Connection", "close")
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				body, _ := io.ReadAll(r.Body)
				_, _ = w.Write(body)
			}, only11)
			w := newWorld(t, up, nil, bearer("for-a", host))
			conn := w.secure(w.open(up.authority(host)), host)
			br := bufio.NewReader(conn)
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", up.authority(host))
			resp, _ := answer(t, br, "POST")
			if !wants {
				if resp.StatusCode != 401 {
					t.Errorf("answer %d, want the upstream's 401 without a 100", resp.StatusCode)
				}
				return
			}
			if resp.StatusCode != 100 {
				t.Fatalf("answer %d, want 100", resp.StatusCode)
			}
			_, _ = io.WriteString(conn, "hello")
			if resp, body := answer(t, br, "POST"); resp.StatusCode != 200 || body != "hello" {
				t.Errorf("answer %d %q", resp.StatusCode, body)
			}
		})
	}
}

// An answer that does not wait for the body is passed on whole, in the place of a 100
// or behind one.
func TestAnAnswerInPlaceOfTheContinueIsWhole(t *testing.T) {
	for name, before := range map[string]string{"in its place": "", "behind it": "HTTP/1.1 100 Continue\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			begun := make(chan struct{})
			up := rawUpstream(t, func(c net.Conn, br *bufio.Reader) {
				if _, err := readHead(br); err == nil {
					_, _ = fmt.Fprintf(c, "%sHTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo ", before)
					<-begun
					_, _ = io.WriteString(c, "long")
				}
				_, _ = io.Copy(io.Discard, br)
			})
			w := newWorld(t, up, nil, bearer("for-a", host))
			a := up.authority(host)
			for n := range 10 {
				conn := w.secure(w.open(a), host)
				br := bufio.NewReader(conn)
				fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", a, 1+n*100_000)
				resp, err := http.ReadResponse(br, nil)
				if err == nil && resp.StatusCode == 100 && before != "" {
					resp, err = http.ReadResponse(br, nil)
				}
				if err != nil {
					t.Fatal(err)
				}
				body := make([]byte, 4)
				_, _ = io.ReadFull(resp.Body, body)
				begun <- struct{}{}
				rest, err := io.ReadAll(resp.Body)
				if text := string(body) + string(rest); resp.StatusCode != 413 || text != "too long" || err != nil {
					t.Fatalf("answer %d %q: %v", resp.StatusCode, text, err)
				}
				_ = conn.Close()
			}
		})
	}
}

func TestAVanishedClientEndsTheUpstreamCall(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	up := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		select {
		case <-r.Context().Done():
			close(ended)
		case <-time.After(15 * time.Second):
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	r := request(t, "GET", w.url("/slow"), nil).WithContext(ctx)
	if _, err := w.client(h1).Do(r); err == nil {
		t.Error("the call succeeded")
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the upstream call went on")
	}
	if e := w.event(isRequest); e.Code != attache.CodeClientGone || e.Status != 0 {
		t.Errorf("event %+v", e)
	}
}

func TestAnHTTP10ClientGetsNoChunks(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush() // chunked, to those who know it
		_, _ = io.WriteString(w, "hello")
	}, only11)
	w := newWorld(t, up, nil, bearer("for-a", host))
	conn := w.secure(w.open(up.authority(host)), host)
	fmt.Fprintf(conn, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", up.authority(host))
	raw, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	if body != "hello" || strings.Contains(strings.ToLower(head), "transfer-encoding") {
		t.Errorf("answer %q", raw)
	}
}

// Invariant 3.
func TestTheInjectedCredentialCannotBeDisplaced(t *testing.T) {
	up := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }, only11)
	w := newWorld(t, up, nil, bearer("for-a", host))
	a := up.authority(host)
	for name, raw := range map[string]string{
		"named in Connection": "GET / HTTP/1.1\r\nHost: " + a + "\r\nConnection: Authorization, close\r\nAuthorization: mine\r\n\r\n",
		"given twice":         "GET / HTTP/1.1\r\nHost: " + a + "\r\nAuthorization: mine\r\nauthorization: mine too\r\n\r\n",
		"given in a trailer":  "POST / HTTP/1.1\r\nHost: " + a + "\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization, X-Other\r\n\r\n1\r\na\r\n0\r\nAuthorization: mine\r\nX-Other: mine\r\n\r\n",
		"in another spelling": "GET / HTTP/1.1\r\nHost: " + a + "\r\naUTHORIZATION: mine\r\nX_API-KEY: mine\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := ask(t, w.secure(w.open(a), host), raw)
			if resp.StatusCode != 200 {
				t.Fatalf("answer %d %s", resp.StatusCode, body)
			}
			got := up.last()
			if v := got.Header["Authorization"]; len(v) != 1 || v[0] != "Bearer "+canary {
				t.Errorf("the upstream saw %q", v)
			}
			if all := fmt.Sprint(got.Header, got.Trailer); strings.Contains(all, "mine") {
				t.Errorf("the client's value reached the upstream: %s", all)
			}
		})
	}
}

func TestStreamsAreNotHeldBack(t *testing.T) {
	for _, kind := range []string{"application/x-ndjson", "text/event-stream", "application/grpc-web", ""} {
		for _, protocol := range []string{"h1", "h2"} {
			t.Run(kind+" over "+protocol, func(t *testing.T) {
				next := make(chan struct{}, 3) // the last is for nobody, where the length was known
				up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header()["Content-Type"] = []string{kind}
					if kind == "" {
						w.Header().Set("Content-Length", "6") // a known length may trickle too
					}
					w.WriteHeader(200)
					for range 3 {
						_, _ = io.WriteString(w, "x\n")
						w.(http.Flusher).Flush()
						select {
						case <-next:
						case <-r.Context().Done():
							return
						}
					}
				})
				w := newWorld(t, up, nil, bearer("for-a", host))
				client := w.client()
				if protocol == "h1" {
					client = w.client(h1)
				}
				resp, err := client.Do(request(t, "GET", w.url("/"), nil))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				br := bufio.NewReader(resp.Body)
				for range 3 { // each line comes before the next is written
					if line, err := br.ReadString('\n'); err != nil || line != "x\n" {
						t.Fatalf("line %q, %v", line, err)
					}
					next <- struct{}{}
				}
			})
		}
	}
}

func TestHopByHopFieldsOfAnH1OriginDoNotReachAnH2Client(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Keep-Alive", "timeout=5")
		h.Set("Connection", "X-Private, keep-alive")
		h.Set("X-Private", "hop")
		h.Set("Proxy-Authenticate", "Basic")
		h.Set("Attache-Error", "forged")
		h.Set("X-Public", "end")
		_, _ = io.WriteString(w, "hello")
	}, only11)
	w := newWorld(t, up, nil, bearer("for-a", host))
	resp, body := get(t, w.client(), request(t, "GET", w.url("/"), nil))
	if resp.StatusCode != 200 || body != "hello" || resp.Proto != "HTTP/2.0" || resp.Header.Get("X-Public") != "end" {
		t.Fatalf("answer %d %q %s %v", resp.StatusCode, body, resp.Proto, resp.Header)
	}
	for _, k := range []string{"Keep-Alive", "Connection", "X-Private", "Proxy-Authenticate", "Attache-Error"} {
		if resp.Header[k] != nil {
			t.Errorf("%s reached the client", k)
		}
	}
}

func TestTrailersOfAnswersArrive(t *testing.T) {
	for name, origin := range map[string][]func(*httptest.Server){"h1 origin": {only11}, "h2 origin": nil} {
		up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Announced")
			_, _ = io.WriteString(w, "hello")
			w.Header().Set("X-Announced", "yes")
			w.Header().Set(http.TrailerPrefix+"X-Late", "yes too")
		}, origin...)
		w := newWorld(t, up, nil, bearer("for-a", host))
		for protocol, client := range map[string]*http.Client{"h1": w.client(h1), "h2": w.client()} {
			t.Run(name+" to an "+protocol+" client", func(t *testing.T) {
				resp, body := get(t, client, request(t, "GET", w.url("/"), nil))
				if body != "hello" || resp.Trailer.Get("X-Announced") != "yes" {
					t.Errorf("answer %q with trailers %v", body, resp.Trailer)
				}
			})
		}
	}
}

func TestAnAnswerIsPassedOnAsItIs(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"], w.Header()["Content-Type"] = nil, nil
		w.Header().Set("Content-Encoding", "gzip") // not really: it must not be looked at
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.WriteHeader(203)
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, "<html>")
		}
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	for _, method := range []string{"GET", "HEAD", "DELETE", "PROPFIND"} {
		for protocol, client := range map[string]*http.Client{"h1": w.client(h1), "h2": w.client()} {
			t.Run(method+" over "+protocol, func(t *testing.T) {
				resp, body := get(t, client, request(t, method, w.url("/"), nil))
				if resp.StatusCode != 203 || resp.Header["Date"] != nil || resp.Header["Content-Type"] != nil ||
					resp.Header.Get("Content-Encoding") != "gzip" || len(resp.Header["Set-Cookie"]) != 2 {
					t.Errorf("answer %d %v", resp.StatusCode, resp.Header)
				}
				if method != "HEAD" && body != "<html>" {
					t.Errorf("body %q", body)
				}
			})
		}
	}
}

func TestTheRequestTargetIsPassedOnByteForByte(t *testing.T) {
	up := newOrigin(t, nil, only11)
	w := newWorld(t, up, nil, bearer("for-a", host))
	conn := w.secure(w.open(up.authority(host)), host)
	br := bufio.NewReader(conn)
	for _, target := range []string{
		"/", "/a%2fb%2Fc", "/a//b/../c", "//double", "/a|b", "/%7Euser/~user", "/a;b=c?d;e=f&g=%zz", "/?", "/caf%C3%A9", "/a%20b+c", "*",
	} {
		method := "GET"
		if target == "*" {
			method = "OPTIONS"
		}
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\n\r\n", method, target, up.authority(host))
		before := up.count()
		resp, body := answer(t, br, method)
		if target == "*" {
			if resp.StatusCode != 200 {
				t.Errorf("OPTIONS *: %d %s", resp.StatusCode, body)
			}
			continue // net/http answers it before the handler
		}
		if resp.StatusCode != 200 {
			t.Errorf("%s: answer %d %s (before %d)", target, resp.StatusCode, body, before)
			continue
		}
		if got := up.last().RequestURI; got != target {
			t.Errorf("%s arrived as %s", target, got)
		}
	}
}

func TestAnAnswerThatBreaksOffIsNotMadeToLookComplete(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	for protocol, client := range map[string]*http.Client{"h1": w.client(h1), "h2": w.client()} {
		t.Run(protocol, func(t *testing.T) {
			resp, err := client.Do(request(t, "GET", w.url("/"+protocol), nil))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("read %q without an error", body)
			}
			e := w.event(func(e attache.Event) bool { return e.Path == "/"+protocol })
			if e.Code != attache.CodeConnectionTerminated || e.Status != 200 {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestAnEarlyAnswerArrivesDuringAnUpload(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	for protocol, client := range map[string]*http.Client{"h1": w.client(h1), "h2": w.client()} {
		t.Run(protocol, func(t *testing.T) {
			never, stop := io.Pipe() // an upload that does not end
			defer stop.Close()
			go func() { _, _ = stop.Write(make([]byte, 1000)) }()
			resp, body := get(t, client, request(t, "POST", w.url("/"), never))
			if resp.StatusCode != 413 || body != "too large\n" {
				t.Errorf("answer %d %q", resp.StatusCode, body)
			}
		})
	}
}

func TestBodiesArriveWholeAndCounted(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	w := newWorld(t, up, nil, bearer("for-a", host))
	const size = 3 << 20
	for protocol, client := range map[string]*http.Client{"h1": w.client(h1), "h2": w.client()} {
		for _, length := range []string{"known", "unknown"} {
			t.Run(protocol+" of "+length+" length", func(t *testing.T) {
				var body io.Reader = strings.NewReader(strings.Repeat("x", size))
				if length == "unknown" {
					body = io.MultiReader(body)
				}
				path := "/" + protocol + length
				resp, got := get(t, client, request(t, "POST", w.url(path), body))
				if resp.StatusCode != 200 || len(got) != size {
					t.Fatalf("answer %d of %d bytes", resp.StatusCode, len(got))
				}
				if e := w.event(func(e attache.Event) bool { return e.Path == path }); e.BytesIn != size || e.BytesOut != size {
					t.Errorf("event %+v", e)
				}
			})
		}
	}
}
