package admin

import (
	"encoding/json"
	"net/http"
	"reflect"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"attache"
)

// config describes the API and keeps huma to what is wanted of it: JSON alone, no
// page that loads scripts from elsewhere, no links added to answers.
func config() huma.Config {
	c := huma.DefaultConfig("Attaché admin API", apiVersion)
	c.Info.Description = "Manages who may call (integrations and their access tokens) and with which credentials " +
		"(connections). Secrets go in and never come out: answers show them as [redacted]. Errors are problem " +
		"documents (RFC 9457) and never repeat a submitted value."
	// huma would serve the document itself, but writes it down at the first request
	// without a lock.
	c.OpenAPIPath, c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", "", nil
	c.Formats = map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat}
	c.RejectUnknownQueryParameters = true
	c.Transformers = []huma.Transformer{problemTransformer}
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[attache.Problem]())
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"admin_token": {
		Type: "http", Scheme: "bearer",
		Description: "An admin token, attadmin_…; also accepted as the password of basic authentication. " +
			"Over the server's Unix socket none is needed.",
	}}
	c.Security = []map[string][]string{{"admin_token": {}}}
	c.Tags = []*huma.Tag{
		{Name: "integrations", Description: "Who calls: a bot, a script, a team."},
		{Name: "access tokens", Description: "What an integration's client presents to the proxy."},
		{Name: "connections", Description: "Named credentials, each with the domain where it may be used."},
		{Name: "oauth", Description: "Registrations at OAuth providers, and the authorization of connections by a person."},
		{Name: "observation", Description: "What would happen, what happened, and how the server is."},
		{Name: "administration", Description: "Admin tokens and the certificate authority."},
	}
	return c
}

// serveDocument answers with the description of api, which is written down when it
// is first asked for: it takes longer than everything else that New does.
func (a *API) serveDocument(api huma.API) {
	a.document = sync.OnceValues(api.OpenAPI().YAML)
	inJSON := sync.OnceValues(func() ([]byte, error) { return json.Marshal(api.OpenAPI()) })
	for path, document := range map[string]func() ([]byte, error){
		base + "/openapi.json": inJSON,
		base + "/openapi.yaml": a.document,
	} {
		a.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			b, err := document()
			if err != nil {
				f := failureOf(err)
				f.log(r.Context(), a.Logger)
				f.write(w)
				return
			}
			w.Header().Set("Content-Type", "application/openapi+"+path[len(path)-len("json"):])
			_, _ = w.Write(b) // the client may have gone
		})
	}
}
