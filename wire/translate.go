package wire

// AppendRequestLine appends the request line of HTTP/1.1 and the Host that say what
// the pseudo-header fields of an HTTP/2 request do. It says no where one of them is
// empty, or would end its place in the line. The parser looks at the rest.
func AppendRequestLine(b []byte, method, path, authority string) ([]byte, bool) {
	b, okMethod := appendWord(b, method)
	b, okPath := appendWord(append(b, ' '), path)
	b, okAuthority := appendWord(append(b, " HTTP/1.1\r\nHost: "...), authority)
	return append(b, "\r\n"...), okMethod && okPath && okAuthority
}

func appendWord(b []byte, word string) ([]byte, bool) {
	for i := range len(word) {
		if word[i] <= ' ' || word[i] >= 0x7f {
			return b, false
		}
	}
	return append(b, word...), word != ""
}

// AppendRequestField appends a field of an HTTP/2 request as a line of HTTP/1.1,
// its name in the usual case. It says no to what would not mean the same there: a
// name that is not all lower case, a value with anything but text or with white
// space around it, and the fields that HTTP/2 has not or has otherwise (RFC 9113,
// sections 8.2.1 and 8.2.2) as far as [Request.Parse] does not say so.
func AppendRequestField(b []byte, name, value string) ([]byte, bool) {
	if len(name) == 0 || !isFieldText(value) {
		return b, false
	}
	switch name {
	case "host", "connection", "keep-alive", "proxy-connection", "content-length":
		return b, false
	}
	upper := true
	for i := range len(name) {
		c := name[i]
		if classes[c]&isToken == 0 || 'A' <= c && c <= 'Z' {
			return b, false
		}
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper = c == '-'
		b = append(b, c)
	}
	b = append(append(b, ": "...), value...)
	return append(b, "\r\n"...), true
}

func isFieldText(s string) bool {
	for i := range len(s) {
		if classes[s[i]]&isText == 0 {
			return false
		}
	}
	return s == "" || s[0] > ' ' && s[len(s)-1] > ' '
}
