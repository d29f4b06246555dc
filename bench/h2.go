package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// stream is one of the concurrent requests of an HTTP/2 connection.
type stream struct {
	connect func() (*http.ClientConn, error) // the same connection for all of its streams
	conn    *http.ClientConn
	request *http.Request
	body    []byte
	buffer  []byte
}

// newStreams makes those of one connection.
func newStreams(d *dialer, w work) ([]worker, error) {
	connect := sync.OnceValues(d.multiplex)
	var streams []worker
	for range max(w.Streams, 1) {
		s := &stream{connect: connect, buffer: make([]byte, 4<<10)}
		var err error
		if s.request, err = http.NewRequest(http.MethodGet, "https://"+d.authority(d.Host)+smallPath, nil); err != nil {
			return nil, err
		}
		if w.Kind == postKind {
			s.request.Method, s.request.ContentLength, s.body = http.MethodPost, w.Bytes, body(int(w.Bytes))
		}
		if d.Credential != "" {
			s.request.Header.Set("Authorization", d.Credential)
		}
		streams = append(streams, s)
	}
	return streams, nil
}

// multiplex opens a connection that speaks HTTP/2.
func (d *dialer) multiplex() (*http.ClientConn, error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	t := &http.Transport{
		Protocols:          protocols,
		DisableCompression: true,
		DialTLSContext:     func(context.Context, string, string) (net.Conn, error) { return d.dial(d.tls) },
	}
	return t.NewClientConn(context.Background(), "https", d.authority(d.Host))
}

func (s *stream) open() error {
	var err error
	s.conn, err = s.connect()
	return err
}

func (s *stream) once() (time.Duration, error) {
	start := time.Now()
	if s.body != nil {
		s.request.Body = io.NopCloser(bytes.NewReader(s.body))
	}
	resp, err := s.conn.RoundTrip(s.request)
	if err != nil {
		return 0, err
	}
	n := 0
	for err == nil {
		var read int
		read, err = resp.Body.Read(s.buffer)
		n += read
	}
	_ = resp.Body.Close()
	switch {
	case !errors.Is(err, io.EOF):
		return 0, err
	case resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || n != smallSize:
		return 0, fmt.Errorf("the answer is %s with %d bytes over %s", resp.Status, n, resp.Proto)
	}
	return time.Since(start), nil
}

func (s *stream) close() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
}
