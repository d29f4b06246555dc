package proxy

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"attache"
)

// How long a client may take to end an upload that was answered before its end.
const leftoverWait = time.Second

// upload is a request's body on its way up. Each read may take so long; when the
// exchange is over, the connection's deadline is the server's again.
type upload struct {
	io.ReadCloser
	x        *exchange
	deadline func(time.Time) error
	failed   atomic.Bool
	mu       sync.Mutex // guards over
	over     bool
}

func (u *upload) Read(b []byte) (int, error) {
	u.allow(time.Now().Add(u.x.proxy.settings.Limits.IdleTimeout))
	n, err := u.ReadCloser.Read(b)
	u.x.record.in.Add(int64(n))
	switch {
	case err == io.EOF:
		u.end(time.Time{})
	case err != nil: // its deadline stays, and so the server reads no further
		u.failed.Store(true)
	}
	return n, err
}

func (u *upload) allow(until time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.over {
		_ = u.deadline(until)
	}
}

// end sets the last deadline. The server may have to read what is left of the
// body before it can use the connection again.
func (u *upload) end(until time.Time) {
	u.allow(until)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
}

// download is an answer's body on its way down. It notices where the upstream
// breaks off, which the client has to be told.
type download struct {
	io.ReadCloser
	x *exchange
}

func (d *download) Read(b []byte) (int, error) {
	n, err := d.ReadCloser.Read(b)
	d.x.ended = err == io.EOF
	if err != nil && err != io.EOF && !d.x.cutShort {
		d.x.cutShort = true
		d.x.record.failed(problem{attache.CodeConnectionTerminated, d.x.target.Host + " broke off inside its answer."})
	}
	return n, err
}

// hints passes 1xx answers on to the client (RFC 8297), and stops when the final
// answer is there: they come on another goroutine.
type hints struct {
	mu   sync.Mutex // guards done
	done bool
	send func(code int, h http.Header)
}

func (h *hints) got(code int, header http.Header) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.done {
		h.send(code, header)
	}
}

func (h *hints) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = true
}
