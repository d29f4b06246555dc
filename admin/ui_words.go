package admin

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
	"unicode"

	"attache"
	"attache/secret"
)

// words are what templates call to put values into words.
var words = template.FuncMap{
	"plain":    plain,
	"moment":   moment,
	"machine":  func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"tab":      func(p page, path, name string) tab { return tab{path, name, p.Path == path} },
	"seconds":  seconds,
	"uptime":   uptime,
	"outcome":  func(a attache.Action) string { return outcomes[a] },
	"redacted": func() string { return secret.Redacted },
	"link":     link,
}

// tab is a page in the navigation.
type tab struct {
	Path, Name string
	Here       bool
}

// outcomes say what each action means.
var outcomes = map[attache.Action]string{
	attache.Inject:  "sent with the connection's credential",
	attache.Tunnel:  "passed on without being decrypted",
	attache.Forward: "sent over plain http, without a credential",
	attache.Deny:    "refused; nothing is sent",
}

// plain is a text that a stranger may have chosen, without the characters that
// control how what stands around it is shown: line ends, escapes, directions.
// Templates escape the rest.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// moment is a time to the second. The pages say that it is UTC.
func moment(t time.Time) string { return t.UTC().Format(time.DateTime) }

// seconds is a duration with about three digits: "4.2 ms", "870 ms", "12.4 s".
func seconds(s float64) string {
	switch ms := s * 1000; {
	case ms < 99.95:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0f ms", ms)
	case s < 600:
		return fmt.Sprintf("%.1f s", s)
	default:
		return fmt.Sprintf("%.0f min", s/60)
	}
}

// uptime is how long the server has run, in the two units that matter.
func uptime(s float64) string {
	total := int(math.Round(s))
	for _, unit := range []struct {
		seconds, below int
		name, lesser   string
	}{
		{24 * 3600, 3600, "d", "h"},
		{3600, 60, "h", "min"},
		{60, 1, "min", "s"},
	} {
		if total >= unit.seconds {
			return fmt.Sprintf("%d %s %d %s", total/unit.seconds, unit.name, total%unit.seconds/unit.below, unit.lesser)
		}
	}
	return fmt.Sprintf("%d s", total)
}
