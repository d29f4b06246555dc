package admin

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"attache"
)

const (
	base = "/api/v1"
	// compatBase answers the published examples of the help desk's integration
	// service, whose connections these are modelled on, with the same handlers.
	compatBase = "/api/services/zis"
	// apiVersion is the API's, not the program's: what it promises under base.
	apiVersion   = "1.0.0"
	maxBodyBytes = 1 << 20
)

// routes registers everything.
func (a *API) routes() {
	api := humago.NewWithPrefix(a.mux, base, config())
	a.integrations(api)
	a.accessTokens(api)
	a.connections(api)
	a.oauthClients(api, "/integrations/{integration}/oauth/clients")
	a.authorizations(api)
	a.transfers(api)
	a.explain(api)
	a.events(api)
	a.status(api)
	a.adminTokens(api)
	a.authority(api)
	a.serveDocument(api)

	enveloped := config()
	enveloped.Transformers = append(enveloped.Transformers, envelope)
	compat := humago.NewWithPrefix(a.mux, compatBase, enveloped)
	a.registry(compat)
	a.connections(compat)
	a.oauthClients(compat, "/connections/oauth/clients/{integration}")
}

// route is what the API says of an operation, and who may call it.
type route struct {
	method, path string
	id           string
	tag          string
	summary      string
	text         string
	role         attache.Role
	quiet        bool  // it changes nothing that the log should tell
	status       int   // of success; zero means 200
	errors       []int // beside those that every operation has
	example      any   // a body; nil where the fields' own examples do
}

func (rt route) operation() huma.Operation {
	op := huma.Operation{
		Method: rt.method, Path: rt.path, OperationID: rt.id, Tags: []string{rt.tag},
		Summary: rt.summary, Description: rt.text + " Needs the role " + string(rt.role) + ".",
		DefaultStatus:    rt.status,
		SkipValidateBody: true, // see body.go
		MaxBodyBytes:     maxBodyBytes,
		Errors:           []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests},
	}
	if rt.method != http.MethodGet && rt.method != http.MethodDelete {
		op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if rt.example != nil {
		op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": {Example: rt.example}}}
	}
	op.Errors = append(op.Errors, rt.errors...)
	slices.Sort(op.Errors)
	return op
}

// register adds an operation. Here an error becomes a [failure], and only here.
func register[I, O any](a *API, api huma.API, rt route, handle func(context.Context, *I) (*O, error)) {
	op := rt.operation()
	op.Middlewares = huma.Middlewares{a.authorize(rt)}
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		var out *O
		err := inputError(in)
		if err == nil {
			out, err = handle(ctx, in)
		}
		if err != nil {
			f := failureOf(err)
			f.log(ctx, a.Logger)
			return nil, f
		}
		return out, nil
	})
}

// inputError is what is wrong with an input before its operation looks at it.
func inputError(in any) error {
	if p, ok := in.(interface{ pathError() error }); ok {
		if err := p.pathError(); err != nil {
			return err
		}
	}
	if b, ok := in.(interface{ bodyError() error }); ok {
		return b.bodyError()
	}
	return nil
}

// Answer is an operation's answer with a body.
type Answer[T any] struct{ Body T }

// Created is the answer to the making of something, with where it is.
type Created[T any] struct {
	Location string `header:"Location" doc:"Where it is."`
	Body     T
}

// Empty is an answer without a body.
type Empty struct{}

func answer[T any](body T) *Answer[T] { return &Answer[T]{body} }
