package oauth

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"attache"
)

// Kind says what follows from a provider's failure.
type Kind uint8

// The kinds. The zero Kind is TryLater: what is not understood may pass.
const (
	TryLater      Kind = iota // an outage, a rate limit, an error that nobody knows: the same request may succeed later
	GrantRefused              // the code or refresh token is not valid, or the person said no: a person is needed
	ClientRefused             // the registration is wrong: an edit is needed, and the grant is as good as before
	Malformed                 // the answer is no answer of a token endpoint
	Pending                   // device codes: the person has not decided yet
	SlowDown                  // device codes: ask less often
)

// Error codes of ours, in the places where the provider's is shown otherwise.
const (
	CodeNetwork        = "network_error"             // no connection, or it broke
	CodeDNS            = "dns_error"                 // the provider's host name does not resolve
	CodeTLS            = "tls_error"                 // its certificate is not trusted, or the handshake failed
	CodeTimeout        = "timeout"                   // no answer within the bound
	CodeMalformed      = "malformed_answer"          // not JSON, no token, a redirect
	CodeAnswerTooLong  = "answer_too_long"           // more than 1 MiB
	CodeTokenType      = "unsupported_token_type"    // not a bearer token
	CodeScopeTooLong   = "scope_too_long"            // the granted scope has more than 255 characters
	CodeWithheld       = "error_withheld"            // the provider's error repeats a secret of ours
	CodeUnspecified    = "provider_error"            // the provider named none
	CodeInterrupted    = "refresh_interrupted"       // a refresh was cut off and the provider then refused its token
	CodeNoRefreshToken = "no_refresh_token"          // the access token has ended, and there is nothing to refresh it with
	CodeClientMissing  = "oauth_client_missing"      // the connection's OAuth client does not exist
	CodeClientInvalid  = "oauth_client_invalid"      // its URLs or keys cannot be used
	CodeStorage        = "storage_error"             // our own disk failed
	CodeTokenRefused   = "access_token_refused"      // the upstream refused a token that was refreshed already, or cannot be
	CodeIssuerMismatch = "issuer_mismatch"           // somebody else's answer (RFC 9207)
	CodeNotAuthorized  = "not_authorized"            // nobody has authorized the connection yet
	CodeNoDeviceFlow   = "device_flow_not_supported" // the client has no device URL

	CodeMoveUnconfirmed = "move_unconfirmed" // the grant was given away, and nobody has said yet that it is safe
	CodeMoved           = "grant_moved"      // the grant was given away
	CodeCopied          = "grant_copied"     // a copy of the grant was
	CodeImported        = "grant_imported"   // the grant came from another machine
)

// Error is a call to a provider that failed. It holds nothing that the provider
// wrote but an error code, which is checked and bounded.
type Error struct {
	Kind   Kind
	Code   string // the provider's (RFC 6749, section 5.2), or one of ours
	Status int    // of HTTP; 0: there was no answer
	// RetryAfter is how long the provider asks to wait; zero: it did not say.
	RetryAfter time.Duration
	// Unsent: the provider cannot have seen the request.
	Unsent bool

	cause error // of dialling or of a certificate: nothing that the provider wrote
}

