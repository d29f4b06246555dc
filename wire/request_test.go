package wire_test

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attache/wire"
)

// plainRequests are heads that every server reads alike.
var plainRequests = map[string]string{
	"a path":                          "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a query":                         "GET /a/b?c=d&e=[f];g='h' HTTP/1.1\r\nHost: a:8443\r\n\r\n",
	"escapes":                         "GET /%41%2f%c3%a4?%20 HTTP/1.1\r\nHost: a\r\n\r\n",
	"two slashes, which are a path":   "GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n",
	"dots, which are for the server":  "GET /a/../b/./c HTTP/1.1\r\nHost: a\r\n\r\n",
	"a method of one letter":          "G / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a method of 32 letters":          strings.Repeat("M", 32) + " / HTTP/1.1\r\nHost: a\r\n\r\n",
	"TRACE, which is for others":      "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a length":                        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
	"a length of nothing":             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"a length of 18 digits":           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999999\r\n\r\n",
	"a length with a tab after it":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\t\r\n\r\n",
	"no length where there could be":  "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
	"names in any case":               "GET / HTTP/1.1\r\nhOST: a\r\naccept: */*\r\nX_y.Z!#$%&'*+-^`|~0: 1\r\n\r\n",
	"no space after the colon":        "GET / HTTP/1.1\r\nHost:a\r\nX:y\r\n\r\n",
	"space and tabs around the value": "GET / HTTP/1.1\r\nHost: \t a\t \r\nX: \t y z\t \r\n\r\n",
	"a value without anything":        "GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t \r\n\r\n",
	"a value with colons and a tab":   "GET / HTTP/1.1\r\nHost: a\r\nX: a:b: \tc\r\n\r\n",
	"a value of high bytes":           "GET / HTTP/1.1\r\nHost: a\r\nX: \xff\xc3\xa4\x80\r\n\r\n",
	"a name twice":                    "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nx: 2\r\nX: 1\r\n\r\n",
	"a connection that is kept":       "GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n\r\n",
	"an empty Host":                   "GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"Pragma":                          "GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n",
	"128 fields besides Host":         "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 128) + "\r\n",
	"a credential, for others":        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nProxy-Authorization: y\r\nAttache-Connection: z\r\n\r\n",
	"names that only look like one":   "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\nTransfer-Encodin: chunked\r\n\r\n",
	"chunks":                          "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n",
	"the wish for a 100":              "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
	"chunks, and the wish for a 100":  "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
	"and what follows the head":       "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n",
}

