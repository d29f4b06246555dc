// Package policy holds the rules: which names, domains, headers and credentials
// are accepted, and which connection a request gets. It does no I/O.
//
// Everything that somebody typed comes in through a Parse function, once, and
// is canonical from then on: comparing is ==, and no later code has to think of
// case, trailing dots or Unicode. What they refuse, they refuse with an
// [attache.FieldError] that says which rule was broken and what to do, and that
// never repeats the value.
//
// An [Index] answers what happens to a request, from an immutable value that
// [Live] replaces on each change.
package policy

import (
	"slices"
	"strings"

	"attache"
)

// Bounds on what is typed.
const (
	minName, maxName = 3, 64
	maxHeader        = 128
)

// refuse makes the error of a broken rule. It takes no value, so that none can
// end up in it.
func refuse(field, rule, remedy string) error {
	return &attache.FieldError{Field: field, Rule: rule, Remedy: remedy}
}

// ParseName accepts the name of an integration, a connection or an OAuth
// client: 3 to 64 characters of A-Z a-z 0-9 _ -. Names are compared with their
// case. The field is what the error calls it.
func ParseName(field, s string) (string, error) {
	if len(s) < minName || len(s) > maxName || strings.ContainsFunc(s, notInName) {
		return "", refuse(field, "must be 3 to 64 characters of A-Z a-z 0-9 _ -", "")
	}
	return s, nil
}

func notInName(r rune) bool { return !isAlphanumeric(r) && r != '_' && r != '-' }

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// Headers that no API key may be sent in, in lower case: those that the rules
// name, and those that frame the message or belong to the proxy.
var (
	standardHeaders = []string{
		"accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "connection",
		"content-md5", "cookie", "date", "expect", "from", "host", "if-match", "if-modified-since",
		"if-none-match", "if-range", "if-unmodified-since", "max-forwards", "pragma", "proxy-authenticate",
		"proxy-authorization", "range", "server", "referer", "te", "trailer", "transfer-encoding", "upgrade",
		"user-agent", "via", "warning", "www-authenticate",
	}
	framingHeaders = []string{
		"content-length", "content-type", "content-encoding", "keep-alive", "proxy-connection", "trailers",
		"http2-settings",
	}
	reservedPrefixes = []string{"x-amz-", "x-amzn-", "x-forwarded-", "x-zis-", "attache-"}
)

// ParseHeaderName accepts the name of a header that an API key may be sent in,
// and keeps its spelling.
func ParseHeaderName(s string) (attache.HeaderName, error) {
	const field, remedy = "header_name", "use the header that the API documents for its key, such as X-Api-Key"
	if len(s) < 1 || len(s) > maxHeader || strings.ContainsFunc(s, notInHeader) {
		return "", refuse(field, "must be 1 to 128 characters of letters, digits and # + - _ |", remedy)
	}
	lower := strings.ToLower(s)
	if slices.Contains(standardHeaders, lower) {
		return "", refuse(field, "is a standard header that never carries an API key", remedy)
	}
	if slices.Contains(framingHeaders, lower) {
		return "", refuse(field, "is a header that frames the message or belongs to the proxy", remedy)
	}
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(lower, p) {
			return "", refuse(field, "begins with "+p+", which is reserved", remedy)
		}
	}
	return attache.HeaderName(s), nil
}

func notInHeader(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("#+-_|", r) }
