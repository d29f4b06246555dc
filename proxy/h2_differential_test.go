package proxy_test

import (
	"bufio"
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Shapes are what an HTTP/2 client may ask in one header block. HOST stands for
// the tunnel's target. The names of pseudo-header fields that every request has are
// added where they are not there; "-" takes one out.
var h2Shapes = map[string][]string{
	"a plain request":                 {"accept", "*/*", "user-agent", "x", "x-y", "z"},
	"no fields":                       {},
	"fields that come again":          {"x", "1", "x", "2", "accept", "a", "accept", "b"},
	"an empty value":                  {"x", ""},
	"a value with white space inside": {"x", "a b\tc"},
	"a value with white space around": {"x", " a "},
	"a value with CR LF":              {"x", "a\r\nauthorization: b"},
	"a value with LF":                 {"x", "a\nb"},
	"a value with NUL":                {"x", "a\x00b"},
	"a value with DEL":                {"x", "a\x7fb"},
	"a value that is not ASCII":       {"x", "ä\xff"},
	"a name with a colon":             {"x: y", "z"},
	"a name with CR LF":               {"x\r\nauthorization", "z"},
	"a name with a space":             {"x y", "z"},
	"a name in capitals":              {"X-Y", "z"},
	"an empty name":                   {"", "z"},
	"a name with an underscore":       {"x_y", "z"},
	"a name that begins with a digit": {"1x-2y", "z"},
	"Connection":                      {"connection", "close"},
	"Connection that names a field":   {"connection", "x", "x", "y"},
	"Keep-Alive":                      {"keep-alive", "1"},
	"Proxy-Connection":                {"proxy-connection", "keep-alive"},
	"Transfer-Encoding":               {"transfer-encoding", "chunked"},
	"Upgrade":                         {"upgrade", "websocket"},
	"HTTP2-Settings":                  {"http2-settings", "x"},
	"TE: trailers":                    {"te", "trailers"},
	"another TE":                      {"te", "gzip"},
	"Trailer":                         {"trailer", "x"},
	"Expect":                          {"expect", "100-continue"},
	"Host as well":                    {"host", "HOST"},
	"another Host as well":            {"host", "other.example.test"},
	"Host alone":                      {":authority", "-", "host", "HOST"},
	"neither":                         {":authority", "-"},
	"an empty authority":              {":authority", ""},
	"an authority without its port":   {":authority", "api.example.test"},
	"an authority in capitals":        {":authority", "API.EXAMPLE.TEST"},
	"another authority":               {":authority", "other.example.test"},
	"an authority with a user":        {":authority", "x@HOST"},
	"an authority with a path":        {":authority", "HOST/x"},
	"a length of nothing":             {"content-length", "0"},
	"a length of something":           {"content-length", "5"},
	"two cookies":                     {"cookie", "a=b", "cookie", "c=d"},
	"one cookie":                      {"cookie", "a=b; c=d"},
	"credentials of the client":       {"authorization", "x", "x-api-key", "y", "private-token", "z", "x_api_key", "w"},
	"what is for the proxy":           {"proxy-authorization", "x", "proxy-x", "y", "attache-connection", "for-a", "attache-x", "y"},
	"a connection that is not there":  {"attache-connection", "nope"},
	"two connections":                 {"attache-connection", "for-a", "attache-connection", "nope"},
	"no path":                         {":path", "-"},
	"an empty path":                   {":path", ""},
	"a path with a space":             {":path", "/x HTTP/1.1"},
	"a path with CR LF":               {":path", "/x HTTP/1.1\r\nx: y"},
	"a path without a slash":          {":path", "x"},
	"an absolute URL":                 {":path", "https://HOST/x"},
	"an asterisk":                     {":path", "*", ":method", "OPTIONS"},
	"two slashes":                     {":path", "//other.example.test/a"},
	"a fragment":                      {":path", "/a#b"},
	"a query":                         {":path", "/a?b=c&d=%20+"},
	"escapes":                         {":path", "/%2e%2e/%41%2f%C3%a4"},
	"an escape that is none":          {":path", "/%zz"},
	"a path that is not ASCII":        {":path", "/ä"},
	"a long path":                     {":path", "/" + strings.Repeat("a%20", 1000)},
	"HEAD":                            {":method", "HEAD"},
	"DELETE":                          {":method", "DELETE"},
	"POST without a body":             {":method", "POST"},
	"TRACE":                           {":method", "TRACE"},
	"a method of its own":             {":method", "PURGE"},
	"a method in small letters":       {":method", "get"},
	"a method with a space":           {":method", "GET /x"},
	"an empty method":                 {":method", ""},
	"no method":                       {":method", "-"},
	"CONNECT":                         {":method", "CONNECT", ":scheme", "-", ":path", "-"},
	"an extended CONNECT":             {":method", "CONNECT", ":protocol", "websocket"},
	"clear http":                      {":scheme", "http"},
	"another scheme":                  {":scheme", "ftp"},
	"a scheme in capitals":            {":scheme", "HTTPS"},
	"no scheme":                       {":scheme", "-"},
	"a pseudo-header field twice":     {"+:path", "/b"},
	"one that there is not":           {"+:x", "y"},
	"one of answers":                  {"+:status", "200"},
	"one after the others":            {"x", "y", "+:path", "/b"},
	"200 fields":                      strings.Split(strings.Repeat("x,y,", 199)+"x,y", ","),
	"a large field":                   {"x", strings.Repeat("y", 30_000)},
	"larger than a limit":             {"a", strings.Repeat("y", 40_000), "b", strings.Repeat("y", 40_000)},
	"many times larger than a limit":  strings.Split(strings.Repeat("a,"+strings.Repeat("y", 4000)+",", 99)+"x,y", ","),
}

// h2Fields are those of a shape.
func h2Fields(authority string, shape []string) []hpack.HeaderField {
	head := []string{":method", "GET", ":scheme", "https", ":authority", authority, ":path", "/a?b=c"}
	var rest []hpack.HeaderField
	for i := 0; i+1 < len(shape); i += 2 {
		name, value := shape[i], strings.ReplaceAll(shape[i+1], "HOST", authority)
		switch at := indexOf(head, name); {
		case strings.HasPrefix(name, "+"):
			rest = append(rest, hpack.HeaderField{Name: name[1:], Value: value})
		case at < 0:
			rest = append(rest, hpack.HeaderField{Name: name, Value: value})
		case value == "-":
			head = append(head[:at:at], head[at+2:]...)
		default:
			head[at+1] = value
		}
	}
	return append(pairs(head...), rest...)
}

func indexOf(head []string, name string) int {
	for i := 0; i < len(head); i += 2 {
		if head[i] == name {
			return i
		}
	}
	return -1
}

// talkH2 asks on stream 1 in a way of its own, and then plainly on stream 3.
func talkH2(t testing.TB, authority, method string, first func(*h2Peer)) func(open func(...string) net.Conn) []answered {
	return func(open func(...string) net.Conn) []answered {
		p := newH2Peer(t, open("h2"))
		defer p.conn.Close()
		first(p)
		all := p.wait(1).answers()
		p.ask(3, h2Fields(authority, []string{":method", method, ":path", "/end"}))
		return append(all, p.wait(3).answers()...)
	}
}

// compareH2 has the conversation over HTTP/2 on all paths.
func (p *paths) compareH2(t *testing.T, first func(*h2Peer), c conversation) {
	t.Helper()
	p.mu.Lock()
	p.answer, p.closes = cmp.Or(c.upstream, okAnswer), c.closes
	p.mu.Unlock()
	method := "GET"
	if strings.HasPrefix(c.client, "HEAD") {
		method = "HEAD"
	}
	talk := talkH2(t, p.up.authority(host), method, first)
	p.alike(t, fmt.Sprintf("answered %.200q", c.upstream), func(w *world) account {
		a := p.have(t, w, talk)
		// What is served of a stream that was reset may begin after the next one.
		slices.SortStableFunc(a.Asked, func(a, b asked) int { return cmp.Compare(a.Target, b.Target) })
		slices.SortStableFunc(a.Told, func(a, b told) int { return cmp.Compare(a.Path, b.Path) })
		return a
	})
}

func TestBothPathsReadHTTP2Alike(t *testing.T) {
	if !hasFastPath() {
		return // there is one path
	}
	for name, shape := range h2Shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPaths(t, time.Second)
			fields := h2Fields(p.up.authority(host), shape)
			p.compareH2(t, func(peer *h2Peer) {
				block := peer.encode(fields)
				const most = 1 << 14
				end := len(block) <= most
				_ = peer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:min(len(block), most)], EndStream: true, EndHeaders: end})
				for !end {
					block = block[most:]
					end = len(block) <= most
					_ = peer.WriteContinuation(1, end, block[:min(len(block), most)])
				}
			}, conversation{})
		})
	}
}

