package audit

import (
	"strconv"
	"time"

	"attache"
)

// appendPlain appends the line of an event whose texts are all printable ASCII,
// which nearly all are, as encoding/json would write it and several times as
// fast; each request has one. It reports false for any other event.
func appendPlain(b []byte, e *attache.Event) ([]byte, bool) {
	if !isPlain(e.ID) || !isPlain(string(e.Kind)) || !isPlain(e.Tunnel) || !isPlain(e.Client) ||
		!isPlain(e.Integration) || !isPlain(e.Connection) || !isPlain(string(e.Decision)) ||
		!isPlain(string(e.Code)) || !isPlain(e.Reason) || !isPlain(e.Target) || !isPlain(e.Method) ||
		!isPlain(e.Path) || !isPlain(e.Protocol) {
		return b, false
	}
	if !isPlainNumber(e.Duration) || !isPlainNumber(e.Upstream) || e.Time.Year() < 0 || e.Time.Year() > 9999 {
		return b, false
	}
	b = append(b, '{')
	b = appendText(b, "request_id", e.ID)
	b = append(b, `,"time":"`...)
	b = e.Time.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `",`...)
	b = appendText(b, "kind", string(e.Kind))
	b = appendSome(b, "tunnel", e.Tunnel)
	b = appendSome(b, "client", e.Client)
	b = appendSome(b, "integration", e.Integration)
	b = appendSome(b, "connection", e.Connection)
	b = append(b, ',')
	b = appendText(b, "decision", string(e.Decision))
	b = appendSome(b, "code", string(e.Code))
	b = appendSome(b, "reason", e.Reason)
	b = appendSome(b, "target", e.Target)
	b = appendSome(b, "method", e.Method)
	b = appendSome(b, "path", e.Path)
	b = appendSome(b, "protocol", e.Protocol)
	if e.Status != 0 {
		b = append(b, `,"status":`...)
		b = strconv.AppendInt(b, int64(e.Status), 10)
	}
	b = append(b, `,"bytes_in":`...)
	b = strconv.AppendInt(b, e.BytesIn, 10)
	b = append(b, `,"bytes_out":`...)
	b = strconv.AppendInt(b, e.BytesOut, 10)
	b = append(b, `,"duration_seconds":`...)
	b = strconv.AppendFloat(b, e.Duration, 'f', -1, 64)
	if e.Upstream != 0 {
		b = append(b, `,"upstream_seconds":`...)
		b = strconv.AppendFloat(b, e.Upstream, 'f', -1, 64)
	}
	return append(b, '}', '\n'), true
}

// isPlain reports whether JSON writes the text as it is.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// isPlainNumber reports whether JSON writes the number without an exponent.
func isPlainNumber(f float64) bool { return f == 0 || 1e-6 <= f && f < 1e21 }

func appendText(b []byte, name, text string) []byte {
	b = append(b, '"')
	b = append(b, name...)
	b = append(b, `":"`...)
	b = append(b, text...)
	return append(b, '"')
}

// appendSome appends a field that is left out where it is empty.
func appendSome(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return appendText(append(b, ','), name, text)
}