func (e *Error) Error() string {
	text := "the provider's answer: " + e.Code
	if e.Status == 0 && e.Kind == TryLater { // a redirect brings a refusal without a status
		text = "no answer from the provider: " + e.Code
	}
	if advice := Advice(e.Code); advice != "" {
		text += " (" + advice + ")"
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap returns what kept the request from being sent, where that is known.
func (e *Error) Unwrap() error { return e.cause }

// settled tells whether it is known what became of a refresh token that was in
// the request: nobody saw it, or who saw it said no.
func (e *Error) settled() bool {
	switch e.Code {
	case CodeTokenType, CodeScopeTooLong:
		return false // it is us who say no
	}
	return e.Unsent || e.Kind == GrantRefused || e.Kind == ClientRefused || e.Status == http.StatusTooManyRequests
}

// kinds are the error codes whose meaning is known: those of RFC 6749 (sections
// 4.1.2.1 and 5.2), RFC 8628, RFC 8707 and OpenID Connect, and what large
// providers say in their place.
var kinds = map[string]Kind{
	"invalid_grant":              GrantRefused,
	"access_denied":              GrantRefused,
	"expired_token":              GrantRefused,
	"consent_required":           GrantRefused,
	"interaction_required":       GrantRefused,
	"login_required":             GrantRefused,
	"account_selection_required": GrantRefused,
	"invalid_refresh_token":      GrantRefused,
	"bad_refresh_token":          GrantRefused,
	"bad_verification_code":      GrantRefused,
	"invalid_code":               GrantRefused,
	"code_already_used":          GrantRefused,
	"token_revoked":              GrantRefused,

	"invalid_client":               ClientRefused,
	"unauthorized_client":          ClientRefused,
	"unsupported_grant_type":       ClientRefused,
	"unsupported_response_type":    ClientRefused,
	"invalid_scope":                ClientRefused,
	"invalid_target":               ClientRefused,
	"incorrect_client_credentials": ClientRefused,
	"redirect_uri_mismatch":        ClientRefused,
	"invalid_client_id":            ClientRefused,
	"bad_client_secret":            ClientRefused,
	CodeTokenType:                  ClientRefused,
	CodeScopeTooLong:               ClientRefused,

	"authorization_pending": Pending,
	"slow_down":             SlowDown,
}

// Advice says in a sentence what an error code means and what to do about it;
// empty for a code that nobody knows.
func Advice(code string) string {
	switch code {
	case "invalid_grant", "invalid_refresh_token", "bad_refresh_token", "token_revoked":
		return "the provider no longer accepts the grant: authorize the connection again"
	case "access_denied":
		return "the person, or a rule of the provider, said no"
	case "expired_token":
		return "nobody confirmed in time: start again"
	case "invalid_client", "incorrect_client_credentials", "invalid_client_id", "bad_client_secret":
		return "the provider does not accept the client id and secret: correct the OAuth client"
	case "unauthorized_client", "unsupported_grant_type":
		return "the provider does not allow this client this grant type: change its registration there, then save the OAuth client here"
	case "invalid_scope":
		return "the provider does not grant these scopes"
	case "redirect_uri_mismatch":
		return "the callback URL is not registered at the provider"
	case CodeInterrupted:
		return "a refresh was cut off after its refresh token may have been spent, the answer was lost, and the token cannot be used again: authorize the connection again"
	case CodeNoRefreshToken:
		return "the provider gave no refresh token: authorize the connection again when it expires"
	case CodeScopeTooLong:
		return fmt.Sprintf("the provider granted a scope of more than %d characters, which is refused: ask for fewer", maxScope)
	case CodeTokenType:
		return "only bearer tokens can be used"
	case CodeStorage:
		return "the grant could not be read or written, so nothing was sent: see to the disk"
	case CodeClientMissing:
		return "the connection's OAuth client does not exist: create it"
	case CodeClientInvalid:
		return "the OAuth client cannot be used as it is: correct it"
	case CodeNotAuthorized:
		return "nobody has authorized the connection yet"
	case CodeTokenRefused:
		return "the upstream refuses an access token that is as new as it gets"
	case CodeIssuerMismatch:
		return "the answer came from another provider than the one that was asked"
	case CodeNoDeviceFlow:
		return "the OAuth client has no device authorization URL"
	case CodeMoveUnconfirmed:
		return "the grant was exported for another machine, and it is not known whether the file was written: if it was not, export it again; if it was, delete the connection"
	case CodeMoved:
		return "the grant was exported, and is used on another machine: send requests there, or authorize the connection again; where it gets its tokens by itself (client_credentials), delete it and make it anew"
	case CodeCopied:
		return "a copy of the grant was exported"
	case CodeImported:
		return "the grant was exported on another machine and is kept alive here from now on"
	default:
		return ""
	}
}

// StateError: a connection has no token that may be used now.
type StateError struct {
	State   attache.GrantState
	Code    string    // why: the provider's error code, or one of ours
	RetryAt time.Time // of the next try; zero: none is planned
}

func (e *StateError) Error() string {
	text := "the connection has no token that may be used: " + string(e.State)
	if e.Code != "" {
		text += ", " + e.Code
	}
	if advice := Advice(e.Code); advice != "" {
		text += " (" + advice + ")"
	}
	return text
}

const (
	maxErrorCode = 64
	// sharedRun is how many characters in a row an error code may not have from a
	// secret.
	sharedRun = 8
)

// errorCode makes a provider's error code fit to be shown: the characters of
// RFC 6749, section 5.2, at most 64 of them, and no part of what we sent.
func errorCode(code string, sent []string) string {
	if code == "" {
		return CodeUnspecified
	}
	if _, known := kinds[code]; known {
		return code
	}
	code = code[:min(len(code), maxErrorCode)]
	for _, s := range sent {
		if len(s) < sharedRun && strings.Contains(code, s) {
			return CodeWithheld
		}
		for i := range max(0, len(code)-sharedRun+1) {
			if strings.Contains(s, code[i:i+sharedRun]) {
				return CodeWithheld
			}
		}
	}
	code = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, code))
	return cmp.Or(code, CodeUnspecified)
}

// maxRetryAfter is as long as a provider may have us wait.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads the field of RFC 9110, section 10.2.3.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