// oddRequests are for net/http, or for nobody.
var oddRequests = map[string]string{
	"a length and chunks":             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
	"chunks and a length":             "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
	"chunks, in other words":          "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
	"chunks twice":                    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
	"chunks in a list":                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
	"another expectation":             "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 5\r\n\r\n",
	"the wish for a 100 twice":        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
	"identity":                        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
	"two lengths":                     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
	"two lengths that are the same":   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
	"two lengths of nothing":          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
	"lengths in a list":               "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n",
	"a length with a sign":            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
	"a negative length":               "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
	"a length with a leading zero":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 05\r\n\r\n",
	"a length in hexadecimal":         "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n",
	"a length with a point":           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\n",
	"a length with a space inside":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n",
	"a length of 19 digits":           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000000000\r\n\r\n",
	"a length that overflows":         "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\n",
	"a length that is empty":          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
	"a length in other digits":        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xd9\xa5\r\n\r\n",
	"a bare LF after the first line":  "GET / HTTP/1.1\nHost: a\r\n\r\n",
	"a bare LF after a field":         "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
	"a bare LF at the end":            "GET / HTTP/1.1\r\nHost: a\r\n\n",
	"only bare LFs":                   "GET / HTTP/1.1\nHost: a\n\n",
	"a bare CR in a value":            "GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: 1\r\n\r\n",
	"a bare CR before the line's end": "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n",
	"a bare CR in the first line":     "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
	"NUL in a value":                  "GET / HTTP/1.1\r\nHost: a\r\nX: y\x00z\r\n\r\n",
	"NUL in a name":                   "GET / HTTP/1.1\r\nHost: a\r\nX\x00: y\r\n\r\n",
	"DEL in a value":                  "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
	"a vertical tab around a value":   "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \v5\r\n\r\n",
	"a folded value":                  "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
	"a folded value, by a tab":        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz: 1\r\n\r\n",
	"a space before the first field":  "GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n",
	"a space before the colon":        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
	"a tab before the colon":          "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n",
	"a space inside a name":           "GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
	"an empty name":                   "GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
	"a name of high bytes":            "GET / HTTP/1.1\r\nHost: a\r\n\xc3\xa4: y\r\n\r\n",
	"a name with parentheses":         "GET / HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n",
	"a line without a colon":          "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
	"129 fields besides Host":         "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 129) + "\r\n",
	"no Host":                         "GET / HTTP/1.1\r\nX: y\r\n\r\n",
	"no field":                        "GET / HTTP/1.1\r\n\r\n",
	"two Hosts":                       "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"two Hosts that are the same":     "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
	"HTTP/1.0":                        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
	"HTTP/1.2":                        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
	"HTTP/2's preface":                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"HTTP/1.1 in small letters":       "GET / http/1.1\r\nHost: a\r\n\r\n",
	"no version":                      "GET /\r\nHost: a\r\n\r\n",
	"something after the version":     "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
	"two spaces before the target":    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
	"two spaces before the version":   "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
	"a tab in the first line":         "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"a space in front":                " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"an empty line in front":          "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"nothing but line ends":           "\r\n\r\n",
	"a method in small letters":       "get / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a method with a hyphen":          "M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a method of 33 letters":          strings.Repeat("M", 33) + " / HTTP/1.1\r\nHost: a\r\n\r\n",
	"CONNECT":                         "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
	"CONNECT with a path":             "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n",
	"an absolute URL":                 "GET https://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"an asterisk":                     "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"a target without its slash":      "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
	"no target":                       "GET  HTTP/1.1\r\nHost: a\r\n\r\n",
	"a fragment":                      "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
	"a backslash":                     "GET /\\b HTTP/1.1\r\nHost: a\r\n\r\n",
	"high bytes in the target":        "GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
	"half an escape":                  "GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n",
	"an escape that is none":          "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	"an escape cut by the query":      "GET /%4?1 HTTP/1.1\r\nHost: a\r\n\r\n",
	"a per cent sign at the end":      "GET /a?% HTTP/1.1\r\nHost: a\r\n\r\n",
	"a connection that closes":        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"a nominated field":               "GET / HTTP/1.1\r\nHost: a\r\nConnection: Authorization\r\n\r\n",
	"a nominated field, in a list":    "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X\r\n\r\n",
	"an empty Connection":             "GET / HTTP/1.1\r\nHost: a\r\nConnection:\r\n\r\n",
	"an upgrade":                      "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
	"HTTP2-Settings":                  "GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: x\r\n\r\n",
	"any expectation":                 "GET / HTTP/1.1\r\nHost: a\r\nexpect:\r\n\r\n",
	"TE":                              "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
	"Trailer":                         "GET / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\n\r\n",
	"a ClientHello":                   "\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n",
}

func TestPlainRequestsAreRead(t *testing.T) {
	var r wire.Request // one for all, as it is used
	for name, head := range plainRequests {
		size, err := r.Parse([]byte(head))
		if want := strings.Index(head, "\r\n\r\n") + 4; err != nil || size != want {
			t.Errorf("%s: size %d, %v; want %d", name, size, err, want)
		}
	}
}

func TestOddRequestsAreDeclined(t *testing.T) {
	var r wire.Request
	for name, head := range oddRequests {
		if size, err := r.Parse([]byte(head)); !errors.Is(err, wire.ErrOdd) || size != 0 {
			t.Errorf("%s: size %d, %v", name, size, err)
		}
	}
}

