package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"attache/wire"
)

var wholeChunks = map[string]string{
	"nothing":                         "0\r\n\r\n",
	"one":                             "4\r\nbody\r\n0\r\n\r\n",
	"two":                             "2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
	"hexadecimal digits in any case":  "00a\r\n0123456789\r\n0A\r\n0123456789\r\n0\r\n\r\n",
	"zeros":                           "0000000000000004\r\nbody\r\n0000000000000000\r\n\r\n",
	"extensions":                      "4;a=b;c=\"d; e\"\r\nbody\r\n0;f\r\n\r\n",
	"an extension of high bytes":      "4;\xc3\xa4\r\nbody\r\n0\r\n\r\n",
	"a size with padding":             "4  \t\r\nbody\r\n0 \r\n\r\n",
	"an empty extension":              "4;\r\nbody\r\n0\r\n\r\n",
	"line ends in the data":           "6\r\n\r\n0\r\n\r\r\n0\r\n\r\n",
	"trailers":                        "4\r\nbody\r\n0\r\nX: y\r\nZ:\r\n\r\n",
	"a trailer that is none":          "4\r\nbody\r\n0\r\nX\r\n\r\n",
	"a trailer that is folded":        "0\r\nX: y\r\n z\r\n\r\n",
	"a size line of 256 bytes":        "4;" + strings.Repeat("x", 253) + "\r\nbody\r\n0\r\n\r\n",
	"a trailer section of 16 KiB":     "0\r\nX: " + strings.Repeat("y", 16<<10-len("X: \r\n\r\n")) + "\r\n\r\n",
	"what could be a head as trailer": "0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
}

var brokenChunks = map[string]string{
	"no size":                          "\r\nbody\r\n0\r\n\r\n",
	"only an extension":                ";a\r\n\r\n",
	"a space before the size":          " 4\r\nbody\r\n0\r\n\r\n",
	"a sign":                           "+4\r\nbody\r\n0\r\n\r\n",
	"a negative size":                  "-4\r\nbody\r\n0\r\n\r\n",
	"0x":                               "0x4\r\nbody\r\n0\r\n\r\n",
	"another letter":                   "4g\r\nbody\r\n0\r\n\r\n",
	"an underscore":                    "1_0\r\nbody\r\n0\r\n\r\n",
	"a size of 17 digits":              "10000000000000004\r\nbody\r\n0\r\n\r\n",
	"17 digits, most of them zeros":    "00000000000000004\r\nbody\r\n0\r\n\r\n",
	"a word after the size":            "4 a\r\nbody\r\n0\r\n\r\n",
	"a digit after the padding":        "4 4\r\nbody\r\n0\r\n\r\n",
	"an extension after the padding":   "4 ;a\r\nbody\r\n0\r\n\r\n",
	"a bare LF after the size":         "4\nbody\r\n0\r\n\r\n",
	"a bare LF after an extension":     "4;a\nbody\r\n0\r\n\r\n",
	"a bare CR after the size":         "4\rbody\r\n0\r\n\r\n",
	"a bare CR in an extension":        "4;a\rb\r\nbody\r\n0\r\n\r\n",
	"two CRs":                          "4\r\r\nbody\r\n0\r\n\r\n",
	"NUL in an extension":              "4;\x00\r\nbody\r\n0\r\n\r\n",
	"more data than the size":          "4\r\nbodyy\r\n0\r\n\r\n",
	"less data than the size":          "5\r\nbody\r\n0\r\n\r\n",
	"no line end after the data":       "4\r\nbody0\r\n\r\n",
	"a bare LF after the data":         "4\r\nbody\n0\r\n\r\n",
	"a bare CR after the data":         "4\r\nbody\r0\r\n\r\n",
	"a bare LF at the end":             "0\r\n\n",
	"a bare LF after a trailer":        "0\r\nX: y\n\r\n",
	"bare LFs after a trailer":         "0\r\nX: y\n\n",
	"a size line of more than 256":     "4;" + strings.Repeat("x", 300) + "\r\nbody\r\n0\r\n\r\n",
	"a trailer section of more":        "0\r\n" + strings.Repeat("X: y\r\n", 3000) + "\r\n",
	"a trailer line of more":           "0\r\nX: " + strings.Repeat("y", 17<<10),
	"a size that ends before its line": "4",
}

