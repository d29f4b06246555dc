package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"attache"
)

// LogOptions bound a [Log].
type LogOptions struct {
	// Buffer is how many bytes of lines may wait while the writer is busy; an
	// event that comes while more wait is dropped. Zero means 1 MiB.
	Buffer int
	// DeniedRate is how many denials of one code are written per second. Zero
	// means 10.
	DeniedRate float64
	// DeniedBurst is how many denials of one code are written at once. Zero
	// means 100.
	DeniedBurst int
}

// LogStats count what has no line of its own in the log, since the start.
type LogStats struct {
	Dropped    uint64 // lost: the writer was too slow, or failed
	Suppressed uint64 // denials beyond the rate: only counted in the log
}

// summaryEvery is how often a summary is written, if there is anything to say.
const summaryEvery = time.Second

// writePause is how long a write is followed by none, so that what comes in a
// rush is written together.
const writePause = 10 * time.Millisecond

// Log writes events as JSON, one line each, with the field names of
// [attache.Event]. Whatever is not printable is escaped, so that no path or
// reason can break a line or drive a terminal.
//
// Two kinds of events have no line of their own: denials beyond a rate per
// code, so that a flood of them cannot fill the disk, and what came while the
// writer was too slow. The log counts them, in one line a second at most:
//
//	{"time":"2026-11-22T10:00:01Z","kind":"summary","suppressed":{"access_token_missing":941},"dropped":3}
//
// Lines wait in memory until [Log.Run] has written them; a crash loses those of
// the last moment. It is safe for concurrent use.
type Log struct {
	w      io.Writer
	buffer int
	rate   rate.Limit
	burst  int
	wake   chan struct{} // holds a token while lines wait

	mu       sync.Mutex // guards what is below; never held while writing
	waiting  []byte
	plain    plain
	line     bytes.Buffer
	encoder  *json.Encoder // into line
	limiters map[attache.Code]*rate.Limiter
	untold   summary // what the next summary will say
	stats    LogStats
}

type summary struct {
	Time       time.Time               `json:"time"`
	Kind       string                  `json:"kind"`
	Suppressed map[attache.Code]uint64 `json:"suppressed,omitempty"`
	Dropped    uint64                  `json:"dropped,omitempty"`
}

// NewLog makes a log that writes whole lines to w, once [Log.Run] runs.
func NewLog(w io.Writer, o LogOptions) *Log {
	l := &Log{
		w:        w,
		buffer:   cmp.Or(o.Buffer, 1<<20),
		rate:     rate.Limit(cmp.Or(o.DeniedRate, 10)),
		burst:    cmp.Or(o.DeniedBurst, 100),
		wake:     make(chan struct{}, 1),
		limiters: make(map[attache.Code]*rate.Limiter),
	}
	l.encoder = json.NewEncoder(&l.line)
	l.encoder.SetEscapeHTML(false)
	return l
}

// Record puts e in line to be written, or counts it.
func (l *Log) Record(e *attache.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Decision == attache.Deny && !l.allow(e.Code) {
		if l.untold.Suppressed == nil {
			l.untold.Suppressed = make(map[attache.Code]uint64)
		}
		l.untold.Suppressed[e.Code]++
		l.stats.Suppressed++
		return
	}
	if len(l.waiting) >= l.buffer || l.enqueueEvent(e) != nil {
		l.untold.Dropped++
		l.stats.Dropped++
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// allow reports whether one more denial with this code may be written now.
func (l *Log) allow(c attache.Code) bool {
	limiter, ok := l.limiters[c]
	if !ok {
		limiter = rate.NewLimiter(l.rate, l.burst)
		l.limiters[c] = limiter
	}
	return limiter.Allow()
}

func (l *Log) enqueueEvent(e *attache.Event) error {
	var ok bool
	if l.waiting, ok = l.plain.append(l.waiting, e); ok {
		return nil
	}
	return l.enqueue(e)
}

func (l *Log) enqueue(v any) error {
	l.line.Reset()
	if err := l.encoder.Encode(v); err != nil {
		return err
	}
	l.waiting = appendPrintable(l.waiting, l.line.Bytes())
	return nil
}

// Run writes what is recorded until ctx ends; then it writes what still waits,
// and its error says how many lines it could not. Before that, a line whose
// writing failed is tried again until it is written. End it after whatever
// records: nothing is written afterwards.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(summaryEvery)
	defer tick.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	wake := l.wake // nil while it pauses
	var unwritten []byte
	for {
		// A failure shows in the events that are dropped once the buffer is full.
		select {
		case <-pause.C:
			wake = l.wake
		case <-wake:
			unwritten, _ = l.write(unwritten, false)
			wake = nil
			pause.Reset(writePause)
		case <-tick.C:
			unwritten, _ = l.write(unwritten, true)
		case <-ctx.Done():
			return l.finish(unwritten)
		}
	}
}

// write takes up where the last write failed, goes on with what waits, and
// returns what is left when it fails again.
func (l *Log) write(unwritten []byte, summarize bool) ([]byte, error) {
	for {
		if len(unwritten) == 0 {
			unwritten = l.take(unwritten, summarize)
			summarize = false
		}
		if len(unwritten) == 0 {
			return unwritten, nil
		}
		n, err := l.w.Write(unwritten)
		unwritten = unwritten[:copy(unwritten, unwritten[n:])]
		if err != nil {
			return unwritten, err
		}
	}
}

// take exchanges the lines that wait for an empty buffer.
func (l *Log) take(empty []byte, summarize bool) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if summarize && (l.untold.Suppressed != nil || l.untold.Dropped > 0) {
		l.untold.Time, l.untold.Kind = time.Now(), "summary"
		if l.enqueue(&l.untold) == nil {
			l.untold = summary{}
		}
	}
	lines := l.waiting
	l.waiting = empty
	return lines
}

func (l *Log) finish(unwritten []byte) error {
	unwritten, err := l.write(unwritten, true)
	if err == nil {
		return nil
	}
	lost := bytes.Count(append(unwritten, l.take(nil, false)...), []byte("\n"))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Dropped += uint64(lost)
	return fmt.Errorf("audit log: the last %d lines are lost: %w", lost, err)
}

// Stats returns the counts so far.
func (l *Log) Stats() LogStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// appendPrintable appends a line of JSON to b. The encoder has escaped what
// JSON demands; this escapes the rest of what does not print: DEL, the C1
// controls that terminals obey, and marks that reverse the direction of text.
// They can only be inside of strings.
func appendPrintable(b, line []byte) []byte {
	for i := 0; i < len(line); {
		if line[i] < 0x7f {
			i++
			continue
		}
		r, size := utf8.DecodeRune(line[i:])
		if strconv.IsPrint(r) {
			i += size
			continue
		}
		b = append(b, line[:i]...)
		if high, low := utf16.EncodeRune(r); r > 0xffff {
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		} else {
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		line, i = line[i+size:], 0
	}
	return append(b, line...)
}
