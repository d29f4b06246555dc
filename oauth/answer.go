package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"attache/secret"
)

const (
	byteOrderMark = "\ufeff" // some write it before JSON, against RFC 8259, section 8.1

	maxScope = 255       // characters (rule O3)
	maxToken = 32 << 10  // bytes
	maxLife  = 10 * year // longer is not believed
	year     = 365 * 24 * time.Hour
)

// Token is what a token endpoint gave.
type Token struct {
	Access  secret.Text
	Refresh secret.Text // zero: none, or the one that was used stays good
	Type    string      // always Bearer
	Scope   string      // as granted; empty: the answer does not say, which means as asked (RFC 6749, section 5.1)
	Issued  time.Time   // when it was asked for
	Expires time.Time   // zero: the answer does not say
}

// parseToken reads the answer of a token endpoint (RFC 6749, section 5). sent
// are the secrets of the request, which no error code may repeat.
//
// With an error, the token may still hold a refresh token: a refused answer may
// have rotated it all the same.
func parseToken(a answer, sent []string) (Token, error) {
	fields, err := parseFields(a)
	access, refresh := fields.secret("access_token"), fields.secret("refresh_token")
	if failed := failure(a, fields, sent); failed != nil {
		if access.IsZero() { // it may tell what it was asked, with the token masked
			return Token{}, failed
		}
		return Token{Refresh: refresh}, failed
	}
	if err != nil {
		return Token{}, &Error{Kind: Malformed, Code: CodeMalformed, Status: a.status}
	}
	t := Token{Type: "Bearer", Issued: a.asked, Refresh: refresh}
	if access.IsZero() || access.Check(fitsHeader) != nil {
		return t, &Error{Kind: Malformed, Code: CodeMalformed, Status: a.status}
	}
	if !isBearer(fields.text("token_type")) {
		return t, &Error{Kind: ClientRefused, Code: CodeTokenType, Status: a.status}
	}
	t.Access = access
	if life := fields.lifetime("expires_in"); life > 0 {
		t.Expires = t.Issued.Add(life)
	}
	scope := printable(fields.words("scope"))
	if utf8.RuneCountInString(scope) > maxScope {
		return t, &Error{Kind: ClientRefused, Code: CodeScopeTooLong, Status: a.status}
	}
	t.Scope = scope
	return t, nil
}

// isBearer tells whether a token of this type goes out as "Bearer TOKEN". Some
// providers leave the type out, and one says whose token it is instead.
func isBearer(tokenType string) bool {
	switch strings.ToLower(tokenType) {
	case "bearer", "", "bot", "user":
		return true
	}
	return false
}

// failure returns the error that an answer is, or nil where it claims success.
func failure(a answer, f fields, sent []string) error {
	code, isError := f.failure()
	e := &Error{Status: a.status, Code: errorCode(code, sent), RetryAfter: retryAfter(a.header, a.asked)}
	if code == "" && a.status >= 400 {
		e.Code = "http_" + strconv.Itoa(a.status)
	}
	switch {
	case a.status >= 500 || a.status == http.StatusTooManyRequests:
		return e
	case isError || a.status >= 400:
		e.Kind = kinds[code]
		return e
	case a.status != http.StatusOK && a.status != http.StatusCreated:
		return &Error{Kind: Malformed, Code: CodeMalformed, Status: a.status}
	}
	return nil
}

// fields are the members of a JSON object, exactly as they are named. A struct
// would also take Access_Token.
type fields map[string]json.RawMessage

func parseFields(a answer) (fields, error) {
	if kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type")); kind == "application/x-www-form-urlencoded" {
		return parseForm(string(a.body))
	}
	var f fields
	if err := json.Unmarshal(bytes.TrimPrefix(a.body, []byte(byteOrderMark)), &f); err != nil {
		return nil, err
	}
	if f == nil {
		return nil, errors.New("null")
	}
	return f, nil
}

// parseForm reads the answers of providers that are older than RFC 6749.
func parseForm(body string) (fields, error) {
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, err
	}
	f := fields{}
	for name, v := range values {
		if f[name], err = json.Marshal(v[0]); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// text returns a string, or nothing where the field is of another type.
func (f fields) text(name string) string {
	var s string
	if err := json.Unmarshal(f[name], &s); err != nil {
		return ""
	}
	return s
}

// words returns a string, or the strings of an array with spaces between.
func (f fields) words(name string) string {
	var list []string
	if err := json.Unmarshal(f[name], &list); err == nil {
		return strings.Join(list, " ")
	}
	return f.text(name)
}

// secret returns a token, or nothing where it is none that could be sent back.
func (f fields) secret(name string) secret.Text {
	s := f.text(name)
	if isToken(s) != nil {
		return secret.Text{}
	}
	return secret.New(s)
}

// failure returns the error code of an answer that is an error whatever its
// status, and whether it is.
func (f fields) failure() (code string, is bool) {
	raw := string(f["error"])
	ok, stated := f["ok"]
	is = stated && string(ok) == "false"
	switch raw {
	case "", "null", "false", `""`:
		return "", is
	}
	return f.text("error"), true
}

// lifetime reads a number of seconds as providers write it: an integer, a
// float, or either in a string. What is missing, no number, not above zero or
// longer than ten years is unknown: the tokens beside it are good all the same,
// and a refresh token thrown away over it would be lost.
func (f fields) lifetime(name string) time.Duration {
	raw := string(f[name])
	if s := f.text(name); s != "" {
		raw = strings.TrimSpace(s)
	}
	seconds, err := strconv.ParseFloat(raw, 64)
	if err != nil || math.IsNaN(seconds) || seconds <= 0 || seconds > maxLife.Seconds() {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

// isToken refuses what could not be sent back: what is too long, or has more than
// printable ASCII, the space included (RFC 6749, appendix A).
func isToken(s string) error {
	if len(s) > maxToken || printable(s) != s {
		return errors.New("is no token")
	}
	return nil
}

// fitsHeader refuses what is no token68 of a Bearer field (RFC 6750, section
// 2.1), but for the characters that providers use beyond it: anything visible.
func fitsHeader(s string) error {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return errors.New("is not sent in a header")
		}
	}
	return nil
}

// printable drops what is not printable ASCII, terminal escapes above all.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}