func TestBothPathsReadAnswersForHTTP2Alike(t *testing.T) {
	if !hasFastPath() {
		return
	}
	for name, c := range answerShapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPaths(t, time.Second)
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(cmp.Or(c.client, "GET /a HTTP/1.1\r\nHost: HOST\r\n\r\n"))))
			if err != nil {
				t.Fatal(err)
			}
			fields := h2Fields(p.up.authority(host), []string{":method", r.Method, ":path", r.RequestURI})
			p.compareH2(t, func(peer *h2Peer) { peer.ask(1, fields) }, c)
		})
	}
}

// FuzzH2Fields lets a client send any fields: names and values, a line each.
func FuzzH2Fields(f *testing.F) {
	if flag.Lookup("test.fuzz").Value.String() != "" { // the tests above have them
		for _, shape := range h2Shapes {
			f.Add(strings.Join(shape, "\x01"))
		}
	}
	f.Add("accept\x01*/*")
	p := newPaths(f, 150*time.Millisecond)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 8<<10 || strings.Contains(text, canary) {
			return
		}
		defer p.lend(t)()
		fields := h2Fields(p.up.authority(host), strings.Split(text, "\x01"))
		p.compareH2(t, func(peer *h2Peer) { peer.ask(1, fields) }, conversation{})
	})
}

