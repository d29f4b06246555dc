package proxy

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"attache"
	"attache/wire"
)

// How long a client may take to end an upload that was answered before its end.
const leftoverWait = time.Second

// clientGone is noted where nobody is left to see the answer, or the rest of it.
var clientGone = problem{attache.CodeClientGone, "The client went away before it had the whole answer."}

// stalled is told to a client that does not go on.
var stalled = problem{attache.CodeRequestTimeout, "The client stopped inside its request's body (limits.idle_timeout)."}

// brokenBody is told to a client whose body is not one.
var brokenBody = problem{attache.CodeBadRequest, "The request's body is malformed or breaks off."}

// upload is a request's body on its way up. Each read may take so long; when the
// exchange is over, the connection's deadline is the server's again.
type upload struct {
	io.ReadCloser
	x        *exchange
	deadline func(time.Time) error
	ended    atomic.Bool // it was read to its proper end
	failed   atomic.Pointer[problem]
	waits    atomic.Int64 // since when the transport waits for a 100, in Unix nanoseconds
	invited  atomic.Bool  // a 100 came
	expects  bool         // an HTTP/1.1 client wants a 100, whether the upstream is told so or not
	welcome  func() bool  // sends the client its 100, before the first read; nil: the server does, or there is none

	reading sync.Mutex // held while the client's body is read

	mu     sync.Mutex // guards what follows
	over   bool
	closed bool        // the transport wants no more of it
	stuck  *time.Timer // gives the upstream up where it reads no further; nil until something was read
	due    time.Time   // when the read that is under way has to end; kept where it has not
	spools bool
	spool  []byte // what was read, where it may have to be sent again
}

// maxSpool is how much of a body is kept to be sent again.
const maxSpool = 1 << 20

// spoolFor keeps the body where the connection's token may have to be refreshed.
// There may be no body, and so no upload.
func (u *upload) spoolFor(c *attache.Connection) {
	if u != nil && c.Type == attache.OAuth {
		u.spools = true
	}
}

// again is the whole body once more, if it was all read and kept.
func (u *upload) again() (io.ReadCloser, bool) {
	if u == nil {
		return http.NoBody, true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.spools || !u.ended.Load() {
		return nil, false
	}
	return io.NopCloser(bytes.NewReader(u.spool)), true
}

// keep adds to the spool, or gives it up.
func (u *upload) keep(b []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case !u.spools:
	case len(u.spool)+len(b) > maxSpool:
		u.spools, u.spool = false, nil
	default:
		u.spool = append(u.spool, b...)
	}
}

// errUninvited: the upstream answered without wanting the body.
var errUninvited = errors.New("the upstream did not ask for the body")

// errOver: the exchange ended before the body did.
var errOver = errors.New("the exchange is over")

func (u *upload) Read(b []byte) (int, error) {
	if !u.wanted() || u.welcome != nil && !u.welcome() {
		// The client is waiting for a 100 that must not come, and the transport would
		// break the answer off with what is wrong here.
		<-u.x.ctx.Done()
		return 0, errUninvited
	}
	u.reading.Lock()
	if !u.allow(time.Now().Add(u.x.proxy.settings.Limits.IdleTimeout)) && !u.ended.Load() {
		u.reading.Unlock()
		return 0, errOver
	}
	n, err := u.ReadCloser.Read(b)
	u.reading.Unlock()
	u.x.record.in.Add(int64(n))
	u.keep(b[:n])
	if wire.IsTimeout(err) {
		u.expire()
		return n, err
	}
	u.inTime()
	switch {
	case err == io.EOF:
		u.end(time.Time{})
		u.ended.Store(true) // from here on the exchange may be over
	case err != nil:
		u.failed.Store(&brokenBody)
	}
	return n, err
}

// wait and invite follow a request that expects a 100 (RFC 9110, section 10.1.1).
// The transport reads the body of one that got another answer, to use its
// connection again; our server would take that for the wish to have it, and tell
// the client so.
func (u *upload) wait()   { u.waits.Store(time.Now().UnixNano()) }
func (u *upload) invite() { u.invited.Store(true) }

func (u *upload) wanted() bool {
	since := u.waits.Load()
	return since == 0 || u.invited.Load() || time.Since(time.Unix(0, since)) >= continueTimeout-continueTimeout/10
}

// problem is what was wrong with the body; nil where nothing was.
func (u *upload) problem() *problem { return u.failed.Load() }

