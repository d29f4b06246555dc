package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"

	"attache/wire"
)

// What an upstream of a relay answers may be correct and not plain: an old
// server's folded lines, a length given twice. Then the request has been sent,
// and net/http reads the answer, for as long as its connection lives.

// errHeadTooLarge: the answer's head is larger than Limits.HeadBytes.
var errHeadTooLarge = errors.New("the upstream's answer has too large a head")

// parseOdd lets net/http read the head of an answer.
func (f *relay) parseOdd(c *wire.Conn) error {
	limit := &io.LimitedReader{R: c.Unread(), N: f.p.upstream.head}
	br := bufio.NewReader(limit)
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: f.record.Method})
		switch {
		case err != nil && limit.N == 0:
			return errHeadTooLarge
		case err != nil:
			return err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return errImpossible
		case resp.StatusCode >= 200:
			limit.N = math.MaxInt64
			f.parsed, f.response.Status = resp, resp.StatusCode
			return nil
		}
	}
}

// begunOdd is begun for such an answer.
func (f *relay) begunOdd() (body, []byte) {
	r := f.parsed
	relayable(r.Header)
	b := body{Reader: r.Body, chunked: r.ContentLength < 0 && f.record.Method != http.MethodHead}
	head := bytes.NewBuffer(f.out[:0])
	head.WriteString("HTTP/1.1 " + r.Status + "\r\n")
	_ = r.Header.Write(head) // to memory
	if b.chunked {
		head.WriteString("Transfer-Encoding: chunked\r\n")
	}
	return b, head.Bytes()
}

// appendOddTrailer is appendTrailer for such an answer.
func (f *relay) appendOddTrailer(out []byte) []byte {
	maps.DeleteFunc(f.parsed.Trailer, isNotRelayed)
	b := bytes.NewBuffer(out)
	_ = f.parsed.Trailer.Write(b) // to memory
	return b.Bytes()
}
