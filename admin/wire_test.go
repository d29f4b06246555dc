package admin_test

import (
	"encoding"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attache/admin"
	"attache/client"
)

// fields maps the JSON fields of the types, taken together, to their JSON types.
func fields(types ...reflect.Type) map[string]string {
	all := map[string]string{}
	for _, t := range types {
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Anonymous {
				maps.Copy(all, fields(f.Type))
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			for inner, kind := range kindOf(f.Type) {
				all[strings.TrimSuffix(name+"."+inner, ".")] = kind
			}
		}
	}
	return all
}

func kindOf(t reflect.Type) map[string]string {
	switch {
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()), t.Kind() == reflect.String:
		return map[string]string{"": "string"}
	case t.Kind() == reflect.Pointer:
		return kindOf(t.Elem())
	case t.Kind() == reflect.Struct:
		return fields(t)
	case t.Kind() == reflect.Slice:
		of := map[string]string{}
		for inner, kind := range kindOf(t.Elem()) {
			of["[]"+inner] = kind
		}
		return of
	}
	return map[string]string{"": t.Kind().String()}
}

func of[T any]() reflect.Type { return reflect.TypeFor[T]() }

// TestTheClientSpeaksTheSameJSON holds the client's types against those of the
// API, which neither package can share with the other.
func TestTheClientSpeaksTheSameJSON(t *testing.T) {
	type list = []reflect.Type
	for name, pair := range map[string]struct{ api, client list }{
		"an integration":     {list{of[admin.Integration]()}, list{of[client.Integration]()}},
		"an access token":    {list{of[admin.AccessToken]()}, list{of[client.AccessToken]()}},
		"a new access token": {list{of[admin.NewAccessToken]()}, list{of[client.NewAccessToken]()}},
		"an admin token":     {list{of[admin.AdminToken]()}, list{of[client.AdminToken]()}},
		"a new admin token":  {list{of[admin.NewAdminToken]()}, list{of[client.NewAdminToken]()}},
		"the CA":             {list{of[admin.CA]()}, list{of[client.CA]()}},
		"the status":         {list{of[admin.Status]()}, list{of[client.Status]()}},
		"a question":         {list{of[admin.ExplainRequest]()}, list{of[client.Question]()}},
		"an explanation":     {list{of[admin.Explanation]()}, list{of[client.Explanation]()}},
		"a connection":       {list{of[admin.APIKeyConnection](), of[admin.BasicAuthConnection](), of[admin.BearerTokenConnection](), of[admin.OAuthConnection]()}, list{of[client.Connection](), of[client.Credential]()}},
		"a new connection":   {list{of[admin.APIKeyRequest](), of[admin.BasicAuthRequest](), of[admin.BearerTokenRequest](), of[admin.OAuthRequest]()}, list{of[client.NewConnection]()}},
		"an OAuth client":    {list{of[admin.OAuthClient]()}, list{of[client.OAuthClient](), of[client.NewOAuthClient]()}},
		"a new OAuth client": {list{of[admin.OAuthClientRequest]()}, list{of[client.NewOAuthClient]()}},
		"a change of one":    {list{of[admin.OAuthClientChange]()}, list{of[client.OAuthClientUpdate]()}},
		"an authorization":   {list{of[admin.Authorization]()}, list{of[client.Authorization]()}},
		"a request for one":  {list{of[admin.AuthorizationRequest]()}, list{of[client.Authorize]()}},
		"how one stands":     {list{of[admin.AuthorizationProgress]()}, list{of[client.Progress]()}},
		"a replaced credential": {
			list{of[admin.APIKeyReplacement](), of[admin.BasicAuthReplacement](), of[admin.BearerTokenReplacement]()},
			list{of[client.Credential]()},
		},
	} {
		if diff := cmp.Diff(fields(pair.api...), fields(pair.client...)); diff != "" {
			t.Errorf("%s: the API has -, the client has +\n%s", name, diff)
		}
	}
}
