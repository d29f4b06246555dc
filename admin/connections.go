package admin

import (
	"context"
	"maps"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"attache"
	"attache/policy"
)

// ConnectionPath names a connection; its type is a fixed part of the path.
type ConnectionPath struct {
	IntegrationPath
	Name string `path:"name" doc:"The connection's name." example:"tickets"`
}

// ConnectionList is a page of one type's connections.
type ConnectionList[T any] struct {
	Connections []T  `json:"connections" nullable:"false" doc:"By name."`
	Meta        Meta `json:"meta"`
}

// AllConnections is a page of an integration's connections, grouped by type.
type AllConnections struct {
	APIKey      []APIKeyConnection      `json:"api_key" nullable:"false" doc:"By name."`
	BasicAuth   []BasicAuthConnection   `json:"basic_auth" nullable:"false" doc:"By name."`
	BearerToken []BearerTokenConnection `json:"bearer_token" nullable:"false" doc:"By name."`
	OAuth       []ConnectionFields      `json:"oauth" nullable:"false" doc:"By name."`
	Meta        Meta                    `json:"meta"`
}

// ConnectionsPath asks for a page of an integration's connections.
type ConnectionsPath struct {
	IntegrationPath
	Page
}

// CreateConnection makes a connection from a New.
type CreateConnection[New any] struct {
	IntegrationPath
	WithBody[New]
}

// ReplaceCredential replaces a connection's credential with a Credential.
type ReplaceCredential[Credential any] struct {
	ConnectionPath
	WithBody[Credential]
}

// connectionType is one type's operations. New is the request that makes such a
// connection, Cred the one that replaces its credential, Out the wire form.
type connectionType[New interface{ asked() attache.Connection }, Cred interface{ credential() attache.Credential }, Out any] struct {
	*API
	kind    attache.ConnectionType
	show    func(attache.Connection) Out
	example map[string]string // of a credential
}

func (a *API) connections(api huma.API) {
	register(a, api, route{
		method: http.MethodGet, path: "/integrations/{integration}/connections/all",
		id: "list-all-connections", tag: "connections", role: attache.RoleViewer,
		summary: "List connections of all types",
		text:    "Lists a page of an integration's connections, grouped by type. Pages go through all of them by name.",
		errors:  []int{http.StatusNotFound},
	}, a.listAllConnections)
	connectionType[APIKeyRequest, APIKeyReplacement, APIKeyConnection]{
		a, attache.APIKey, showAPIKey,
		map[string]string{"api_key": "THE-KEY"},
	}.register(api)
	connectionType[BasicAuthRequest, BasicAuthReplacement, BasicAuthConnection]{
		a, attache.BasicAuth, showBasicAuth,
		map[string]string{"username": "THE-USER", "password": "THE-PASSWORD"},
	}.register(api)
	connectionType[BearerTokenRequest, BearerTokenReplacement, BearerTokenConnection]{
		a, attache.BearerToken, showBearerToken,
		map[string]string{"token": "THE-TOKEN"},
	}.register(api)
}

func (t connectionType[New, Cred, Out]) register(api huma.API) {
	const tag = "connections"
	kind := string(t.kind)
	all := "/integrations/{integration}/connections/" + kind
	one := all + "/{name}"
	example := maps.Clone(t.example)
	example["name"], example["allowed_domain"] = "tickets", "api.example.com"
	if t.kind == attache.APIKey {
		example["header_name"] = "X-Api-Key"
	}
	register(t.API, api, route{
		method: http.MethodGet, path: all, id: "list-" + kind, tag: tag, role: attache.RoleViewer,
		summary: "List connections of type " + kind, text: "Lists a page of an integration's connections of type " + kind + ".",
		errors: []int{http.StatusNotFound},
	}, t.list)
	register(t.API, api, route{
		method: http.MethodPost, path: all, id: "create-" + kind, tag: tag, role: attache.RoleOperator,
		summary: "Create a connection of type " + kind,
		text:    "Makes a connection. Of two requests for one name at once, one gets 201 and the other 409.",
		status:  http.StatusCreated, errors: []int{http.StatusNotFound, http.StatusConflict}, example: example,
	}, t.create)
	register(t.API, api, route{
		method: http.MethodGet, path: one, id: "show-" + kind, tag: tag, role: attache.RoleViewer,
		summary: "Show a connection of type " + kind, text: "Shows a connection, its credential redacted.",
		errors: []int{http.StatusNotFound},
	}, t.showOne)
	register(t.API, api, route{
		method: http.MethodPut, path: one, id: "replace-" + kind, tag: tag, role: attache.RoleOperator,
		summary: "Replace the credential of a connection of type " + kind,
		text:    "Replaces the credential; nothing else of a connection ever changes.",
		errors:  []int{http.StatusNotFound}, example: t.example,
	}, t.replace)
	register(t.API, api, route{
		method: http.MethodDelete, path: one, id: "delete-" + kind, tag: tag, role: attache.RoleOperator,
		summary: "Delete a connection of type " + kind, text: "Deletes a connection. Open tunnels feel it at their next request.",
		status: http.StatusNoContent, errors: []int{http.StatusNotFound},
	}, t.delete)
}

