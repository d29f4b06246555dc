package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"attache"
	"attache/policy"
)

// Integration is an integration on the wire.
type Integration struct {
	Name      string    `json:"name" doc:"3 to 64 characters of A-Z a-z 0-9 _ -." example:"support-bot"`
	CreatedAt time.Time `json:"created_at" doc:"When it was created."`
}

// IntegrationList is every integration.
type IntegrationList struct {
	Integrations []Integration `json:"integrations" nullable:"false" doc:"By name."`
}

// IntegrationRequest makes an integration.
type IntegrationRequest struct {
	Name string `json:"name" doc:"3 to 64 characters of A-Z a-z 0-9 _ -." example:"support-bot"`
}

// IntegrationPath is the part of a path that names an integration.
type IntegrationPath struct {
	Integration string `path:"integration" doc:"The integration's name." example:"support-bot"`
}

// pathError answers for a name that nothing can have as for one that nothing has.
func (p IntegrationPath) pathError() error {
	if _, err := policy.ParseName("integration", p.Integration); err != nil {
		return attache.ErrNotFound
	}
	return nil
}

func showIntegration(in attache.Integration) Integration {
	return Integration{in.Name, in.CreatedAt}
}

func (a *API) integrations(api huma.API) {
	const tag, one = "integrations", "/integrations/{integration}"
	register(a, api, route{
		method: http.MethodGet, path: "/integrations", id: "list-integrations", tag: tag, role: attache.RoleViewer,
		summary: "List integrations", text: "Lists every integration.",
	}, a.listIntegrations)
	register(a, api, route{
		method: http.MethodPost, path: "/integrations", id: "create-integration", tag: tag, role: attache.RoleAdmin,
		summary: "Create an integration", text: "Makes an integration that owns nothing yet.",
		status: http.StatusCreated, errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *WithBody[IntegrationRequest]) (*Created[Integration], error) {
		return a.createIntegration(ctx, in.Body.value.Name)
	})
	register(a, api, route{
		method: http.MethodGet, path: one, id: "show-integration", tag: tag, role: attache.RoleViewer,
		summary: "Show an integration", text: "Shows one integration.", errors: []int{http.StatusNotFound},
	}, a.showIntegration)
	register(a, api, route{
		method: http.MethodDelete, path: one, id: "delete-integration", tag: tag, role: attache.RoleAdmin,
		summary: "Delete an integration",
		text: "Deletes an integration with all its access tokens, connections and OAuth clients. Open tunnels feel it at their next request. " +
			"Grants are revoked at their providers afterwards, where that can be; the answer does not wait for it, and the log tells how it went.",
		status: http.StatusNoContent, errors: []int{http.StatusNotFound},
	}, a.deleteIntegration)
}

func (a *API) listIntegrations(ctx context.Context, _ *struct{}) (*Answer[IntegrationList], error) {
	all, err := a.Store.Integrations(ctx)
	if err != nil {
		return nil, err
	}
	return answer(IntegrationList{mapped(all, showIntegration)}), nil
}

func (a *API) createIntegration(ctx context.Context, name string) (*Created[Integration], error) {
	name, err := policy.ParseName("name", name)
	if err != nil {
		return nil, err
	}
	in := attache.Integration{Name: name, CreatedAt: now()}
	if err := a.Store.CreateIntegration(ctx, in); err != nil {
		return nil, err
	}
	return &Created[Integration]{base + "/integrations/" + name, showIntegration(in)}, nil
}

func (a *API) showIntegration(ctx context.Context, in *IntegrationPath) (*Answer[Integration], error) {
	all, err := a.Store.Integrations(ctx)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		if one.Name == in.Integration {
			return answer(showIntegration(one)), nil
		}
	}
	return nil, attache.ErrNotFound
}

func (a *API) deleteIntegration(ctx context.Context, in *IntegrationPath) (*Empty, error) {
	// What has begun is done, whether or not somebody waits for it.
	ctx = context.WithoutCancel(ctx)
	revocations := a.revocations(ctx, in.Integration) // with what is about to go
	if err := a.Store.DeleteIntegration(ctx, in.Integration); err != nil {
		return nil, err
	}
	a.revokeLater(ctx, in.Integration, revocations)
	return nil, nil
}

// now is a time as the API shows it, and as it comes back from the store.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func mapped[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i := range in {
		out[i] = f(in[i])
	}
	return out
}
