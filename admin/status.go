package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"attache"
)

// Status is how the server is.
type Status struct {
	Version        string    `json:"version" doc:"Of the program." example:"0.1.0"`
	StartedAt      time.Time `json:"started_at" doc:"When the process started."`
	UptimeSeconds  float64   `json:"uptime_seconds" doc:"Since then." example:"3600"`
	DataDir        string    `json:"data_dir" doc:"Where it keeps its data." example:"/var/lib/attache"`
	ProxyAddress   string    `json:"proxy_address,omitempty" doc:"Where the proxy listens." example:"127.0.0.1:3128"`
	ProxyTLS       bool      `json:"proxy_tls,omitempty" doc:"Whether clients reach the proxy through TLS, by an https:// proxy URL."`
	AdminAddress   string    `json:"admin_address,omitempty" doc:"Where this API listens." example:"127.0.0.1:3129"`
	MetricsAddress string    `json:"metrics_address,omitempty" doc:"Where health and metrics are." example:"127.0.0.1:3130"`
	Counts         Counts    `json:"counts"`
	CA             StatusCA  `json:"ca"`
}

// Counts are how many of each there are.
type Counts struct {
	Integrations int `json:"integrations" doc:"Integrations." example:"1"`
	AccessTokens int `json:"access_tokens" doc:"Access tokens, expired ones included." example:"1"`
	Connections  int `json:"connections" doc:"Connections of all types." example:"3"`
}

// StatusCA is the certificate that signs.
type StatusCA struct {
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 of the certificate, in hexadecimal."`
	NotAfter    time.Time `json:"not_after" doc:"When it expires."`
}

func (a *API) status(api huma.API) {
	register(a, api, route{
		method: http.MethodGet, path: "/status", id: "show-status", tag: "observation", role: attache.RoleViewer,
		summary: "Show the server's status", text: "Shows the version, the addresses, what is stored, and the CA.",
	}, a.showStatus)
}

func (a *API) showStatus(ctx context.Context, _ *struct{}) (*Answer[Status], error) {
	i := a.Instance
	s := Status{
		Version: i.Version, StartedAt: i.StartedAt, UptimeSeconds: time.Since(i.StartedAt).Seconds(), DataDir: i.DataDir,
		ProxyAddress: i.ProxyAddress, ProxyTLS: i.ProxyTLS, AdminAddress: i.AdminAddress, MetricsAddress: i.MetricsAddress,
	}
	var err error
	if s.Counts, err = a.count(ctx); err != nil {
		return nil, err
	}
	certificates, err := a.Authority.Certificates(ctx)
	if err != nil {
		return nil, err
	}
	if len(certificates) > 0 {
		s.CA = StatusCA{fingerprint(certificates[0]), certificates[0].NotAfter}
	}
	return answer(s), nil
}

// count counts. What is deleted meanwhile counts as nothing. Connections, of which
// there may be very many, are counted as they come and go.
func (a *API) count(ctx context.Context) (Counts, error) {
	all, err := a.Store.Integrations(ctx)
	if err != nil {
		return Counts{}, err
	}
	n := Counts{Integrations: len(all), Connections: a.Index.Current().Connections()}
	for _, in := range all {
		tokens, err := a.Store.AccessTokens(ctx, in.Name)
		if err != nil && !gone(err) {
			return Counts{}, err
		}
		n.AccessTokens += len(tokens)
	}
	return n, nil
}