func (t connectionType[New, Cred, Out]) list(ctx context.Context, in *ConnectionsPath) (*Answer[ConnectionList[Out]], error) {
	page, meta, err := t.page(ctx, in, t.kind)
	if err != nil {
		return nil, err
	}
	return answer(ConnectionList[Out]{mapped(page, t.show), meta}), nil
}

func (t connectionType[New, Cred, Out]) create(ctx context.Context, in *CreateConnection[New]) (*Created[Out], error) {
	c := in.Body.value.asked()
	if err := policy.CheckConnection(&c); err != nil {
		return nil, err
	}
	c.Integration = in.Integration
	c.CreatedAt = now()
	c.UpdatedAt = c.CreatedAt
	if err := t.Store.CreateConnection(ctx, c); err != nil {
		return nil, err
	}
	at := base + "/integrations/" + c.Integration + "/connections/" + string(t.kind) + "/" + c.Name
	return &Created[Out]{at, t.show(c)}, nil
}

// find is a connection of this type; one of another type does not exist here.
func (t connectionType[New, Cred, Out]) find(ctx context.Context, in *ConnectionPath) (attache.Connection, error) {
	c, err := t.Store.Connection(ctx, in.Integration, in.Name)
	if err == nil && c.Type != t.kind {
		err = attache.ErrNotFound
	}
	return c, err
}

func (t connectionType[New, Cred, Out]) showOne(ctx context.Context, in *ConnectionPath) (*Answer[Out], error) {
	c, err := t.find(ctx, in)
	if err != nil {
		return nil, err
	}
	return answer(t.show(c)), nil
}

func (t connectionType[New, Cred, Out]) replace(ctx context.Context, in *ReplaceCredential[Cred]) (*Answer[Out], error) {
	var replaced attache.Connection
	err := t.Store.UpdateConnection(ctx, in.Integration, in.Name, func(c *attache.Connection) error {
		if c.Type != t.kind {
			return attache.ErrNotFound
		}
		c.Credential, c.UpdatedAt = in.Body.value.credential(), now()
		replaced = *c
		return policy.CheckCredential(c)
	})
	if err != nil {
		return nil, err
	}
	return answer(t.show(replaced)), nil
}

func (t connectionType[New, Cred, Out]) delete(ctx context.Context, in *ConnectionPath) (*Empty, error) {
	if _, err := t.find(ctx, in); err != nil {
		return nil, err
	}
	return nil, t.Store.DeleteConnection(ctx, in.Integration, in.Name)
}

func (a *API) listAllConnections(ctx context.Context, in *ConnectionsPath) (*Answer[AllConnections], error) {
	page, meta, err := a.page(ctx, in, "")
	if err != nil {
		return nil, err
	}
	all := AllConnections{
		APIKey: []APIKeyConnection{}, BasicAuth: []BasicAuthConnection{}, BearerToken: []BearerTokenConnection{},
		OAuth: []ConnectionFields{}, Meta: meta,
	}
	for _, c := range page {
		switch c.Type {
		case attache.APIKey:
			all.APIKey = append(all.APIKey, showAPIKey(c))
		case attache.BasicAuth:
			all.BasicAuth = append(all.BasicAuth, showBasicAuth(c))
		case attache.BearerToken:
			all.BearerToken = append(all.BearerToken, showBearerToken(c))
		case attache.OAuth:
			all.OAuth = append(all.OAuth, showFields(c))
		}
	}
	return answer(all), nil
}
