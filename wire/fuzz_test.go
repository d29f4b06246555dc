package wire_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/http/httpguts"

	"attache/wire"
)

// What package wire accepts, net/http reads alike: the same head, which ends at
// the same byte, and the same body.

func FuzzRequest(f *testing.F) {
	for _, heads := range []map[string]string{plainRequests, oddRequests} {
		for _, head := range heads {
			f.Add([]byte(head))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r wire.Request
		size, err := r.Parse(b)
		if err != nil {
			return
		}
		rest := bytes.NewReader(b)
		br := bufio.NewReader(rest)
		theirs, err := http.ReadRequest(br)
		if err != nil {
			t.Fatalf("net/http does not take it: %v", err)
		}
		if at := len(b) - rest.Len() - br.Buffered(); at != size {
			t.Errorf("the head has %d bytes, for net/http %d", size, at)
		}
		if theirs.Method != string(r.Method) || theirs.RequestURI != string(r.Target) || theirs.Host != string(r.Host) {
			t.Errorf("%s %s for %s is for net/http %s %s for %s", r.Method, r.Target, r.Host, theirs.Method, theirs.RequestURI, theirs.Host)
		}
		length, coding := r.Length, []string(nil)
		if r.Chunked {
			length, coding = -1, []string{"chunked"}
		}
		if theirs.ContentLength != length || !slices.Equal(theirs.TransferEncoding, coding) || theirs.Close || theirs.ProtoMinor != 1 || theirs.Trailer != nil {
			t.Errorf("a body of %d bytes is for net/http %d of %q", r.Length, theirs.ContentLength, theirs.TransferEncoding)
		}
		if _, ok := theirs.Header["Expect"]; ok != r.Expects {
			t.Errorf("that it expects a 100 is %v, for net/http %q", r.Expects, theirs.Header["Expect"])
		}
		if theirs.URL.Scheme != "" || theirs.URL.Host != "" || theirs.URL.Opaque != "" || theirs.URL.User != nil || theirs.URL.Fragment != "" {
			t.Errorf("the target is for net/http %#v", theirs.URL)
		}
		sameFields(t, r.Fields, theirs.Header)
	})
}

func FuzzResponse(f *testing.F) {
	for _, heads := range []map[string]string{plainResponses, oddResponses} {
		for _, head := range heads {
			f.Add([]byte(head), []byte(nil), false)
			f.Add([]byte(head+"4\r\nbody\r\n0\r\nX: y\r\n\r\n"), []byte{0}, false)
			f.Add([]byte(head+"body"), []byte{2, 7}, true)
		}
	}
	f.Fuzz(func(t *testing.T, b, sizes []byte, isHead bool) {
		if len(b) > 16<<10 {
			return // where net/http counts what chunks cost
		}
		method := "GET"
		if isHead {
			method = "HEAD"
		}
		var r wire.Response
		c := lent(t, &scripted{pieces: cut(b, sizes)}, 32<<10)
		if c.ReadHead(&r) != nil {
			return
		}
		rest := bytes.NewReader(b)
		br := bufio.NewReaderSize(rest, 32<<10)
		theirs, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil && r.Chunked && has(r.Fields, "trailer") {
			return // which net/http does not like to name certain fields
		}
		if err != nil {
			t.Fatalf("net/http does not take it: %v", err)
		}
		if theirs.StatusCode != r.Status || theirs.ProtoMinor != r.Minor || theirs.Status != strings.TrimLeft(statusText(&r), " ") {
			t.Errorf("HTTP/1.%d %s is for net/http %s %s", r.Minor, statusText(&r), theirs.Proto, theirs.Status)
		}
		if !has(r.Fields, "trailer") {
			sameFields(t, r.Fields, theirs.Header)
		}
		if theirs.Close && !r.Close && r.HasBody([]byte(method)) && (r.Chunked || r.Length >= 0) {
			t.Error("the connection ends, for net/http")
		}

		var body wire.Body
		body.Begin(c, &r, []byte(method))
		ours, err := io.ReadAll(&body)
		got, failure := io.ReadAll(theirs.Body)
		if err != nil {
			if !r.Chunked && failure == nil {
				t.Errorf("the body ends with %v after %q, for net/http well after %q", err, ours, got)
			}
			return
		}
		if failure != nil && len(body.Trailer()) == 0 { // an odd trailer, which is dropped
			failure = nil
		}
		if failure != nil || !bytes.Equal(ours, got) {
			t.Errorf("the body is %q, for net/http %q, %v", ours, got, failure)
		}
		if !body.Ended() {
			t.Error("the body was read and has not ended")
		}
		if body.InStep() && len(c.Buffered()) > 0 {
			t.Errorf("in step, with %q to come", c.Buffered())
		}
		if fields := body.Trailer(); fields != nil {
			sameFields(t, fields, theirs.Trailer)
			if at := rest.Len() + br.Buffered(); at < len(c.Buffered()) {
				t.Errorf("%d bytes are left, for net/http %d", len(c.Buffered()), at)
			}
		}
	})
}