// tooSlow tells whether the client stopped inside the body. Our server ends the
// request's context then, as if the client had left, and that before the read
// returns. A nil upload is not slow.
func (u *upload) tooSlow() bool {
	if u == nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.due.IsZero() && !time.Now().Before(u.due)
}

// allow sets the deadline for the next read, or says that there is to be none.
func (u *upload) allow(until time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.over {
		_ = u.deadline(until)
		u.due = until
	}
	u.holdOn()
	return !u.over
}

// holdOn stops the timer that stuck is. It is called with mu held.
func (u *upload) holdOn() {
	if u.stuck != nil {
		u.stuck.Stop()
	}
}

// Close implements [io.Closer]: the transport wants no more of it. Over HTTP/1.1 our
// server closes it when the exchange is over. Now that would wait for the rest, and take
// a client that sends none for one that has left.
func (u *upload) Close() error {
	u.mu.Lock()
	u.closed = true
	u.holdOn()
	u.mu.Unlock()
	if !u.x.isHTTP2() {
		return nil
	}
	return u.ReadCloser.Close()
}

// extend is called when something of the answer has passed: a client that listens is not
// idle, nor is an upstream that speaks. A nil upload is not read.
func (u *upload) extend() {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.over:
	case !u.due.IsZero():
		u.due = time.Now().Add(u.x.proxy.settings.Limits.IdleTimeout)
		_ = u.deadline(u.due)
	case u.stuck != nil:
		u.letGo()
	}
}

// expire is for when a read has not ended in time. The deadline stays, and so the server
// reads no further.
func (u *upload) expire() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
}

// leave is for when the exchange is over. It ends a read that is under way before the
// server does, which takes away the deadline for what is left.
func (u *upload) leave() {
	if u.ended.Load() {
		return
	}
	u.end(past)
	u.reading.Lock()
	defer u.reading.Unlock()
	if !u.ended.Load() {
		_ = u.deadline(time.Now().Add(leftoverWait))
	}
}

func (u *upload) inTime() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.due = time.Time{}
	if u.x.isHTTP2() && !u.over { // or the stream's body ends while nobody reads
		_ = u.deadline(time.Time{})
	}
	u.letGo()
}

// letGo starts the time in which the upstream has to take more, again. It is called with
// mu held.
func (u *upload) letGo() {
	switch most := u.x.proxy.upstream.read; {
	case u.over || u.closed:
	case u.stuck == nil:
		u.stuck = time.AfterFunc(most, func() { u.x.giveUp(os.ErrDeadlineExceeded) })
	default:
		u.stuck.Reset(most)
	}
}

// end sets the last deadline.
func (u *upload) end(until time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.holdOn()
	if !u.over {
		_ = u.deadline(until)
		u.due, u.over = until, true
	}
}

// download is an answer's body on its way down. It notices where it breaks off,
// which the client has to be told, and takes from its trailers what may not be
// passed on.
type download struct {
	io.ReadCloser
	x    *exchange
	resp *http.Response
}

func (d *download) Read(b []byte) (int, error) {
	n, err := d.ReadCloser.Read(b)
	x := d.x
	x.ended = err == io.EOF
	if x.ended {
		maps.DeleteFunc(d.resp.Trailer, isNoTrailer)
	}
	// A body of unknown length may end only because the client has left, and the
	// upstream was told so.
	doubtful := x.length < 0 && d.ReadCloser != http.NoBody && x.record.Method != http.MethodHead && x.ctx.Err() != nil
	if err != nil && (!x.ended || doubtful) && !x.cutShort {
		x.cutShort = true
		x.record.failed(x.brokenOff())
	}
	return n, err
}

// hints passes 1xx answers on to the client (RFC 8297), and stops when the final
// answer is there: they come on another goroutine, and the 100 is sent on a third.
type hints struct {
	mu   sync.Mutex // guards done and left, and held while one is sent
	done bool
	left int64 // how many bytes of them may still come
	send func(code int, h http.Header)
}

func (h *hints) got(code int, header http.Header) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left -= int64(len("HTTP/1.1 100 \r\n\r\n"))
	for name, values := range header {
		for _, v := range values {
			h.left -= int64(len(name) + len(": \r\n") + len(v))
		}
	}
	if h.left < 0 {
		return errHeadTooLarge
	}
	if !h.done {
		h.send(code, header)
	}
	return nil
}

// welcome sends the 100, unless the final answer is there: then the body is unwanted.
// Our server would send it when the body is first read, and not wait for hints then.
func (h *hints) welcome(client http.ResponseWriter) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.done {
		client.WriteHeader(http.StatusContinue)
	}
	return !h.done
}

func (h *hints) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = true
}
