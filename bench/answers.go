package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"time"
)

// token is an answer of the token endpoint (RFC 6749, section 5.1).
func (o *origin) token(w io.Writer) error {
	text := fmt.Sprintf(`{"access_token":"bench-%d","token_type":"Bearer","expires_in":%d}`, o.tokens.Add(1), o.TokenLife)
	_, err := fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	return err
}

func writeBytes(w io.Writer, number string) error {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", n); err != nil {
		return err
	}
	for chunk := body(4 * bufferSize); n > 0; n -= int64(len(chunk)) {
		if _, err := w.Write(chunk[:min(n, int64(len(chunk)))]); err != nil {
			return err
		}
	}
	return nil
}

// writeEvents sends events until the client goes away.
func writeEvents(w io.Writer) error {
	if _, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"+
		"X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
		return err
	}
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	for range tick.C {
		event := fmt.Sprintf("data: %d\n\n", time.Now().UnixNano())
		if _, err := fmt.Fprintf(w, "%x\r\n%s\r\n", len(event), event); err != nil {
			return err
		}
	}
	return nil
}

// echo returns WebSocket messages (RFC 6455) of at most 125 bytes.
func echo(w io.Writer, br *bufio.Reader, key string) error {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if _, err := fmt.Fprintf(w, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:])); err != nil {
		return err
	}
	var frame [2 + 4 + maxMessage]byte
	for {
		if _, err := io.ReadFull(br, frame[:6]); err != nil {
			return err
		}
		n := int(frame[1] &^ 0x80)
		if n > maxMessage {
			return errHead
		}
		mask, message := frame[2:6], frame[6:6+n]
		if _, err := io.ReadFull(br, message); err != nil {
			return err
		}
		for i := range message {
			message[i] ^= mask[i%4]
		}
		frame[4], frame[5] = frame[0], byte(n) // a head without mask, right before the message
		if _, err := w.Write(frame[4 : 6+n]); err != nil {
			return err
		}
	}
}

// maxMessage is the longest WebSocket message with the short form of its length.
const maxMessage = 125
