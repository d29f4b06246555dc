package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// inProcess is a transport to a handler in the same process. An answer streams
// as it does over a connection: what the handler writes waits until it is read.
type inProcess struct{ handler http.Handler }

// errGone is what a handler's write gets when the caller reads no further.
var errGone = errors.New("the caller is gone")

func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	served := r.Clone(ctx)
	served.RequestURI = r.URL.RequestURI()
	served.RemoteAddr = "in-process"
	if served.Host == "" {
		served.Host = r.URL.Host
	}
	if served.Body == nil {
		served.Body = http.NoBody
	}
	read, write := io.Pipe()
	w := &pipeWriter{header: http.Header{}, body: write, started: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.handler.ServeHTTP(w, served)
		w.WriteHeader(http.StatusOK)
		_ = write.Close() // never fails
	}()
	body := &pipeBody{read, func() {
		cancel()
		_ = read.CloseWithError(errGone)
		<-done
	}}
	select {
	case <-w.started:
	case <-ctx.Done():
		_ = body.Close()
		return nil, ctx.Err()
	}
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: body, ContentLength: -1, Request: r,
	}, nil
}

// pipeBody ends the handler when it is closed.
type pipeBody struct {
	*io.PipeReader
	end func()
}

func (b *pipeBody) Close() error {
	b.end()
	return nil
}

// pipeWriter is the handler's side. The handler alone uses header; the caller
// reads status and sent once started is closed.
type pipeWriter struct {
	header  http.Header
	body    *io.PipeWriter
	start   sync.Once
	started chan struct{}
	status  int
	sent    http.Header
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	w.start.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.started)
	})
}

func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// Flush implements [http.Flusher]; nothing is ever held back.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }
