package wire

import "bytes"

// Request is a plain request head: HTTP/1.1 with a path as target and one Host;
// it wants neither an upgrade nor the connection closed, and it is beyond doubt
// where its body ends. Its zero value is ready to parse into, again and again.
type Request struct {
	Method  []byte
	Target  []byte // the path, and the query after '?'
	Host    []byte
	Length  int64   // of the body; 0 where it is in chunks
	Chunked bool    // the body is in chunks
	Expects bool    // a 100 (Continue), before it sends the body
	Fields  []Field // but Host and those that end at this hop: Connection, Keep-Alive, Transfer-Encoding
	named   bool    // a Host was there
	sized   bool    // a Content-Length was there
}

// Parse reads the head at the beginning of b, and returns its size. The error
// is [ErrIncomplete] or [ErrOdd].
func (r *Request) Parse(b []byte) (int, error) {
	*r = Request{Fields: r.Fields[:0]}
	line, lines, size, err := cut(b)
	if err != nil {
		return 0, err
	}
	if !r.line(line) || !r.fields(lines) {
		return 0, ErrOdd
	}
	return size, nil
}

// cut divides what b begins with into the first line, the field lines, and what
// follows, whose offset is size.
func cut(b []byte) (first, lines []byte, size int, err error) {
	end := bytes.Index(b, endOfHead)
	if end < 0 {
		if hasBareLF(b) {
			return nil, nil, 0, ErrOdd
		}
		return nil, nil, 0, ErrIncomplete
	}
	head := b[:end+2]
	first, lines, _ = bytes.Cut(head, crlf)
	return first, lines, end + 4, nil
}

// hasBareLF looks for a line that ends without CR: such a head may be complete
// for some.
func hasBareLF(b []byte) bool {
	for from := 0; ; {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return false
		}
		if from += i; from == 0 || b[from-1] != '\r' {
			return true
		}
		from++
	}
}

func (r *Request) line(b []byte) bool {
	method, rest, _ := bytes.Cut(b, []byte(" "))
	target, version, _ := bytes.Cut(rest, []byte(" "))
	r.Method, r.Target = method, target
	return string(version) == "HTTP/1.1" && isPlainMethod(method) && isPlainTarget(target)
}

// isPlainMethod wants capitals, and no CONNECT: that would be a tunnel.
func isPlainMethod(b []byte) bool {
	for _, c := range b {
		if c < 'A' || 'Z' < c {
			return false
		}
	}
	return 0 < len(b) && len(b) <= 32 && string(b) != "CONNECT"
}

// isPlainTarget wants a path that net/url takes as it is.
func isPlainTarget(b []byte) bool {
	if len(b) == 0 || b[0] != '/' {
		return false
	}
	for i, c := range b {
		if classes[c]&isTarget == 0 {
			return false
		}
		if c == '%' && (i+2 >= len(b) || classes[b[i+1]]&classes[b[i+2]]&isHex == 0) {
			return false
		}
	}
	return true
}

func (r *Request) fields(lines []byte) (ok bool) {
	r.Fields, ok = admitted(lines, r.Fields, r.admit)
	return ok && r.named && !(r.Chunked && r.sized)
}

// admitted appends to kept the fields that are to be kept, unless one of them is
// not plain, or they are too many.
func admitted(lines []byte, kept []Field, admit func(Field) (keep, plain bool)) ([]Field, bool) {
	for len(lines) > 0 {
		f, rest, ok := nextField(lines)
		if !ok || len(kept) == maxFields {
			return kept, false
		}
		keep, plain := admit(f)
		if !plain {
			return kept, false
		}
		if keep {
			kept = append(kept, f)
		}
		lines = rest
	}
	return kept, true
}

// admit tells whether the field is to be kept, and whether the head is still
// plain with it. Names are told apart by their length first, for speed.
func (r *Request) admit(f Field) (keep, plain bool) {
	switch len(f.Name) {
	case 2:
		return true, !f.Is("te")
	case 4:
		if f.Is("host") {
			first := !r.named
			r.Host, r.named = f.Value, true
			return false, first
		}
	case 6:
		if f.Is("expect") {
			first := !r.Expects
			r.Expects = true
			return true, first && equalFold(f.Value, "100-continue")
		}
	case 7:
		return true, !f.Is("upgrade") && !f.Is("trailer")
	case 10:
		switch {
		case f.Is("connection"):
			return false, equalFold(f.Value, "keep-alive")
		case f.Is("keep-alive"):
			return false, true
		}
	case 14:
		switch {
		case f.Is("content-length"):
			var ok bool
			first := !r.sized
			r.Length, ok = parseLength(f.Value)
			r.sized = true
			return true, ok && first
		case f.Is("http2-settings"):
			return false, false
		}
	case 17:
		if f.Is("transfer-encoding") {
			first := !r.Chunked
			r.Chunked = true
			return false, first && equalFold(f.Value, "chunked")
		}
	}
	return true, true
}

// nextField reads one field line, and returns the lines after it.
func nextField(lines []byte) (f Field, rest []byte, ok bool) {
	end := bytes.IndexByte(lines, '\n') + 1
	line := lines[:end]
	colon := bytes.IndexByte(line, ':')
	if end < 2 || line[end-2] != '\r' || colon < 1 {
		return f, nil, false
	}
	f.Line, f.Name, f.Value = line, line[:colon], trim(line[colon+1:end-2])
	return f, lines[end:], all(f.Name, isToken) && all(f.Value, isText)
}

// trim takes optional white space off both ends (RFC 9110, section 5.6.3).
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// parseLength wants the shortest way to write a number (RFC 9110, section 8.6).
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || '9' < c {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// Response is a plain answer's head. Its zero value is ready to parse into,
// again and again.
type Response struct {
	Status  int
	Minor   int     // of the version: HTTP/1.0 or HTTP/1.1
	Reason  []byte  // what follows the status, with its space; may be empty
	Length  int64   // of the body, as Content-Length says; -1 where it does not
	Chunked bool    // the body is in chunks
	Close   bool    // the connection ends with this answer
	Fields  []Field // but those that end at this hop: Connection, Keep-Alive, Transfer-Encoding
}

// Parse reads the head at the beginning of b, and returns its size. The error
// is [ErrIncomplete] or [ErrOdd].
func (r *Response) Parse(b []byte) (int, error) {
	*r = Response{Fields: r.Fields[:0], Length: -1}
	line, lines, size, err := cut(b)
	if err != nil {
		return 0, err
	}
	if !r.line(line) || !r.fields(lines) || r.Chunked && (r.Length >= 0 || r.Minor == 0) {
		return 0, ErrOdd
	}
	return size, nil
}

func (r *Response) line(b []byte) bool {
	const version = "HTTP/1."
	digits := len(version) + 2
	if len(b) < digits+3 || string(b[:len(version)]) != version || b[len(version)+1] != ' ' {
		return false
	}
	r.Minor = int(b[len(version)] - '0')
	r.Close = r.Minor == 0
	for _, c := range b[digits : digits+3] {
		if c < '0' || '9' < c {
			return false
		}
		r.Status = 10*r.Status + int(c-'0')
	}
	r.Reason = b[digits+3:]
	return (r.Minor == 0 || r.Minor == 1) && r.Status >= 100 &&
		(len(r.Reason) == 0 || r.Reason[0] == ' ') && all(r.Reason, isText)
}

func (r *Response) fields(lines []byte) (ok bool) {
	r.Fields, ok = admitted(lines, r.Fields, r.admit)
	return ok
}

// admit is as for requests.
func (r *Response) admit(f Field) (keep, plain bool) {
	switch len(f.Name) {
	case 10:
		switch {
		case f.Is("connection"):
			return false, r.connection(f.Value)
		case f.Is("keep-alive"):
			return false, true
		}
	case 14:
		if f.Is("content-length") {
			first := r.Length < 0
			var ok bool
			r.Length, ok = parseLength(f.Value)
			return true, ok && first
		}
	case 17:
		if f.Is("transfer-encoding") {
			first := !r.Chunked
			r.Chunked = true
			return false, first && equalFold(f.Value, "chunked")
		}
	}
	return true, true
}

// connection reads options that are about the connection alone; one that names
// a field is not plain.
func (r *Response) connection(value []byte) bool {
	switch {
	case equalFold(value, "close"):
		r.Close = true
	case !equalFold(value, "keep-alive"):
		return false
	}
	return true
}

// HasBody tells whether a body follows the head of an answer to a request with
// that method (RFC 9112, section 6.3).
func (r *Response) HasBody(method []byte) bool {
	return r.Status >= 200 && r.Status != 204 && r.Status != 304 && r.Length != 0 && string(method) != "HEAD"
}
