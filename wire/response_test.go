package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attache/wire"
)

var plainResponses = map[string]string{
	"a length":                       "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
	"a length of nothing":            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	"chunks":                         "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
	"neither, until the end":         "HTTP/1.1 200 OK\r\nX: y\r\n\r\n",
	"no field":                       "HTTP/1.1 200 OK\r\n\r\n",
	"HTTP/1.0":                       "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n",
	"no reason":                      "HTTP/1.1 200 \r\n\r\n",
	"no reason, and no space":        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
	"a reason in other letters":      "HTTP/1.1 404 \xc3\xa4  \t:/\r\nContent-Length: 0\r\n\r\n",
	"a hint":                         "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
	"a switch":                       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
	"no content":                     "HTTP/1.1 204 No Content\r\n\r\n",
	"not modified, with a length":    "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
	"a status of its own":            "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
	"a connection that closes":       "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
	"a connection that is kept":      "HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n",
	"a connection that does both":    "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
	"trailers to come":               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n",
	"a name twice":                   "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n",
	"128 fields":                     "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 128) + "\r\n",
	"a length for no body":           "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n",
	"chunks for no body":             "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
	"names that only look like one":  "HTTP/1.1 200 OK\r\nContent_Length: 5\r\nTransfer-Encodings: chunked\r\nContent-Length: 4\r\n\r\n",
	"what is for others to take out": "HTTP/1.1 200 OK\r\nProxy-Connection: x\r\nAttache-Error: x\r\nContent-Length: 0\r\n\r\n",
}

var oddResponses = map[string]string{
	"a length and chunks":              "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
	"chunks and a length":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
	"chunks twice":                     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
	"chunks in a list":                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
	"identity":                         "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
	"an empty Transfer-Encoding":       "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n",
	"chunks over HTTP/1.0":             "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	"two lengths":                      "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
	"two lengths that are the same":    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n",
	"a length with a sign":             "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\n",
	"a negative length":                "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
	"a length with a leading zero":     "HTTP/1.1 200 OK\r\nContent-Length: 04\r\n\r\n",
	"a length that overflows":          "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551620\r\n\r\n",
	"a length that is empty":           "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
	"a bare LF after the status":       "HTTP/1.1 200 OK\nX: y\r\n\r\n",
	"a bare LF after a field":          "HTTP/1.1 200 OK\r\nX: y\n\r\n\r\n",
	"only bare LFs":                    "HTTP/1.1 200 OK\nContent-Length: 4\n\nbody",
	"a bare CR":                        "HTTP/1.1 200 OK\r\nX: y\rz\r\n\r\n",
	"NUL":                              "HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
	"NUL in the reason":                "HTTP/1.1 200 O\x00K\r\n\r\n",
	"a folded value":                   "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
	"a space before the colon":         "HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\n",
	"an empty name":                    "HTTP/1.1 200 OK\r\n: y\r\n\r\n",
	"a line without a colon":           "HTTP/1.1 200 OK\r\nX\r\n\r\n",
	"129 fields":                       "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 129) + "\r\n",
	"a nominated field":                "HTTP/1.1 200 OK\r\nConnection: close, X\r\n\r\n",
	"an upgrade":                       "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
	"HTTP/1.2":                         "HTTP/1.2 200 OK\r\n\r\n",
	"HTTP/2":                           "HTTP/2 200\r\n\r\n",
	"HTTP/0.9, of a sort":              "<html>\r\n\r\n",
	"a protocol in small letters":      "http/1.1 200 OK\r\n\r\n",
	"a status of two digits":           "HTTP/1.1 20 OK\r\n\r\n",
	"a status of four digits":          "HTTP/1.1 2000 OK\r\n\r\n",
	"a status below 100":               "HTTP/1.1 099 Odd\r\n\r\n",
	"a status with a sign":             "HTTP/1.1 +20 OK\r\n\r\n",
	"a reason without its space":       "HTTP/1.1 200OK\r\n\r\n",
	"two spaces before the status":     "HTTP/1.1  200 OK\r\n\r\n",
	"an empty line in front":           "\r\nHTTP/1.1 200 OK\r\n\r\n",
	"nothing but line ends":            "\r\n\r\n",
	"a version, and nothing else":      "HTTP/1.1\r\n\r\n",
	"a version and a space":            "HTTP/1.1 \r\n\r\n",
	"a version of which a byte is odd": "HTTP/1.\x00 200 OK\r\n\r\n",
}

func TestPlainResponsesAreRead(t *testing.T) {
	var r wire.Response
	for name, head := range plainResponses {
		if size, err := r.Parse([]byte(head + "and more")); err != nil || size != len(head) {
			t.Errorf("%s: size %d, %v; want %d", name, size, err, len(head))
		}
		for n := range len(head) {
			if _, err := r.Parse([]byte(head[:n])); !errors.Is(err, wire.ErrIncomplete) {
				t.Errorf("%s: of %q it says %v", name, head[:n], err)
			}
		}
	}
}

func TestOddResponsesAreDeclined(t *testing.T) {
	var r wire.Response
	for name, head := range oddResponses {
		for n := range len(head) + 1 {
			size, err := r.Parse([]byte(head[:n]))
			if err == nil || size != 0 || n == len(head) && !errors.Is(err, wire.ErrOdd) {
				t.Errorf("%s: of %q it says %d, %v", name, head[:n], size, err)
			}
		}
	}
}

func TestAResponseIsWhatItsHeadSays(t *testing.T) {
	type response struct {
		Status, Minor  int
		Reason         string
		Length         int64
		Chunked, Close bool
		Fields         [][2]string
	}
	var r wire.Response
	for _, c := range []struct {
		head string
		want response
	}{
		{"HTTP/1.1 201 Made it\r\nContent-Length: 4\r\nX:  a \r\nConnection: close\r\n\r\n",
			response{201, 1, " Made it", 4, false, true, [][2]string{{"Content-Length", "4"}, {"X", "a"}}}},
		{"HTTP/1.1 200\r\ntransfer-encoding: chunked\r\nKeep-Alive: 1\r\n\r\n",
			response{200, 1, "", -1, true, false, nil}},
		{"HTTP/1.0 404 \r\nConnection: keep-alive\r\n\r\n",
			response{404, 0, " ", -1, false, true, nil}},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			response{200, 1, " OK", 0, false, false, [][2]string{{"Content-Length", "0"}}}},
	} {
		if _, err := r.Parse([]byte(c.head)); err != nil {
			t.Fatal(err)
		}
		got := response{r.Status, r.Minor, string(r.Reason), r.Length, r.Chunked, r.Close, nil}
		for _, f := range r.Fields {
			got.Fields = append(got.Fields, [2]string{string(f.Name), string(f.Value)})
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q: %s", c.head, diff)
		}
	}
}

func TestSomeAnswersHaveNoBody(t *testing.T) {
	for _, c := range []struct {
		head, method string
		want         bool
	}{
		{"HTTP/1.1 200 OK\r\n\r\n", "GET", true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "POST", true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", true},
		{"HTTP/1.1 205 Reset Content\r\n\r\n", "GET", true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "HEAD", false},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", false},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", "GET", false},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", "GET", false},
		{"HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\n", "GET", false},
	} {
		var r wire.Response
		if _, err := r.Parse([]byte(c.head)); err != nil {
			t.Fatal(err)
		}
		if got := r.HasBody([]byte(c.method)); got != c.want {
			t.Errorf("%q to %s: a body: %v", c.head, c.method, got)
		}
	}
}