func TestARequestIsWhatItsHeadSays(t *testing.T) {
	type request struct {
		Method, Target, Host string
		Length               int64
		Chunked, Expects     bool
		Fields               [][3]string
	}
	var r wire.Request
	for head, want := range map[string]request{
		"POST /a%2fb?c HTTP/1.1\r\nX: 1\r\nHost:\ta:1 \r\nconnection: KEEP-alive\r\nContent-Length: 12\r\nKeep-Alive: 1\r\nx:  2\t\r\n\r\n": {
			"POST", "/a%2fb?c", "a:1", 12, false, false,
			[][3]string{{"X", "1", "X: 1\r\n"}, {"Content-Length", "12", "Content-Length: 12\r\n"}, {"x", "2", "x:  2\t\r\n"}},
		},
		"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n": {
			"POST", "/", "b", 0, true, true, [][3]string{{"Expect", "100-continue", "Expect: 100-continue\r\n"}},
		},
		"GET / HTTP/1.1\r\nHost: b\r\n\r\n": {"GET", "/", "b", 0, false, false, nil}, // nothing stays of the one before
	} {
		if _, err := r.Parse([]byte(head)); err != nil {
			t.Fatal(err)
		}
		got := request{string(r.Method), string(r.Target), string(r.Host), r.Length, r.Chunked, r.Expects, nil}
		for _, f := range r.Fields {
			got.Fields = append(got.Fields, [3]string{string(f.Name), string(f.Value), string(f.Line)})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// A head that is not there in full is waited for, or declined early; what a
// parser says of the whole, it never says the contrary of before.
func TestRequestsMayArriveByteByByte(t *testing.T) {
	var r wire.Request
	for name, head := range plainRequests {
		for n := range strings.Index(head, "\r\n\r\n") + 4 {
			if _, err := r.Parse([]byte(head[:n])); !errors.Is(err, wire.ErrIncomplete) {
				t.Errorf("%s: of %q it says %v", name, head[:n], err)
			}
		}
	}
	for name, head := range oddRequests {
		for n := range len(head) {
			if _, err := r.Parse([]byte(head[:n])); err == nil {
				t.Errorf("%s: %q is taken", name, head[:n])
			}
		}
	}
}

func TestParsingChangesNoByteAndKeepsNone(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var r wire.Request
	for name, head := range plainRequests {
		b := []byte(head)
		if _, err := r.Parse(b); err != nil {
			t.Fatal(err)
		}
		if string(b) != head {
			t.Errorf("%s: it is now %q", name, b)
		}
		// What follows the head is not looked at.
		for range 10 {
			tail := make([]byte, random.IntN(20))
			for i := range tail {
				tail[i] = byte(random.Uint32())
			}
			end := strings.Index(head, "\r\n\r\n") + 4
			if size, err := r.Parse(append([]byte(head[:end]), tail...)); err != nil || size != end {
				t.Errorf("%s, and then %q: size %d, %v", name, tail, size, err)
			}
		}
	}
}

func TestFieldsAreToldApartByTheirNames(t *testing.T) {
	f := wire.Field{Name: []byte("Proxy-Status")}
	for name, got := range map[string]bool{
		"proxy-status": f.Is("proxy-status"), "proxy-": f.HasPrefix("proxy-"), "": f.HasPrefix(""),
		"the whole name as prefix": f.HasPrefix("proxy-status"),
	} {
		if !got {
			t.Errorf("%q does not match", name)
		}
	}
	for name, got := range map[string]bool{
		"proxy-statu": f.Is("proxy-statu"), "proxy-statuses": f.Is("proxy-statuses"), "attache-": f.HasPrefix("attache-"),
		"a longer prefix": f.HasPrefix("proxy-status-"), "another byte": f.Is("proxy_status"),
	} {
		if got {
			t.Errorf("%q matches", name)
		}
	}
}

func TestParsingTakesNoMemory(t *testing.T) {
	head := []byte("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: " + strconv.Itoa(1<<20) + "\r\n" + strings.Repeat("X: y\r\n", 20) + "\r\n")
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n" + strings.Repeat("X: y\r\n", 20) + "\r\n")
	var r wire.Request
	var a wire.Response
	if n := testing.AllocsPerRun(100, func() { _, _ = r.Parse(head); _, _ = a.Parse(answer) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
