package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"attache"
	"attache/oauth"
	"attache/secret"
)

// The authorization of a connection by a person. Who begins one over the API can
// finish it over the API, and nobody else can: that is the admin token, or, on the
// socket, whoever may open it. The one other way to its end is [ui.callback].

// The flows, as requests name them.
const (
	codeFlow   = "code"
	deviceFlow = "device"
)

// AuthorizationRequest begins an authorization.
type AuthorizationRequest struct {
	Flow        string `json:"flow" enum:"code,device" doc:"code: a browser goes to the provider and comes back (RFC 6749). device: a person types a code in elsewhere (RFC 8628)." example:"code"`
	RedirectURL string `json:"redirect_url,omitempty" doc:"Where the browser comes back to: http://127.0.0.1:PORT/... or http://[::1]:PORT/... of whoever finishes it (RFC 8252), or the server's own callback URL, which absent means." example:"http://127.0.0.1:49152/callback"`
}

// BeginAuthorization begins an authorization of a connection.
type BeginAuthorization struct {
	ConnectionPath
	WithBody[AuthorizationRequest]
}

// Authorization is an authorization that waits for a person.
type Authorization struct {
	State                   string    `json:"state" doc:"Names it: 256 random bits, good for one use."`
	ExpiresAt               time.Time `json:"expires_at" doc:"When it ends unfinished."`
	AuthorizationURL        string    `json:"authorization_url,omitempty" doc:"With code: where the person goes."`
	UserCode                string    `json:"user_code,omitempty" doc:"With device: what the person types in." example:"WDJB-MJHT"`
	VerificationURI         string    `json:"verification_uri,omitempty" doc:"With device: where."`
	VerificationURIComplete string    `json:"verification_uri_complete,omitempty" doc:"With device, where the provider has it: the same with the code in it."`
	Interval                int       `json:"interval,omitempty" doc:"With device: seconds to wait before the first poll."`
}

// AuthorizationAnswer is what came back from the provider.
type AuthorizationAnswer struct {
	State  string      `json:"state" doc:"Of the authorization."`
	Answer secret.Text `json:"answer" doc:"The whole URL that the browser ended at, or the code in it." format:"password"`
}

// FinishAuthorization ends an authorization.
type FinishAuthorization struct {
	ConnectionPath
	WithBody[AuthorizationAnswer]
}

// AuthorizationState names an authorization.
type AuthorizationState struct {
	State string `json:"state" doc:"Of the authorization."`
}

// PollAuthorization asks how an authorization stands.
type PollAuthorization struct {
	ConnectionPath
	WithBody[AuthorizationState]
}

// AuthorizationProgress is how an authorization with a device code stands.
type AuthorizationProgress struct {
	Done      bool   `json:"done" doc:"Whether the connection is authorized."`
	Interval  int    `json:"interval,omitempty" doc:"Seconds to wait before the next poll."`
	ErrorCode string `json:"error_code,omitempty" doc:"Why the provider could not be asked this time; the next poll may work." example:"timeout"`
}

func (a *API) authorizations(api huma.API) {
	const tag, begin = "oauth", "/integrations/{integration}/connections/oauth/{name}/authorize"
	errs := []int{http.StatusNotFound, http.StatusBadGateway, http.StatusServiceUnavailable}
	register(a, api, route{
		method: http.MethodPost, path: begin, id: "authorize", tag: tag, role: attache.RoleOperator, errors: errs,
		summary: "Begin to authorize a connection",
		text: "Answers with where to send a person, or with a device code. What the connection has stays in use until there is something better. " +
			"With the server's own callback URL, the server finishes it when the browser comes back with the state, whoever's browser it is; " +
			"otherwise only who began it can.",
	}, a.beginAuthorization)
	register(a, api, route{
		method: http.MethodPost, path: begin + "/finish", id: "finish-authorization", tag: tag, role: attache.RoleOperator, errors: errs,
		summary: "Finish an authorization",
		text:    "Exchanges what came back for tokens, and shows the connection. Whatever the outcome, the state is used up; a failure leaves the connection as it was.",
	}, a.finishAuthorization)
	register(a, api, route{
		method: http.MethodPost, path: begin + "/poll", id: "poll-authorization", tag: tag, role: attache.RoleOperator, errors: errs, quiet: true,
		summary: "Ask whether a person has confirmed a device code",
		text:    "Asks the provider, or, before the interval has passed, only says how long to wait. An error ends the authorization.",
	}, a.pollAuthorization)
}

// flows are those of the options.
func (a *API) flows() (*oauth.Flows, error) {
	if a.OAuth.Flows == nil {
		return nil, fail(CodeOAuthOff, "Use a server that runs: attache serve.")
	}
	return a.OAuth.Flows, nil
}

// startOf is who wants what authorized.
func startOf(ctx context.Context, p ConnectionPath) oauth.Start {
	c, _ := ctx.Value(callerKey{}).(caller)
	return oauth.Start{Integration: p.Integration, Connection: p.Name, By: c.name}
}

