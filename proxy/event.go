package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"attache"
)

// ids makes request ids that are unique among processes and cheap: eight random
// digits of this process, and a counter.
type ids struct {
	process string
	last    *atomic.Uint64
}

func newIDs() ids {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return ids{hex.EncodeToString(b[:]), new(atomic.Uint64)}
}

func (i ids) next() string {
	var b [maxID]byte
	return string(i.append(b[:0]))
}

// maxID is how long an id can be, and more.
const maxID = 32

// append is next at the end of b.
func (i ids) append(b []byte) []byte {
	b = append(b, i.process...)
	return strconv.AppendUint(append(b, '-'), i.last.Add(1), 10)
}

// record is the event of one CONNECT or one request while it is being written.
// Whoever begins one defers its finish, so that an early return cannot skip it.
type record struct {
	attache.Event
	in, out atomic.Int64 // bytes from and to the client
	emit    func(*attache.Event)

	mu       sync.Mutex // guards finished, and Event against finish
	finished bool
}

// begin starts the record of r.
func (p *Proxy) begin(kind attache.EventKind, r *http.Request) *record {
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	return &record{
		Event: attache.Event{
			ID:       p.ids.next(),
			Time:     time.Now(),
			Kind:     kind,
			Client:   client,
			Method:   clip(r.Method, 64),
			Path:     clip(r.URL.Path, maxPath),
			Protocol: r.Proto,
		},
		emit: p.with.Record,
	}
}

// restart makes r the record of another request, whose event is empty. The one
// before must have ended.
func (r *record) restart(emit func(*attache.Event)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Event, r.emit, r.finished = attache.Event{}, emit, false
	r.in.Store(0)
	r.out.Store(0)
}

// drop ends a record without its event, because another has been begun for the
// same request.
func (r *record) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finished = true
}

// maxPath is how much of a path is kept, in bytes.
const maxPath = 1024

// clip bounds what of a client's words is kept.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// finish emits the event, the first time that it is called.
func (r *record) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finished {
		return
	}
	r.finished = true
	r.BytesIn, r.BytesOut = r.in.Load(), r.out.Load()
	r.Duration = time.Since(r.Time).Seconds()
	r.emit(&r.Event)
}

// denied notes why the proxy itself answered.
func (r *record) denied(why problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Decision, r.Code, r.Reason = attache.Deny, why.code, why.detail
}

// failed notes what went wrong after the decision. A tunnel may be closed, and
// so finished, by another goroutine while its own finds that out.
func (r *record) failed(why problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Code, r.Reason = why.code, why.detail
}
