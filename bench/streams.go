package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// download reads one large answer.
type download struct {
	exchange
	bytes int64
}

func (l *download) once() (time.Duration, error) {
	start := time.Now()
	if _, err := l.conn.Write(l.request(l.Host, "GET", bytesPath+strconv.FormatInt(l.bytes, 10))); err != nil {
		return 0, err
	}
	n, err := l.read()
	if err == nil && n != l.bytes {
		err = fmt.Errorf("%d bytes came instead of %d", n, l.bytes)
	}
	return time.Since(start), err
}

// upload sends one large request.
type upload struct {
	exchange
	bytes int64
}

func (l *upload) once() (time.Duration, error) {
	start := time.Now()
	if _, err := l.conn.Write(l.request(l.Host, "PUT", smallPath, lengthField(l.bytes))); err != nil {
		return 0, err
	}
	chunk := body(4 * bufferSize)
	for left := l.bytes; left > 0; left -= int64(len(chunk)) {
		if _, err := l.conn.Write(chunk[:min(left, int64(len(chunk)))]); err != nil {
			return 0, err
		}
	}
	_, err := l.read()
	return time.Since(start), err
}

// events reads server-sent events. Its latency is the age of an event.
type events struct {
	exchange
	from *bufio.Scanner
}

func (e *events) open() error {
	if err := e.exchange.open(); err != nil {
		return err
	}
	if _, err := e.conn.Write(e.request(e.Host, "GET", eventsPath, "Accept: text/event-stream")); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(e.conn), nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer is %s", resp.Status)
	}
	e.from = bufio.NewScanner(resp.Body)
	return nil
}

func (e *events) once() (time.Duration, error) {
	for e.from.Scan() {
		if sent, ok := strings.CutPrefix(e.from.Text(), "data: "); ok {
			nano, err := strconv.ParseInt(sent, 10, 64)
			if at := time.Unix(0, nano); err != nil || !at.Before(e.began) { // others waited for this to begin
				return time.Since(at), err
			}
		}
	}
	return 0, errors.Join(errors.New("the events ended"), e.from.Err())
}

// websocket sends a message and awaits it back.
type websocket struct {
	exchange
	from    *bufio.Reader
	payload []byte
}

func (ws *websocket) open() error {
	if err := ws.exchange.open(); err != nil {
		return err
	}
	if _, err := ws.conn.Write(ws.request(ws.Host, "GET", echoPath, "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")); err != nil {
		return err
	}
	ws.from = bufio.NewReader(ws.conn)
	resp, err := http.ReadResponse(ws.from, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the answer is %s", resp.Status)
	}
	// A binary message of 64 bytes, masked with zeroes (RFC 6455, section 5.2).
	ws.payload = body(64)
	ws.message = append([]byte{0x82, 0x80 | 64, 0, 0, 0, 0}, ws.payload...)
	return nil
}

func (ws *websocket) once() (time.Duration, error) {
	start := time.Now()
	if _, err := ws.conn.Write(ws.message); err != nil {
		return 0, err
	}
	frame := ws.buffer[:2+len(ws.payload)]
	if _, err := io.ReadFull(ws.from, frame); err != nil {
		return 0, err
	}
	if !bytes.Equal(frame[2:], ws.payload) {
		return 0, errors.New("another message came back")
	}
	return time.Since(start), nil
}