func TestChunksAreReadHoweverTheyAreCut(t *testing.T) {
	for name, body := range wholeChunks {
		whole := decode(t, []byte(body+"more"), nil)
		if !whole.Done || whole.Left != "more" {
			t.Errorf("%s: %+v", name, whole)
		}
		for first := range min(len(body), 500) {
			if parts := decode(t, []byte(body+"more"), []byte{byte(first), 0, 200}); parts != whole {
				t.Errorf("%s: cut after %d bytes it is\n%s", name, first+1, cmp.Diff(whole, parts))
			}
		}
	}
}

func TestBrokenChunksAreNotRead(t *testing.T) {
	for name, body := range brokenChunks {
		for _, sizes := range [][]byte{nil, {0}, {2}} {
			if got := decode(t, []byte(body), sizes); got.Done || !got.Failed && name != "a size that ends before its line" {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
}

// A failure comes with the first byte that is wrong, not when more has arrived.
func TestABrokenChunkIsNotWaitedFor(t *testing.T) {
	for _, beginning := range []string{
		"g", "\n", "4g", "4\n", "4\rb", "4;\x00", "4 ;", "4 4", "2\r\nboX", "2\r\nbo\n", "2\r\nbo\rX", "0\r\n\n", "0\r\nX\n",
		"10000000000000000", "0000000000000000" + "0", "4;" + strings.Repeat("x", 300), "0\r\nX: " + strings.Repeat("y", 17<<10),
	} {
		if !decode(t, []byte(beginning), []byte{0}).Failed {
			t.Errorf("%.20q is waited for", beginning)
		}
	}
}

// Any data in any chunks in any pieces are the data.
func TestWhatIsPutIntoChunksComesOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var body, data strings.Builder
		for _, piece := range rapid.SliceOf(rapid.StringMatching("(?s).{1,40}")).Draw(t, "data") {
			data.WriteString(piece)
			size := strings.ToUpper(hex(len(piece)))
			body.WriteString(rapid.SampledFrom([]string{"", "0", "000"}).Draw(t, "zeros") + size)
			body.WriteString(rapid.SampledFrom([]string{"", " ", ";a", ";a=\"b\""}).Draw(t, "extension"))
			body.WriteString("\r\n" + piece + "\r\n")
		}
		trailer := rapid.SampledFrom([]string{"", "X: y\r\n", "X: y\r\nZ: 1\r\n"}).Draw(t, "trailer")
		left := rapid.StringMatching("(?s).{0,9}").Draw(t, "left over")
		sizes := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "sizes")
		got := decode(t, []byte(body.String()+"0\r\n"+trailer+"\r\n"+left), sizes)
		want := decoded{Data: data.String(), Trailer: trailer, Left: left, Done: true}
		if got != want {
			t.Fatal(cmp.Diff(want, got))
		}
	})
}

func hex(n int) string {
	const digits = "0123456789abcdef"
	if n < 16 {
		return digits[n : n+1]
	}
	return hex(n/16) + digits[n%16:n%16+1]
}

func TestTrailersAreFields(t *testing.T) {
	for section, want := range map[string][]string{
		"":                              nil,
		"X: y\r\n":                      {"X: y\r\n"},
		"X: y\r\nA-b:c\r\n":             {"X: y\r\n", "A-b:c\r\n"},
		"X: y\r\nno field\r\n":          nil,
		"X : y\r\n":                     nil,
		"X: y\r\n z\r\n":                nil,
		"X: \x00\r\n":                   nil,
		strings.Repeat("X: y\r\n", 129): nil,
	} {
		var c wire.Chunks
		if _, _, err := c.Decode([]byte("0\r\n" + section + "\r\n")); err != nil || !c.Done {
			t.Fatalf("%q: %v", section, err)
		}
		var got []string
		for _, f := range c.TrailerFields() {
			got = append(got, string(f.Line))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", section, diff)
		}
	}
}

// The largest size that there is fits, and no data overflow it.
func TestAChunkMayBeAsLargeAsItSays(t *testing.T) {
	var c wire.Chunks
	b := []byte("ffffffffffffffff\r\nsome data")
	if n, used, err := c.Decode(b); err != nil || used != len(b) || string(b[:n]) != "some data" {
		t.Errorf("%q, used %d, %v", b[:n], used, err)
	}
	if n, _, err := c.Decode([]byte("\r\n0\r\n\r\n")); n != 7 || err != nil || c.Done {
		t.Errorf("then %d, %v, done %v", n, err, c.Done)
	}
	c = wire.Chunks{}
	if _, _, err := c.Decode([]byte("fffffffffffffffff")); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("a larger one: %v", err)
	}
}