func FuzzChunks(f *testing.F) {
	for _, bodies := range []map[string]string{wholeChunks, brokenChunks} {
		for _, body := range bodies {
			f.Add([]byte(body), []byte{0})
			f.Add([]byte(body+"HTTP/1.1 200"), []byte{3, 1})
		}
	}
	f.Fuzz(func(t *testing.T, b, sizes []byte) {
		if len(b) > 16<<10 {
			return
		}
		whole := decode(t, b, nil)
		if parts := decode(t, b, sizes); !cmp.Equal(whole, parts) {
			t.Errorf("in one piece and in many:\n%s", cmp.Diff(whole, parts))
		}
		if !whole.Done {
			return
		}
		const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		rest := strings.NewReader(head + string(b))
		br := bufio.NewReaderSize(rest, 32<<10)
		theirs, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(theirs.Body)
		if got := string(got); got != whole.Data {
			t.Errorf("the data are %q, for net/http %q, %v", whole.Data, got, err)
		}
		if err != nil && whole.Trailer == "" {
			t.Errorf("net/http does not take it: %v", err)
		}
		if left := rest.Len() + br.Buffered(); err == nil && left != len(whole.Left) {
			t.Errorf("%d bytes are left, for net/http %d", len(whole.Left), left)
		}
	})
}

// decoded is what became of a body in chunks.
type decoded struct {
	Data, Left, Trailer string
	Done, Failed        bool
}

// decode decodes what arrives in pieces of those sizes. Skip gets as far, and leaves
// it as it is.
func decode(t interface{ Errorf(string, ...any) }, b, sizes []byte) decoded {
	var c, skipping wire.Chunks
	var d decoded
	for _, piece := range cut(b, sizes) {
		piece = bytes.Clone(piece)
		if c.Done || d.Failed {
			d.Left += string(piece)
			continue
		}
		before := string(piece)
		skipped, failed := skipping.Skip(piece)
		if string(piece) != before {
			t.Errorf("Skip has changed %q to %q", before, piece)
		}
		n, used, err := c.Decode(piece)
		if skipped != used || failed != err || skipping.Done != c.Done || !bytes.Equal(skipping.Trailer, c.Trailer) {
			t.Errorf("Skip takes %d of %q, %v; Decode %d, %v", skipped, before, failed, used, err)
		}
		d.Data += string(piece[:n])
		if d.Failed = err != nil; !d.Failed {
			d.Left += string(piece[used:])
		}
	}
	d.Trailer, d.Done = string(c.Trailer), c.Done
	if d.Failed || !d.Done { // then it depends on the pieces how far it was
		d.Left, d.Trailer = "", ""
	}
	return d
}

func statusText(r *wire.Response) string {
	digits := string([]byte{'0' + byte(r.Status/100), '0' + byte(r.Status/10%10), '0' + byte(r.Status%10)})
	return digits + string(r.Reason)
}

func has(fields []wire.Field, name string) bool {
	for _, f := range fields {
		if f.Is(name) {
			return true
		}
	}
	return false
}

// sameFields compares fields with a header of net/http's, in which the ones that
// package wire takes out may be.
func sameFields(t *testing.T, ours []wire.Field, theirs http.Header) {
	t.Helper()
	want := theirs.Clone()
	for _, name := range []string{"Connection", "Keep-Alive", "Transfer-Encoding"} {
		want.Del(name)
	}
	got := http.Header{}
	for _, f := range ours {
		if !httpguts.ValidHeaderFieldName(string(f.Name)) || !httpguts.ValidHeaderFieldValue(string(f.Value)) {
			t.Errorf("the field %q is not valid", f.Line)
		}
		if line, ok := strings.CutSuffix(string(f.Line), "\r\n"); !ok || strings.ContainsAny(line, "\r\n") ||
			!strings.HasPrefix(line, string(f.Name)+":") || textproto.TrimString(line[len(f.Name)+1:]) != string(f.Value) {
			t.Errorf("the line %q is not of the field %q with value %q", f.Line, f.Name, f.Value)
		}
		got.Add(string(f.Name), string(f.Value))
	}
	if p := got["Pragma"]; len(p) > 0 && p[0] == "no-cache" && got["Cache-Control"] == nil {
		got["Cache-Control"] = []string{"no-cache"} // which net/http adds
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the fields are for net/http (-) and for us (+):\n%s", diff)
	}
}
