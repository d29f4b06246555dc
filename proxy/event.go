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
// It is for one goroutine, but for in and out, which may grow after the end: of a body
// that is still being sent then, what comes later does not count. It has no lock, because
// on the fast path each one would be felt.
type record struct {
	attache.Event
	in, out  atomic.Int64 // bytes from and to the client, besides those that Event has already
	emit     func(*attache.Event)
	finished bool
}

// sharedRecord is the record of a CONNECT that is open: whoever closes the tunnel
// finishes it, while another goroutine may find out what went wrong.
type sharedRecord struct {
	mu sync.Mutex // guards what may change once the tunnel is open, but for in and out
	record
}

// finish is as for a record.
func (r *sharedRecord) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.finish()
}

// failed is as for a record.
func (r *sharedRecord) failed(why problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.failed(why)
}

// denied is as for a record.
func (r *sharedRecord) denied(why problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.denied(why)
}

// refused notes that a policy refused what the tunnel was opened for.
func (r *sharedRecord) refused(why problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Decision, r.Reason = attache.Deny, why.detail
}

// begin starts the record of r, which is new.
func (p *Proxy) begin(rec *record, kind attache.EventKind, r *http.Request) *record {
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	rec.Event = attache.Event{
		ID:       p.ids.next(),
		Time:     time.Now(),
		Kind:     kind,
		Client:   client,
		Method:   clip(r.Method, 64),
		Path:     clip(r.URL.Path, maxPath),
		Protocol: r.Proto,
	}
	rec.emit = p.with.Record
	return rec
}

// restart makes r the record of another request, whose event is empty. The one
// before must have ended, and have counted nothing in in and out.
func (r *record) restart(emit func(*attache.Event)) {
	r.Event, r.emit, r.finished = attache.Event{}, emit, false
}

// drop ends a record without its event, because another has been begun for the
// same request.
func (r *record) drop() { r.finished = true }

// maxPath is how much of a path is kept, in bytes.
const maxPath = 1024

// clip bounds what of a client's words is kept.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// finish emits the event, the first time that it is called, and returns the time.
func (r *record) finish() time.Time {
	took := time.Since(r.Time)
	if !r.finished {
		r.finished = true
		r.BytesIn += r.in.Load()
		r.BytesOut += r.out.Load()
		r.Duration = took.Seconds()
		r.emit(&r.Event)
	}
	return r.Time.Add(took)
}

// denied notes why the proxy itself answered.
func (r *record) denied(why problem) {
	r.Decision, r.Code, r.Reason = attache.Deny, why.code, why.detail
}

// failed notes what went wrong after the decision.
func (r *record) failed(why problem) { r.Code, r.Reason = why.code, why.detail }