// lend gives the worlds of a fuzz test to one of its inputs.
func (p *paths) lend(t *testing.T) (back func()) {
	worlds := []*world{p.fast, p.ordinary, p.pooled}
	before := p.fast.t
	for _, w := range worlds {
		w.t = t
		for len(w.news) > 0 {
			<-w.news
		}
	}
	return func() {
		for _, w := range worlds {
			w.t = before
		}
	}
}

// FuzzH2Frames lets a client send any frames. Whatever they are, the upstream is
// asked with the credential or not at all, and the proxy goes on.
func FuzzH2Frames(f *testing.F) {
	var plain bytes.Buffer
	framer := http2.NewFramer(&plain, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range plainH2("api.example.test:1", "/a") {
		_ = encoder.WriteField(field)
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	_ = framer.WriteWindowUpdate(0, 100)
	_ = framer.WriteWindowUpdate(1, 100)
	_ = framer.WriteRSTStream(1, http2.ErrCodeCancel)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	_ = framer.WritePing(false, [8]byte{})
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block.Bytes(), PadLength: 9, Priority: http2.PriorityParam{StreamDep: 1}})
	_ = framer.WriteContinuation(3, true, nil)
	_ = framer.WriteDataPadded(3, true, []byte("data"), []byte{0, 0})
	_ = framer.WriteGoAway(3, http2.ErrCodeNo, nil)
	f.Add(plain.Bytes())

	// The same with bodies.
	plain.Reset()
	block.Reset()
	for _, field := range plainH2("api.example.test:1", "/a", "content-length", "4") {
		_ = encoder.WriteField(field)
	}
	for id := uint32(1); id < 9; id += 2 {
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
	}
	_ = framer.WriteData(1, true, []byte("data"))
	_ = framer.WriteDataPadded(3, false, []byte("da"), []byte{0, 0})
	_ = framer.WriteRSTStream(5, http2.ErrCodeCancel)
	_ = framer.WriteData(5, false, []byte("data"))
	_ = framer.WriteData(3, true, []byte("ta"))
	_ = framer.WriteData(7, false, []byte("too much data"))
	_ = framer.WriteData(7, true, nil)
	f.Add(plain.Bytes())
	p := newPaths(f, 150*time.Millisecond)
	p.answer = okAnswer
	f.Fuzz(func(t *testing.T, frames []byte) {
		if len(frames) > 8<<10 || bytes.Contains(frames, []byte(canary)) {
			return
		}
		defer p.lend(t)()
		a := p.have(t, p.fast, func(open func(...string) net.Conn) []answered {
			conn := open("h2")
			defer conn.Close()
			peer := newH2Peer(t, conn)
			_, _ = conn.Write(bytes.ReplaceAll(frames, []byte("api.example.test:1"), []byte(p.up.authority(host))))
			_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_ = peer.drain()
			return nil
		})
		for _, asked := range a.Asked {
			if v := asked.Header["Authorization"]; len(v) != 1 || v[0] != "Bearer "+canary {
				t.Errorf("the upstream saw Authorization %q", v)
			}
		}
		get(t, p.fast.client(), request(t, "GET", p.fast.url("/"), nil))
	})
}
