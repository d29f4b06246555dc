package oauth_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/oauth"
	"attache/secret"
)

// shown is a token as tests compare it.
type shown struct {
	Access, Refresh, Scope string
	Life                   time.Duration // negative: unknown
}

func show(t oauth.Token) shown {
	s := shown{t.Access.Expose(), t.Refresh.Expose(), t.Scope, -1}
	if !t.Expires.IsZero() {
		s.Life = t.Expires.Sub(t.Issued)
	}
	return s
}

func TestAnswersAreReadAsProvidersWriteThem(t *testing.T) {
	const hour, unknown = time.Hour, time.Duration(-1)
	for sentence, c := range map[string]struct {
		body string
		want shown
	}{
		"expires_in is an integer":                   {`{"access_token":"a","refresh_token":"r","token_type":"Bearer","expires_in":3600,"scope":"x y"}`, shown{"a", "r", "x y", hour}},
		"expires_in is a string":                     {`{"access_token":"a","expires_in":"3600"}`, shown{"a", "", "", hour}},
		"expires_in is a float":                      {`{"access_token":"a","expires_in":3600.5}`, shown{"a", "", "", hour + 500*time.Millisecond}},
		"expires_in is a float in a string":          {`{"access_token":"a","expires_in":"3.6e3"}`, shown{"a", "", "", hour}},
		"expires_in is missing":                      {`{"access_token":"a"}`, shown{"a", "", "", unknown}},
		"expires_in is null":                         {`{"access_token":"a","expires_in":null}`, shown{"a", "", "", unknown}},
		"expires_in is empty":                        {`{"access_token":"a","expires_in":""}`, shown{"a", "", "", unknown}},
		"expires_in is 0":                            {`{"access_token":"a","expires_in":0}`, shown{"a", "", "", unknown}},
		"expires_in is negative":                     {`{"access_token":"a","expires_in":-5}`, shown{"a", "", "", unknown}},
		"expires_in is a word":                       {`{"access_token":"a","expires_in":"never"}`, shown{"a", "", "", unknown}},
		"expires_in is NaN":                          {`{"access_token":"a","expires_in":"NaN"}`, shown{"a", "", "", unknown}},
		"expires_in is infinite":                     {`{"access_token":"a","expires_in":"Inf"}`, shown{"a", "", "", unknown}},
		"expires_in is an object":                    {`{"access_token":"a","expires_in":{}}`, shown{"a", "", "", unknown}},
		"expires_in is beyond any number":            {`{"access_token":"a","expires_in":1e999}`, shown{"a", "", "", unknown}},
		"expires_in is longer than anybody lives":    {`{"access_token":"a","expires_in":9223372036854775807}`, shown{"a", "", "", unknown}},
		"the type is in lower case":                  {`{"access_token":"a","token_type":"bearer"}`, shown{"a", "", "", unknown}},
		"the type says whose it is":                  {`{"ok":true,"access_token":"a","token_type":"bot"}`, shown{"a", "", "", unknown}},
		"the scope is an array":                      {`{"access_token":"a","scope":["x","y"]}`, shown{"a", "", "x y", unknown}},
		"the scope has what a terminal obeys":        {`{"access_token":"a","scope":"x\u001b[31m y"}`, shown{"a", "", "x[31m y", unknown}},
		"an error is null":                           {`{"access_token":"a","error":null}`, shown{"a", "", "", unknown}},
		"an error is empty":                          {`{"access_token":"a","error":""}`, shown{"a", "", "", unknown}},
		"a refresh token is null":                    {`{"access_token":"a","refresh_token":null}`, shown{"a", "", "", unknown}},
		"a refresh token is no string":               {`{"access_token":"a","refresh_token":5}`, shown{"a", "", "", unknown}},
		"names are taken as they are":                {`{"access_token":"a","Refresh_Token":"r","EXPIRES_IN":5}`, shown{"a", "", "", unknown}},
		"a byte order mark comes first":              {"\ufeff" + `{"access_token":"a"}`, shown{"a", "", "", unknown}},
		"there is more than anybody asked for":       {`{"access_token":"a","id_token":"x","user":{"name":"y"},"error_uri":"z"}`, shown{"a", "", "", unknown}},
		"the token has characters that few use":      {`{"access_token":"a!b|c:d,e"}`, shown{"a!b|c:d,e", "", "", unknown}},
		"a refresh token has a space, as is allowed": {`{"access_token":"a","refresh_token":"r s"}`, shown{"a", "r s", "", unknown}},
	} {
		t.Run(sentence, func(t *testing.T) {
			token, err := asks(t, says(200, c.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, show(token)); diff != "" {
				t.Errorf("the token (-want +got):\n%s", diff)
			}
			if token.Type != "Bearer" {
				t.Errorf("the type is %q", token.Type)
			}
		})
	}
}

func TestAnAnswerMayBeAForm(t *testing.T) {
	token, err := asks(t, says(200, "access_token=a&expires_in=3600&scope=x%20y&token_type=bearer", "Content-Type: application/x-www-form-urlencoded; charset=utf-8"))
	if diff := cmp.Diff(shown{"a", "", "x y", time.Hour}, show(token)); diff != "" || err != nil {
		t.Errorf("%v, the token (-want +got):\n%s", err, diff)
	}
	var failed *oauth.Error
	_, err = asks(t, says(200, "error=bad_verification_code", "Content-Type: application/x-www-form-urlencoded"))
	if !errors.As(err, &failed) || failed.Code != "bad_verification_code" || failed.Kind != oauth.GrantRefused {
		t.Errorf("the error is %v", err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for sentence, c := range map[string]struct {
		answer http.HandlerFunc
		kind   oauth.Kind
		code   string
	}{
		"nothing":                             {says(200, ``), oauth.Malformed, oauth.CodeMalformed},
		"null":                                {says(200, `null`), oauth.Malformed, oauth.CodeMalformed},
		"an array":                            {says(200, `["a"]`), oauth.Malformed, oauth.CodeMalformed},
		"two objects":                         {says(200, `{"access_token":"a"}{}`), oauth.Malformed, oauth.CodeMalformed},
		"half an object":                      {says(200, `{"access_token":"a"`), oauth.Malformed, oauth.CodeMalformed},
		"an empty object":                     {says(200, `{}`), oauth.Malformed, oauth.CodeMalformed},
		"a token that is empty":               {says(200, `{"access_token":""}`), oauth.Malformed, oauth.CodeMalformed},
		"a token that is null":                {says(200, `{"access_token":null}`), oauth.Malformed, oauth.CodeMalformed},
		"a token that is a number":            {says(200, `{"access_token":5}`), oauth.Malformed, oauth.CodeMalformed},
		"a token with a line break":           {says(200, `{"access_token":"a\r\nX: y"}`), oauth.Malformed, oauth.CodeMalformed},
		"a token with a space":                {says(200, `{"access_token":"a b"}`), oauth.Malformed, oauth.CodeMalformed},
		"a token beyond ASCII":                {says(200, `{"access_token":"ä"}`), oauth.Malformed, oauth.CodeMalformed},
		"a token that is too long":            {says(200, `{"access_token":"`+strings.Repeat("a", 33<<10)+`"}`), oauth.Malformed, oauth.CodeMalformed},
		"objects in objects":                  {says(200, strings.Repeat(`{"a":`, 100_000)), oauth.Malformed, oauth.CodeMalformed},
		"a login page":                        {says(200, `<html>`, "Content-Type: text/html"), oauth.Malformed, oauth.CodeMalformed},
		"no content":                          {says(204, ``), oauth.Malformed, oauth.CodeMalformed},
		"a redirect":                          {says(302, ``, "Location: https://example.com/elsewhere"), oauth.Malformed, oauth.CodeMalformed},
		"a redirect that keeps the body":      {says(308, ``, "Location: https://example.com/elsewhere"), oauth.Malformed, oauth.CodeMalformed},
		"more than a mebibyte":                {says(200, strings.Repeat(" ", 1<<20)+`{}`), oauth.Malformed, oauth.CodeAnswerTooLong},
		"a head without end":                  {says(200, `{}`, "X: "+strings.Repeat("x", 100<<10)), oauth.TryLater, oauth.CodeNetwork},
		"401 without a word":                  {says(401, ``), oauth.TryLater, "http_401"},
		"403 and a page":                      {says(403, `<html>`), oauth.TryLater, "http_403"},
		"400 and an error object":             {says(400, `{"error":{"code":1}}`), oauth.TryLater, "http_400"},
		"400 and an error of another shape":   {says(400, `{"errorCode":"E01","message":"no"}`), oauth.TryLater, "http_400"},
		"ok:false":                            {says(200, `{"ok":false}`), oauth.TryLater, oauth.CodeUnspecified},
		"an error with a quote":               {says(400, `{"error":"a\"b\\c\u001b[0m"}`), oauth.TryLater, "a_b_c_[0m"},
		"an error that goes on and on":        {says(400, `{"error":"`+strings.Repeat("x", 300)+`"}`), oauth.TryLater, strings.Repeat("x", 64)},
		"an error that is a part of a secret": {says(400, `{"error":"`+canary+`"}`), oauth.TryLater, oauth.CodeWithheld},
		"an error with a secret in it":        {says(400, `{"error":"no client secret-`+canary+`, sorry"}`), oauth.TryLater, oauth.CodeWithheld},
	} {
		t.Run(sentence, func(t *testing.T) {
			var failed *oauth.Error
			token, err := asks(t, c.answer)
			if !errors.As(err, &failed) || failed.Kind != c.kind || failed.Code != c.code {
				t.Errorf("%#v, want kind %d, code %q", err, c.kind, c.code)
			}
			if !token.Access.IsZero() {
				t.Error("there is a token all the same")
			}
			if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, canary) {
				t.Errorf("the error shows a secret: %s", text)
			}
		})
	}
}

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"120":                           2 * time.Minute,
		"Sat, 01 Jan 2000 00:05:00 GMT": 5 * time.Minute,
		"999999999":                     24 * time.Hour,
		"-5":                            0,
		"soon":                          0,
		"Fri, 31 Dec 1999 00:00:00 GMT": 0,
	} {
		t.Run(text, func(t *testing.T) {
			var failed *oauth.Error
			_, err := asks(t, says(503, "", "Retry-After: "+text))
			if !errors.As(err, &failed) || failed.RetryAfter.Round(time.Minute) != want {
				t.Errorf("%v", err)
			}
		})
	}
}

// asks makes one token request to a provider that gives the answer.
func asks(t *testing.T, answer http.HandlerFunc) (token oauth.Token, err error) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.provider.next(answer)
		token, err = w.client(client()).Refresh(t.Context(), secret.New("refresh-"+canary))
		pass(time.Minute)
		if n := len(w.provider.seen()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
	return token, err
}

func (w *world) client(c attache.OAuthClient) *oauth.Client {
	w.t.Helper()
	ready, err := w.endpoint.Client(c, "acme")
	if err != nil {
		w.t.Fatal(err)
	}
	return ready
}
