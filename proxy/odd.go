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

// errHeadTooLarge: the answer's head, or the hints before it, are larger than
// Limits.HeadBytes.
var errHeadTooLarge = errors.New("the upstream's answer has too large a head")

// parseOdd lets net/http read the head of an answer.
func (f *errand) parseOdd(c *wire.Conn) (err error) {
	f.parsed, err = readOdd(c, f.record.Method, f.p.upstream.head, func(hint *http.Response) error {
		f.parsed = hint
		return f.passHint()
	})
	if err == nil {
		f.response.Status = f.parsed.StatusCode
	}
	return err
}

// readOdd reads the head of the final answer to a request with that method, and hands on
// the hints before it. All these heads have at most so many bytes.
func readOdd(c *wire.Conn, method string, most int64, hint func(*http.Response) error) (*http.Response, error) {
	limit := &io.LimitedReader{R: c.Unread(), N: most}
	br := bufio.NewReader(limit)
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		switch {
		case err != nil && limit.N == 0:
			return nil, errHeadTooLarge
		case err != nil:
			return nil, err
		case resp.StatusCode < 100 || resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errImpossible
		case resp.StatusCode >= 200:
			limit.N = math.MaxInt64
			return resp, nil
		case resp.StatusCode != http.StatusContinue: // which nobody asked for
			if err := hint(resp); err != nil {
				return nil, err
			}
		}
	}
}

// begunOdd is begun for such an answer.
func (f *relay) begunOdd() (body, []byte) {
	r := f.parsed
	b := body{Reader: r.Body, chunked: r.ContentLength < 0 && f.record.Method != http.MethodHead}
	out := f.appendOddHead(f.out[:0])
	if b.chunked {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	return b, out
}

// appendOddHead is appendHead for such an answer.
func (f *relay) appendOddHead(out []byte) []byte {
	relayable(f.parsed.Header)
	head := bytes.NewBuffer(out)
	head.WriteString("HTTP/1.1 " + f.parsed.Status + "\r\n")
	_ = f.parsed.Header.Write(head) // to memory
	return head.Bytes()
}

// appendOddTrailer is appendTrailer for such an answer.
func (f *relay) appendOddTrailer(out []byte) []byte {
	maps.DeleteFunc(f.parsed.Trailer, isNoTrailer)
	b := bytes.NewBuffer(out)
	_ = f.parsed.Trailer.Write(b) // to memory
	return b.Bytes()
}
