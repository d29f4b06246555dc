package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"attache"
)

// RegistryRequest registers an integration the way the integration service does:
// the name is in the path.
type RegistryRequest struct {
	Integration string `path:"integration"`
	WithBody[RegistryBody]
}

// RegistryBody is what the integration service takes there. The description is
// read and not kept: integrations have none here.
type RegistryBody struct {
	Description string `json:"description,omitempty"`
}

// registry is how the integration service makes and lists integrations.
func (a *API) registry(api huma.API) {
	register(a, api, route{
		method: http.MethodPost, path: "/registry/{integration}", id: "register-integration",
		role: attache.RoleAdmin, status: http.StatusCreated,
	}, func(ctx context.Context, in *RegistryRequest) (*Created[Integration], error) {
		return a.createIntegration(ctx, in.Integration)
	})
	register(a, api, route{
		method: http.MethodGet, path: "/registry/integrations", id: "registered-integrations", role: attache.RoleViewer,
	}, a.listIntegrations)
}

// envelope wraps a single connection in an object that is named like its type, as
// the integration service answers.
func envelope(_ huma.Context, _ string, v any) (any, error) {
	if c, ok := v.(interface{ kind() attache.ConnectionType }); ok {
		return map[string]any{string(c.kind()): v}, nil
	}
	return v, nil
}
