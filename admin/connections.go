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
	OAuth       []OAuthConnection       `json:"oauth" nullable:"false" doc:"By name."`
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
// connection, Out the wire form.
type connectionType[New interface{ asked() attache.Connection }, Out any] struct {
	*API
	kind    attache.ConnectionType
	show    func(attache.Connection) Out
	example map[string]string // of what New has beside the name and the domain
	// admit looks at a connection before it is stored. Nil: there is nothing to see.
	admit func(context.Context, *attache.Connection) error
	// part is done with a connection that was deleted. Nil: nothing is.
	part func(context.Context, attache.Connection)
}

// rotatable is a type whose credential can be replaced, by a Cred.
type rotatable[New interface{ asked() attache.Connection }, Cred interface{ credential() attache.Credential }, Out any] struct {
	connectionType[New, Out]
	credential map[string]string // an example
}

func (a *API) connections(api huma.API) {
	register(a, api, route{
		method: http.MethodGet, path: "/integrations/{integration}/connections/all",
		id: "list-all-connections", tag: "connections", role: attache.RoleViewer,
		summary: "List connections of all types",
		text:    "Lists a page of an integration's connections, grouped by type. Pages go through all of them by name.",
		errors:  []int{http.StatusNotFound},
	}, a.listAllConnections)
	key := map[string]string{"api_key": "THE-KEY"}
	rotatable[APIKeyRequest, APIKeyReplacement, APIKeyConnection]{
		connectionType[APIKeyRequest, APIKeyConnection]{
			API: a, kind: attache.APIKey, show: showAPIKey,
			example: map[string]string{"api_key": key["api_key"], "header_name": "X-Api-Key"},
		}, key,
	}.register(api)
	user := map[string]string{"username": "THE-USER", "password": "THE-PASSWORD"}
	rotatable[BasicAuthRequest, BasicAuthReplacement, BasicAuthConnection]{
		connectionType[BasicAuthRequest, BasicAuthConnection]{API: a, kind: attache.BasicAuth, show: showBasicAuth, example: user}, user,
	}.register(api)
	token := map[string]string{"token": "THE-TOKEN"}
	rotatable[BearerTokenRequest, BearerTokenReplacement, BearerTokenConnection]{
		connectionType[BearerTokenRequest, BearerTokenConnection]{API: a, kind: attache.BearerToken, show: showBearerToken, example: token}, token,
	}.register(api)
	connectionType[OAuthRequest, OAuthConnection]{
		API: a, kind: attache.OAuth, show: showOAuth, example: map[string]string{"oauth_client": "crm"},
		admit: a.admitOAuth, part: a.revoke,
	}.register(api)
}

func (t connectionType[New, Out]) all() string {
	return "/integrations/{integration}/connections/" + string(t.kind)
}

func (t connectionType[New, Out]) register(api huma.API) {
	const tag = "connections"
	kind, all := string(t.kind), t.all()
	one := all + "/{name}"
	example := maps.Clone(t.example)
	example["name"], example["allowed_domain"] = "tickets", "api.example.com"
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
		method: http.MethodDelete, path: one, id: "delete-" + kind, tag: tag, role: attache.RoleOperator,
		summary: "Delete a connection of type " + kind,
		text:    "Deletes a connection. Open tunnels feel it at their next request. A grant is revoked at its provider afterwards, where that can be.",
		status:  http.StatusNoContent, errors: []int{http.StatusNotFound},
	}, t.delete)
}

func (t rotatable[New, Cred, Out]) register(api huma.API) {
	t.connectionType.register(api)
	kind := string(t.kind)
	register(t.API, api, route{
		method: http.MethodPut, path: t.all() + "/{name}", id: "replace-" + kind, tag: "connections", role: attache.RoleOperator,
		summary: "Replace the credential of a connection of type " + kind,
		text:    "Replaces the credential; nothing else of a connection ever changes.",
		errors:  []int{http.StatusNotFound}, example: t.credential,
	}, t.replace)
}

func (t connectionType[New, Out]) list(ctx context.Context, in *ConnectionsPath) (*Answer[ConnectionList[Out]], error) {
	page, meta, err := t.page(ctx, in, t.kind)
	if err != nil {
		return nil, err
	}
	return answer(ConnectionList[Out]{mapped(page, t.show), meta}), nil
}

func (t connectionType[New, Out]) create(ctx context.Context, in *CreateConnection[New]) (*Created[Out], error) {
	c := in.Body.value.asked()
	if err := policy.CheckConnection(&c); err != nil {
		return nil, err
	}
	c.Integration = in.Integration
	c.CreatedAt = now()
	c.UpdatedAt = c.CreatedAt
	if t.admit != nil {
		if err := t.admit(ctx, &c); err != nil {
			return nil, err
		}
	}
	if err := t.Store.CreateConnection(ctx, c); err != nil {
		return nil, err
	}
	return &Created[Out]{at(c), t.show(c)}, nil
}

// at is where a connection is.
func at(c attache.Connection) string {
	return base + "/integrations/" + c.Integration + "/connections/" + string(c.Type) + "/" + c.Name
}

// connection is a connection of a type; one of another type does not exist there.
func (a *API) connection(ctx context.Context, p ConnectionPath, kind attache.ConnectionType) (attache.Connection, error) {
	c, err := a.Store.Connection(ctx, p.Integration, p.Name)
	if err == nil && c.Type != kind {
		err = attache.ErrNotFound
	}
	return c, err
}

func (t connectionType[New, Out]) showOne(ctx context.Context, in *ConnectionPath) (*Answer[Out], error) {
	c, err := t.connection(ctx, *in, t.kind)
	if err != nil {
		return nil, err
	}
	return answer(t.show(c)), nil
}

func (t rotatable[New, Cred, Out]) replace(ctx context.Context, in *ReplaceCredential[Cred]) (*Answer[Out], error) {
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

func (t connectionType[New, Out]) delete(ctx context.Context, in *ConnectionPath) (*Empty, error) {
	if _, err := t.connection(ctx, *in, t.kind); err != nil {
		return nil, err
	}
	deleted, err := t.Store.DeleteConnection(ctx, in.Integration, in.Name)
	if err == nil && t.part != nil {
		// What has begun is done, whether or not somebody waits for it.
		t.part(context.WithoutCancel(ctx), deleted)
	}
	return nil, err
}

func (a *API) listAllConnections(ctx context.Context, in *ConnectionsPath) (*Answer[AllConnections], error) {
	page, meta, err := a.page(ctx, in, "")
	if err != nil {
		return nil, err
	}
	all := AllConnections{
		APIKey: []APIKeyConnection{}, BasicAuth: []BasicAuthConnection{}, BearerToken: []BearerTokenConnection{},
		OAuth: []OAuthConnection{}, Meta: meta,
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
			all.OAuth = append(all.OAuth, showOAuth(c))
		}
	}
	return answer(all), nil
}