func (a *API) beginAuthorization(ctx context.Context, in *BeginAuthorization) (*Answer[Authorization], error) {
	flows, err := a.flows()
	if err != nil {
		return nil, err
	}
	if _, err := a.connection(ctx, in.ConnectionPath, attache.OAuth); err != nil {
		return nil, err
	}
	ask := in.Body.value
	begun, err := a.begin(ctx, flows, startOf(ctx, in.ConnectionPath), ask)
	if err != nil {
		return nil, err
	}
	shown := Authorization{State: begun.State, ExpiresAt: begun.ExpiresAt.UTC().Truncate(time.Second)}
	if ask.Flow == codeFlow {
		shown.AuthorizationURL = begun.URL
	} else {
		shown.UserCode, shown.Interval = begun.UserCode, wholeSeconds(begun.Interval)
		shown.VerificationURI, shown.VerificationURIComplete = begun.URL, begun.CompleteURL
	}
	return answer(shown), nil
}

func (a *API) begin(ctx context.Context, flows *oauth.Flows, start oauth.Start, ask AuthorizationRequest) (oauth.Authorization, error) {
	var none oauth.Authorization
	switch ask.Flow {
	case codeFlow:
		var err error
		if start.RedirectURL, err = a.redirectURL(ask.RedirectURL); err != nil {
			return none, err
		}
		return flows.Begin(ctx, start)
	case deviceFlow:
		if ask.RedirectURL != "" {
			return none, &attache.FieldError{Field: "redirect_url", Rule: "is only for the flow code", Remedy: "leave it out"}
		}
		begun, err := flows.BeginDevice(ctx, start)
		if e := (*oauth.Error)(nil); errors.As(err, &e) && e.Code == oauth.CodeNoDeviceFlow {
			err = &attache.FieldError{Field: "flow", Rule: "cannot be device: the OAuth client has no device_url", Remedy: "use code, or another OAuth client"}
		}
		return begun, err
	}
	return none, &attache.FieldError{Field: "flow", Rule: "must be code or device"}
}

const maxRedirectURL = 2048

// redirectURL is where the provider sends the browser. Anything but loopback and
// our own callback would give the code to somebody else.
func (a *API) redirectURL(asked string) (string, error) {
	const field, remedy = "redirect_url", "write http://127.0.0.1:PORT/PATH or http://[::1]:PORT/PATH"
	own := a.OAuth.CallbackURL
	switch {
	case asked == "" && own == "":
		return "", &attache.FieldError{Field: field, Rule: "is missing, and this server has no callback URL", Remedy: remedy}
	case asked == "" || asked == own:
		return own, nil
	}
	u, err := url.Parse(asked)
	loopback := err == nil && len(asked) <= maxRedirectURL && u.Scheme == "http" && u.Port() != "" &&
		(u.Hostname() == "127.0.0.1" || u.Hostname() == "::1")
	// What is left of a URL is what its text says, if it is written as we would.
	if !loopback || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.String() != asked {
		return "", &attache.FieldError{Field: field, Rule: "is neither on loopback nor the server's callback URL", Remedy: remedy}
	}
	return asked, nil
}

// waiting fails unless the state is that of an authorization of this connection.
func (a *API) waiting(flows *oauth.Flows, p ConnectionPath, state string) error {
	start, err := flows.Started(state)
	if err == nil && (start.Integration != p.Integration || start.Connection != p.Name) {
		err = oauth.ErrUnknownFlow
	}
	return err
}

func (a *API) finishAuthorization(ctx context.Context, in *FinishAuthorization) (*Answer[OAuthConnection], error) {
	flows, err := a.flows()
	if err != nil {
		return nil, err
	}
	ask := in.Body.value
	if err := a.waiting(flows, in.ConnectionPath, ask.State); err != nil {
		return nil, err
	}
	err = ask.Answer.Check(func(answered string) error {
		_, err := flows.Finish(ctx, startOf(ctx, in.ConnectionPath).By, ask.State, answered)
		return err
	})
	if err != nil {
		return nil, named(err, "code", "answer")
	}
	c, err := a.connection(ctx, in.ConnectionPath, attache.OAuth)
	if err != nil {
		return nil, err
	}
	return answer(showOAuth(c)), nil
}

// named gives a field error that package oauth made the name that the field has
// in the request.
func named(err error, from, to string) error {
	var e *attache.FieldError
	if errors.As(err, &e) && e.Field == from {
		return &attache.FieldError{Field: to, Rule: e.Rule, Remedy: e.Remedy}
	}
	return err
}

func (a *API) pollAuthorization(ctx context.Context, in *PollAuthorization) (*Answer[AuthorizationProgress], error) {
	flows, err := a.flows()
	if err != nil {
		return nil, err
	}
	state := in.Body.value.State
	if err := a.waiting(flows, in.ConnectionPath, state); err != nil {
		return nil, err
	}
	p, err := flows.Poll(ctx, startOf(ctx, in.ConnectionPath).By, state)
	shown := AuthorizationProgress{Done: p.Done, Interval: wholeSeconds(p.Interval)}
	if e := (*oauth.Error)(nil); errors.As(err, &e) && e.Kind == oauth.TryLater && !p.Done {
		shown.ErrorCode, err = e.Code, nil
	}
	if err != nil {
		return nil, err
	}
	return answer(shown), nil
}
