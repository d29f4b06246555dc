package admin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"attache"
)

// Codes of the API's own problems, beside those that it shares with the proxy.
// Like those they are stable.
const (
	CodeNotFound        attache.Code = "not_found"
	CodeExists          attache.Code = "already_exists"
	CodeInvalid         attache.Code = "invalid"        // a field breaks a rule: see errors
	CodeMalformed       attache.Code = "malformed"      // the body is not a JSON object
	CodeTooLarge        attache.Code = "body_too_large" // beyond 1 MiB, or 64 KiB of a form
	CodeSlow            attache.Code = "body_timeout"
	CodeNotJSON         attache.Code = "unsupported_media_type"
	CodeUnknownRoute    attache.Code = "unknown_route"
	CodeAdminToken      attache.Code = "admin_token_required" // none was presented
	CodeAdminTokenBad   attache.Code = "admin_token_invalid"  // malformed, unknown, revoked or expired
	CodeTooManyAttempts attache.Code = "too_many_attempts"
	CodeRole            attache.Code = "role_insufficient"
	CodeCrossOrigin     attache.Code = "cross_origin"
	CodeHost            attache.Code = "host_not_allowed"
	CodeSigning         attache.Code = "certificate_signs" // so it cannot be dropped

	CodeReferenced            attache.Code = "still_used"              // so it cannot be deleted
	CodeNotExportable         attache.Code = "not_exportable"          // there is no grant to give away
	CodeUnknownMove           attache.Code = "unknown_move"            // none of that ID waits to be confirmed
	CodeReplayed              attache.Code = "imported_before"         // a move, which is imported once only
	CodeOAuthOff              attache.Code = "oauth_unavailable"       // see OAuthOptions
	CodeUnknownAuthorization  attache.Code = "unknown_authorization"   // used up, too old, or somebody else's
	CodeTooManyAuthorizations attache.Code = "too_many_authorizations" // wait for people
	CodeProviderRefused       attache.Code = "provider_refused"        // the OAuth provider says no
	CodeProviderFailed        attache.Code = "provider_failed"         // the OAuth provider says nothing of use
)

// problems says how each of the API's codes surfaces.
var problems = map[attache.Code]struct {
	status int
	title  string
}{
	CodeNotFound:        {404, "It does not exist"},
	CodeExists:          {409, "The name is taken"},
	CodeInvalid:         {422, "The request breaks a rule"},
	CodeMalformed:       {400, "The body is not what this API reads"},
	CodeTooLarge:        {413, "The body is too large"},
	CodeSlow:            {408, "The body did not arrive in time"},
	CodeNotJSON:         {415, "The body must be JSON"},
	CodeUnknownRoute:    {404, "There is no such route"},
	CodeAdminToken:      {401, "An admin token is needed"},
	CodeAdminTokenBad:   {401, "The admin token is not valid"},
	CodeTooManyAttempts: {429, "Too many failed attempts"},
	CodeRole:            {403, "The token's role does not allow this"},
	CodeCrossOrigin:     {403, "Requests from other sites are refused"},
	CodeHost:            {421, "The Host header names no host of this API"},
	CodeSigning:         {409, "The certificate is in use"},

	CodeReferenced:            {409, "Something still needs it"},
	CodeNotExportable:         {409, "The connection cannot be exported"},
	CodeUnknownMove:           {404, "No move waits for this"},
	CodeReplayed:              {409, "It was imported before"},
	CodeOAuthOff:              {503, "This server reaches no OAuth providers"},
	CodeUnknownAuthorization:  {404, "No authorization waits for this"},
	CodeTooManyAuthorizations: {429, "Too many authorizations wait for people"},
	CodeProviderRefused:       {422, "The OAuth provider refused"},
	CodeProviderFailed:        {502, "The OAuth provider gave no answer that can be used"},

	attache.CodeMethodNotAllowed: {405, "The route has no such method"},
	attache.CodeClientGone:       {499, "The client went away"},
	attache.CodeOverloaded:       {503, "The server is at its limit"},
	attache.CodeInternal:         {500, "The server failed"},
}

// failure is an error that knows how it is answered. Every error of a handler
// becomes one in [failureOf], and nothing else is ever written as an error.
type failure struct {
	attache.Problem
	header http.Header
	cause  error // for the log alone
}

// fail makes a failure. The detail says what to do; it names no submitted value.
func fail(code attache.Code, detail string) *failure {
	p := problems[code]
	return &failure{Problem: attache.Problem{
		Type: "about:blank", Title: p.title, Status: p.status, Code: code, Detail: detail,
	}}
}

