package admin

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"attache"
)

// caller is who makes a request.
type caller struct {
	name string // for the log: the token's ID
	role attache.Role
}

// local is who calls the API that trusts everybody.
var local = caller{name: "local", role: attache.RoleAdmin}

type callerKey struct{}

// ranks order the roles: each may do what those of lower rank may.
var ranks = map[attache.Role]int{attache.RoleViewer: 1, attache.RoleOperator: 2, attache.RoleAdmin: 3}

func (c caller) may(need attache.Role) bool { return c.role != "" && ranks[c.role] >= ranks[need] }

// authenticate finds out who calls. The token comes as RFC 6750 says, or as the
// password of basic authentication, so that curl -u works, whatever the user name.
//
// A token has 256 random bits, so guessing is no threat and nobody is locked out:
// a valid token passes at any time. What is limited is what failures cost, which
// is a record in the log each.
func (a *API) authenticate(r *http.Request) (caller, *failure) {
	token, f := presented(r)
	if f != nil {
		return caller{}, f
	}
	t, f := a.tokenOf(r, token)
	if f != nil {
		return caller{}, f
	}
	return callerOf(t), nil
}

func callerOf(t attache.AdminToken) caller { return caller{name: t.ID, role: t.Role} }

// tokenOf is the admin token that somebody presents in r.
func (a *API) tokenOf(r *http.Request, token string) (attache.AdminToken, *failure) {
	var none attache.AdminToken
	hash, err := attache.ParseToken(attache.AdminTokenPrefix, token)
	if err != nil {
		detail := "It is not an admin token, or not all of it: those begin with " + string(attache.AdminTokenPrefix) + "."
		if strings.HasPrefix(token, string(attache.AccessTokenPrefix)) {
			detail = "It is an access token, which is for the proxy; this API needs an admin token."
		}
		return none, a.refused(r, detail)
	}
	t, err := a.Store.AdminToken(r.Context(), hash)
	switch {
	case errors.Is(err, attache.ErrNotFound):
		return none, a.refused(r, "The token is unknown; it may have been revoked.")
	case err != nil:
		return none, failureOf(err)
	case t.Expired(time.Now()):
		return none, a.refused(r, "The token has expired: make another with attache admin-token create.")
	}
	return t, nil
}

// stillMay reports whether a caller who was let in before, by the ID of the admin
// token, has not lost the right to since.
func (a *API) stillMay(ctx context.Context, by string, need attache.Role) (bool, error) {
	if by == local.name {
		return true, nil
	}
	all, err := a.Store.AdminTokens(ctx)
	return slices.ContainsFunc(all, func(t attache.AdminToken) bool {
		c := callerOf(t)
		return c.name == by && c.may(need) && !t.Expired(time.Now())
	}), err
}

// presented is the token in the request.
func presented(r *http.Request) (string, *failure) {
	missing := func(detail string) *failure {
		return fail(CodeAdminToken, detail).with("WWW-Authenticate", `Bearer realm="attache"`)
	}
	switch values := r.Header.Values("Authorization"); len(values) {
	case 0:
		return "", missing("Send Authorization: Bearer with an admin token, or use the server's socket.")
	case 1:
		if _, password, ok := r.BasicAuth(); ok {
			return password, nil
		}
		scheme, token, _ := strings.Cut(values[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token), nil
		}
		return "", missing("The Authorization header must be Bearer with an admin token, or Basic with it as the password.")
	default:
		return "", missing("Send one Authorization header.")
	}
}

// refused answers a failed attempt, and records it while there are few.
func (a *API) refused(r *http.Request, detail string) *failure {
	if !a.attempts.Allow() {
		return fail(CodeTooManyAttempts, "Correct the token before trying again.").with("Retry-After", "1")
	}
	a.Logger.WarnContext(r.Context(), "admin authentication failed", "client", r.RemoteAddr, "reason", detail)
	return fail(CodeAdminTokenBad, detail).with("WWW-Authenticate", `Bearer realm="attache", error="invalid_token"`)
}

// authorize is the middleware of an operation that needs a role. It records what
// changed something, which is what a viewer may not do.
func (a *API) authorize(rt route) func(huma.Context, func(huma.Context)) {
	need := rt.role
	return func(hc huma.Context, next func(huma.Context)) {
		ctx := hc.Context()
		r, w := humago.Unwrap(hc)
		c, _ := ctx.Value(callerKey{}).(caller)
		if !c.may(need) {
			fail(CodeRole, "This needs a token with the role "+string(need)+".").
				with("WWW-Authenticate", `Bearer realm="attache", error="insufficient_scope", scope="`+string(need)+`"`).
				write(w)
			return
		}
		next(hc)
		if rt.quiet || rt.method == http.MethodGet || need == attache.RoleViewer || hc.Status() >= http.StatusBadRequest {
			return
		}
		a.Logger.InfoContext(ctx, "admin change", "operation", hc.Operation().OperationID,
			"at", cmp.Or(w.Header().Get("Location"), r.URL.Path), "by", c.name)
	}
}

func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}
