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

// What an upstream of the fast path answers may be correct and not plain: an old
// server's folded lines, a length given twice. Then the request has been sent,
// and net/http reads the answer, for as long as its connection lives.

// errHeadTooLarge: the answer's head is larger than Limits.HeadBytes.
var errHeadTooLarge = errors.New("the upstream's answer has too large a head")

// parseOdd lets net/http read the head of an answer.
func (f *errand) parseOdd(c *wire.Conn) error {
	resp, err := readOdd(c, f.record.Method, f.p.upstream.head)
	if err == nil {
		f.parsed, f.response.Status = resp, resp.StatusCode
	}
	return err
}

// readOdd reads the head of the final answer to a request with that method, which
// has at most so many bytes, with those of the ones before it.
func readOdd(c *wire.Conn, method string, most int64) (*http.Response, error) {
	limit := &io.LimitedReader{R: c.Unread(), N: most}
	br := bufio.NewReader(limit)
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		switch {
		case err != nil && limit.N == 0:
			return nil, errHeadTooLarge
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errImpossible
		case resp.StatusCode >= 200:
			limit.N = math.MaxInt64
			return resp, nil
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
