package audit

import (
	"math"
	"strconv"
	"time"

	"attache"
)

// plain writes events whose texts are all printable ASCII, which nearly all are, as
// encoding/json would write them and many times as fast; each request has one. Its zero
// value is ready. It is for one goroutine at a time.
type plain struct {
	// The second that was last written, in its zone, and what goes before and after
	// the fraction of a second.
	second       int64
	zone         *time.Location
	date, offset []byte
}

// append appends the line of e. It reports false, and appends nothing, where e is
// not plain.
func (p *plain) append(b []byte, e *attache.Event) ([]byte, bool) {
	if !isPlain(e.ID) || !isPlain(string(e.Kind)) || !isPlain(e.Tunnel) || !isPlain(e.Client) ||
		!isPlain(e.Integration) || !isPlain(e.Connection) || !isPlain(string(e.Decision)) ||
		!isPlain(string(e.Code)) || !isPlain(e.Reason) || !isPlain(e.Target) || !isPlain(e.Method) ||
		!isPlain(e.Path) || !isPlain(e.Protocol) {
		return b, false
	}
	if !isPlainNumber(e.Duration) || !isPlainNumber(e.Upstream) || !p.turnTo(e.Time) {
		return b, false
	}
	b = appendText(b, `{"request_id":"`, e.ID)
	b = append(b, `,"time":"`...)
	b = append(b, p.date...)
	b = appendFraction(b, e.Time.Nanosecond())
	b = append(b, p.offset...)
	b = appendText(b, `","kind":"`, string(e.Kind))
	b = appendSome(b, `,"tunnel":"`, e.Tunnel)
	b = appendSome(b, `,"client":"`, e.Client)
	b = appendSome(b, `,"integration":"`, e.Integration)
	b = appendSome(b, `,"connection":"`, e.Connection)
	b = appendText(b, `,"decision":"`, string(e.Decision))
	b = appendSome(b, `,"code":"`, string(e.Code))
	b = appendSome(b, `,"reason":"`, e.Reason)
	b = appendSome(b, `,"target":"`, e.Target)
	b = appendSome(b, `,"method":"`, e.Method)
	b = appendSome(b, `,"path":"`, e.Path)
	b = appendSome(b, `,"protocol":"`, e.Protocol)
	if e.Status != 0 {
		b = append(b, `,"status":`...)
		b = strconv.AppendInt(b, int64(e.Status), 10)
	}
	b = append(b, `,"bytes_in":`...)
	b = strconv.AppendInt(b, e.BytesIn, 10)
	b = append(b, `,"bytes_out":`...)
	b = strconv.AppendInt(b, e.BytesOut, 10)
	b = append(b, `,"duration_seconds":`...)
	b = appendSeconds(b, e.Duration)
	if e.Upstream != 0 {
		b = append(b, `,"upstream_seconds":`...)
		b = appendSeconds(b, e.Upstream)
	}
	return append(b, '}', '\n'), true
}

// turnTo makes the second that of t, unless RFC 3339 has no way to write its year or zone.
func (p *plain) turnTo(t time.Time) bool {
	if t.Unix() == p.second && t.Location() == p.zone {
		return true
	}
	const day = 24 * 60 * 60
	if _, east := t.Zone(); east <= -day || east >= day || t.Year() < 0 || t.Year() > 9999 {
		return false
	}
	p.second, p.zone = t.Unix(), t.Location()
	p.date = t.AppendFormat(p.date[:0], "2006-01-02T15:04:05")
	p.offset = t.AppendFormat(p.offset[:0], "Z07:00")
	return true
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

// isPlainNumber reports whether JSON writes the number without a sign and an exponent.
func isPlainNumber(f float64) bool { return f == 0 && !math.Signbit(f) || 1e-6 <= f && f < 1e21 }

// appendText appends a text, its name before it and a quotation mark behind it.
func appendText(b []byte, name, text string) []byte {
	b = append(b, name...)
	b = append(b, text...)
	return append(b, '"')
}

// appendSome appends a field that is left out where it is empty.
func appendSome(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return appendText(b, name, text)
}

// appendSeconds appends a plain number in its shortest form. For one that is whole
// nanoseconds, of fifteen digits at most, that is the number of these: so many digits
// tell any two floats apart, so that there is no shorter form.
func appendSeconds(b []byte, f float64) []byte {
	const second = 1e9
	if f >= 1e15/second {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	n := int64(f*second + 0.5)
	if float64(n)/second != f {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	b = strconv.AppendInt(b, n/second, 10)
	return appendFraction(b, int(n%second))
}

// appendFraction appends nanoseconds as the fraction of a second, without zeros at
// its end; nothing where there are none.
func appendFraction(b []byte, nanoseconds int) []byte {
	if nanoseconds == 0 {
		return b
	}
	point := len(b)
	b = strconv.AppendInt(b, int64(time.Second)+int64(nanoseconds), 10) // a one, and nine digits
	b[point] = '.'
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}
