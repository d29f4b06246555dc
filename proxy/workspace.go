package proxy

import (
	"net/http"
	"sync"

	"attache/wire"
)

// workspace is what one exchange needs. A tunnel that rests has none.
//
// Its buffers are small at first, because most requests and answers are, and what is
// touched for one request is gone from the processor's cache until the next one of
// the tunnel. What is longer moves to large ones. Nothing is written any more to a buffer
// that was moved out of until the workspace is released, because what was parsed in it
// stays there: request.Fields, and response.Fields until the body is read.
type workspace struct {
	in       []byte // what the client sent: a request, and perhaps more; at first it may be relay.first
	out      []byte // what is to be sent, either way
	from     []byte // what the upstream sent
	x        exchange
	record   record
	request  wire.Request
	size     int // of the request's head, at the beginning of in
	response wire.Response
	parsed   *http.Response // an answer that is not plain; nil: it is in response
	body     wire.Body      // of the answer
	large    []*[bufferSize]byte
	small    struct {
		in        [2 << 10]byte
		out, from [4 << 10]byte
	}
}

// bufferSize bounds each of a workspace's buffers, and is that of all large ones: a
// request on the fast path fits in, head and body.
const bufferSize = 32 << 10

var (
	workspaces = sync.Pool{New: func() any {
		w := new(workspace)
		w.shrink()
		return w
	}}
	buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }} // large ones
)

func (f *errand) prepare() { f.workspace, _ = workspaces.Get().(*workspace) }

func (f *errand) release() {
	f.record.drop()                 // of a request that nobody has taken
	f.x, f.parsed = exchange{}, nil // they hold the tunnel
	f.shrink()
	workspaces.Put(f.workspace)
	f.workspace = nil
}

func (w *workspace) shrink() {
	if len(w.large) > 0 { // these are others' now
		clear(w.request.Fields[:cap(w.request.Fields)])
		clear(w.response.Fields[:cap(w.response.Fields)])
	}
	for _, b := range w.large {
		buffers.Put(b)
	}
	w.large = w.large[:0]
	w.in, w.out, w.from = w.small.in[:0], w.small.out[:0], w.small.from[:]
}

// enlarge moves b to a large buffer. What was made of it stays where it is.
func (w *workspace) enlarge(b []byte) []byte {
	large, _ := buffers.Get().(*[bufferSize]byte)
	w.large = append(w.large, large)
	return append(large[:0], b...)
}

// hold makes in hold n bytes, and one for a watch. It cannot hold more than bufferSize.
func (w *workspace) hold(n int) {
	switch {
	case n < cap(w.in):
	case n < len(w.small.in):
		w.in = append(w.small.in[:0], w.in...)
	default:
		w.in = w.enlarge(w.in)
	}
}

// spacious is out with room for that much more, or for as much as there can be.
func (w *workspace) spacious(out []byte, more int64) []byte {
	if more <= int64(cap(out)-len(out)) || cap(w.out) >= bufferSize {
		return out
	}
	w.out = w.enlarge(out)
	return w.out
}