// with adds a header field to the answer.
func (f *failure) with(name, value string) *failure {
	if f.header == nil {
		f.header = http.Header{}
	}
	f.header.Set(name, value)
	return f
}

func (f *failure) Error() string             { return f.Title + ": " + f.Detail }
func (f *failure) Unwrap() error             { return f.cause }
func (f *failure) GetStatus() int            { return f.Status }
func (f *failure) GetHeaders() http.Header   { return f.header }
func (f *failure) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// failureOf decides how an error is answered. What it does not know is a 500
// whose cause goes to the log and not to the client.
func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	if fields := fieldErrors(err); len(fields) > 0 {
		return invalid(fields...)
	}
	if f := oauthFailure(err); f != nil {
		return f
	}
	switch {
	case errors.Is(err, attache.ErrReferenced):
		return fail(CodeReferenced, err.Error()+".") // names and nothing else
	case errors.Is(err, attache.ErrNotFound):
		return fail(CodeNotFound, "Nothing has that name; the integration may not exist either.")
	case errors.Is(err, attache.ErrExists):
		return fail(CodeExists, "Choose another name, or delete what has it first.")
	case errors.Is(err, context.Canceled):
		return fail(attache.CodeClientGone, "Nobody reads this.")
	}
	f = fail(attache.CodeInternal, "The server's log says why, under this request_id.")
	f.RequestID = rand.Text()
	f.cause = err
	return f
}

// maxFieldErrors is how many a 422 has at most. A request can have tens of
// thousands, of a few bytes each, and each is answered with a sentence.
const maxFieldErrors = 20

// invalid is a 422 with one entry for each field, for the first that there are.
func invalid(fields ...*attache.FieldError) *failure {
	f := fail(CodeInvalid, "Nothing was changed. Each entry of errors names a field, the rule and what to do.")
	for _, e := range fields[:min(len(fields), maxFieldErrors)] {
		f.Errors = append(f.Errors, attache.ProblemField{Field: shownName(e.Field), Rule: e.Rule, Remedy: e.Remedy})
	}
	return f
}

// fieldErrors collects the field errors of a tree made by errors.Join and %w.
func fieldErrors(err error) []*attache.FieldError {
	if e, ok := err.(*attache.FieldError); ok {
		return []*attache.FieldError{e}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return fieldErrors(e.Unwrap())
	case interface{ Unwrap() []error }:
		var all []*attache.FieldError
		for _, one := range e.Unwrap() {
			all = append(all, fieldErrors(one)...)
		}
		return all
	}
	return nil
}

var fieldName = regexp.MustCompile(`^[A-Za-z0-9_.\[\]-]{1,64}$`)

// shownName is a field's name as an answer may repeat it. A client chooses the
// names of unknown fields, so one that does not look like a name is not shown.
func shownName(name string) string {
	if fieldName.MatchString(name) {
		return name
	}
	return "(unnamed)"
}

// problemTransformer replaces the errors that huma makes itself, before any
// handler of ours runs. Theirs repeat the submitted value; of a parameter's
// error the location and the message are kept, of all others only the status.
func problemTransformer(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	switch m.Status {
	case http.StatusBadRequest:
		return fail(CodeMalformed, "The request needs a JSON object as its body; {} where it has nothing to say."), nil
	case http.StatusRequestEntityTooLarge:
		return fail(CodeTooLarge, "A body may have 1 MiB."), nil
	case http.StatusRequestTimeout:
		return fail(CodeSlow, "Send the body at once."), nil
	case http.StatusUnprocessableEntity:
		var fields []*attache.FieldError
		for _, d := range m.Errors {
			_, name, _ := strings.Cut(d.Location, ".")
			fields = append(fields, &attache.FieldError{Field: name, Rule: "is not valid", Remedy: d.Message})
		}
		return invalid(fields...), nil
	}
	f := fail(attache.CodeInternal, "The request could not be handled.")
	f.Status = m.Status
	return f, nil
}

// write answers with the failure, where no huma operation does.
func (f *failure) write(w http.ResponseWriter) {
	for name, values := range f.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(f.Problem) // the client may have gone
}

// log records what the client is not told.
func (f *failure) log(ctx context.Context, l *slog.Logger) {
	if f.cause != nil {
		l.ErrorContext(ctx, "admin request failed", "request_id", f.RequestID, "error", f.cause)
	}
}
