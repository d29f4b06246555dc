package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"attache/client"
)

// attacheServer is Attaché as it is shipped, with everything on: an access token,
// policy over some connections, injection, one event for each request in a file,
// and metrics.
type attacheServer struct {
	connections int    // in the store
	opaque      bool   // none of them covers what load asks for, so that it is tunnelled
	refreshes   int    // OAuth connections that are kept alive besides
	binary      string // empty: the one to measure
}

const integration = "default" // the first start makes it

func (v attacheServer) start(ctx context.Context, b *bed) (*proxy, error) {
	// Making 100,000 connections takes a disk minutes, and requests read none. What
	// is renewed all the time has to be written to a real one.
	parent := b.memory
	if v.refreshes > 0 {
		parent = b.dir
	}
	dir, err := os.MkdirTemp(parent, "attache-")
	if err != nil {
		return nil, err
	}
	binary := b.attache
	if v.binary != "" {
		if binary, err = filepath.Abs(v.binary); err != nil {
			return nil, err
		}
	}
	config := filepath.Join(dir, "attache.yaml")
	if err := os.WriteFile(config, []byte(attacheConfig(b, dir)), 0o600); err != nil {
		return nil, err
	}
	api, err := client.New(client.Options{Socket: filepath.Join(dir, "admin.sock")})
	if err != nil {
		return nil, err
	}
	defer api.Close()
	var status client.Status
	server, pid, err := keep(program{
		Path: binary, Args: []string{"serve", "--config", config},
		Env: []string{"HOME=" + dir}, Dir: dir, Log: filepath.Join(dir, "log"),
	}, func() error {
		status, err = api.Status(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	r, err := v.prepare(ctx, b, api)
	if err != nil {
		return nil, errors.Join(err, server.end())
	}
	r.Proxy = status.ProxyAddress
	return &proxy{
		route: r, pid: pid, stop: server.end,
		mallocs: func() (float64, error) { return metric(status.MetricsAddress, "go_memstats_mallocs_total") },
		between: func() error { return os.Truncate(filepath.Join(dir, "events"), 0) },
	}, nil
}

// attacheConfig is the configuration of a server that finds the origin on
// loopback and trusts its CA.
func attacheConfig(b *bed, dir string) string {
	var hosts strings.Builder
	fmt.Fprintf(&hosts, "    - %s=127.0.0.1\n", host)
	for n := range b.fresh {
		fmt.Fprintf(&hosts, "    - %s=127.0.0.1\n", freshHost(n))
	}
	return fmt.Sprintf(`
data_dir: %s
listen: 127.0.0.1:0
admin:
  listen: "off"
metrics:
  listen: 127.0.0.1:0
upstream:
  allow_private: [127.0.0.0/8]
  ca_file: %s
  hosts:
%slog:
  level: warn
  events: %s
`, dir, b.caFile(), hosts.String(), filepath.Join(dir, "events"))
}

// prepare makes the connections and an access token.
func (v attacheServer) prepare(ctx context.Context, b *bed, api *client.Client) (route, error) {
	if err := v.fill(ctx, b, api); err != nil {
		return route{}, err
	}
	if v.refreshes > 0 {
		if err := v.authorize(ctx, b, api); err != nil {
			return route{}, err
		}
	}
	token, err := api.CreateAccessToken(ctx, integration, time.Time{})
	if err != nil {
		return route{}, err
	}
	password, err := token.Token.MarshalText()
	if err != nil {
		return route{}, err
	}
	ca, err := api.CA(ctx)
	if err != nil {
		return route{}, err
	}
	r := b.route()
	r.Authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(integration+":"+string(password)))
	r.Roots += ca.PEM
	if v.opaque {
		r.Credential = credential
	}
	return r, nil
}

// writers is how many connections are made at a time.
const writers = 8

// fill makes the connections: the ones that load uses, and others.
func (v attacheServer) fill(ctx context.Context, b *bed, api *client.Client) error {
	domains := make(map[string]string, v.connections)
	if !v.opaque {
		domains["api"] = host
		if b.fresh > 0 {
			domains["fresh"] = "*." + freshDomain
		}
	}
	for n := len(domains); n < v.connections; n++ {
		name := fmt.Sprintf("other-%d", n)
		domains[name] = name + ".bench.test"
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for name, domain := range domains {
		g.Go(func() error {
			in := client.NewConnection{Name: name, AllowedDomain: domain, AllowedPorts: []uint16{uint16(b.ports.H1), uint16(b.ports.H2)}}
			if err := in.Token.UnmarshalText([]byte(strings.TrimPrefix(credential, "Bearer "))); err != nil {
				return err
			}
			_, err := api.CreateConnection(ctx, integration, "bearer_token", in)
			return err
		})
	}
	return g.Wait()
}

// authorize makes the OAuth connections. They are made as far apart as their
// tokens are renewed, so that the renewals are spread as evenly.
func (v attacheServer) authorize(ctx context.Context, b *bed, api *client.Client) error {
	in := client.NewOAuthClient{Registration: client.Registration{
		Name: "provider", GrantType: "client_credentials", ClientID: "bench",
		TokenURL: fmt.Sprintf("https://%s:%d%s", host, b.ports.H1, tokenPath),
	}}
	if err := in.ClientSecret.UnmarshalText([]byte("bench-secret")); err != nil {
		return err
	}
	if _, err := api.CreateOAuthClient(ctx, integration, in); err != nil {
		return err
	}
	const renewed = tokenLife * time.Second / 2 // of a life under two minutes, half
	tick := time.NewTicker(renewed / time.Duration(v.refreshes))
	defer tick.Stop()
	for n := range v.refreshes {
		<-tick.C
		if _, err := api.CreateConnection(ctx, integration, "oauth", client.NewConnection{
			Name: fmt.Sprintf("oauth-%d", n), AllowedDomain: fmt.Sprintf("oauth-%d.bench.test", n),
			OAuthRequest: client.OAuthRequest{OAuthClient: in.Name},
		}); err != nil {
			return err
		}
	}
	return nil
}

// metric reads one number of a Prometheus endpoint.
func metric(address, name string) (float64, error) {
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("there is no metric %s", name), lines.Err())
}
