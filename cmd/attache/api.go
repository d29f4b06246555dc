package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"attache"
	"attache/admin"
	"attache/audit"
	"attache/client"
	"attache/configs"
	"attache/oauth"
	"attache/proxy"
	"attache/secret"
	"attache/store"
)

const (
	// reachTimeout is how long to wait for a server that holds the data directory
	// and does not answer yet, or not any more.
	reachTimeout = 10 * time.Second
	reachEvery   = 50 * time.Millisecond
)

// api is a subcommand's way to the admin API: a server's by --server, or that of
// the server that runs on the data directory, or, where none runs, the same
// handlers on the directory itself, which is kept open until close. Read what
// people type before calling it: others wait meanwhile.
func (a *app) api(cmd *cobra.Command) (c *client.Client, closeAPI func(), err error) {
	ctx := cmd.Context()
	if url := a.server(); url != "" {
		c, err := a.remoteAPI(url)
		if err != nil {
			return nil, nil, err
		}
		return c, c.Close, nil
	}
	cfg, err := a.loadConfig()
	if err != nil {
		return nil, nil, err
	}
	var d *data
	err = eventually(ctx, reachTimeout, func() (done bool, err error) {
		if c, err = localAPI(ctx, cfg.DataDir); !errors.Is(err, errNoServer) {
			return true, err
		}
		d, err = a.openData(ctx, cfg)
		return !errors.Is(err, store.ErrInUse), err
	})
	if err != nil {
		return nil, nil, err
	}
	if d == nil {
		return c, c.Close, nil
	}
	if c, err = d.api(ctx, cfg); err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return c, func() {
		c.Close()
		if err := d.Close(); err != nil {
			a.complain(err)
		}
	}, nil
}

// server is the URL of the server that was named, if one was.
func (a *app) server() string {
	if a.serverURL != "" {
		return a.serverURL
	}
	url, _ := a.lookup(serverVariable)
	return url
}

// remoteAPI is the API of a server that was named.
func (a *app) remoteAPI(url string) (*client.Client, error) {
	token, err := a.secretVariable(adminTokenVariable, adminTokenFileVariable)
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Options{URL: url, Token: token})
	if err != nil {
		if errors.Is(err, client.ErrOptions) {
			return nil, errors.New("--server: the URL must be https://host:port, or http:// on loopback")
		}
		return nil, fmt.Errorf("--server: %w", err)
	}
	if token.IsZero() { // now that the URL is known to have no password in it
		return nil, fmt.Errorf("%s: an admin token is needed: set %s or %s; make one with: attache admin-token create", url, adminTokenVariable, adminTokenFileVariable)
	}
	return c, nil
}

// maxSecretFile bounds a file that holds one secret, in bytes.
const maxSecretFile = 64 << 10

// secretVariable is a secret from a variable, or from the file that another one
// names.
func (a *app) secretVariable(variable, fileVariable string) (secret.Text, error) {
	text, _ := a.lookup(variable)
	path, _ := a.lookup(fileVariable)
	switch {
	case text != "" && path != "":
		return secret.Text{}, fmt.Errorf("%s and %s are both set: unset one of the two", variable, fileVariable)
	case path == "":
		return secret.New(text), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return secret.Text{}, fmt.Errorf("%s: %w", fileVariable, err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxSecretFile))
	if err != nil {
		return secret.Text{}, fmt.Errorf("%s: %w", fileVariable, err)
	}
	return secret.New(strings.TrimSpace(string(content))), nil
}

// errNoServer: nobody answers on the socket of a data directory.
var errNoServer = errors.New("no server runs on the data directory")

// localAPI is the API of the server that runs on the data directory, or
// errNoServer, which one that is ending counts as.
func localAPI(ctx context.Context, dir string) (*client.Client, error) {
	socket := filepath.Join(dir, socketFile)
	if err := checkSocketPath(socket); err != nil {
		return nil, err
	}
	c, err := client.New(client.Options{Socket: socket})
	if err != nil {
		return nil, err
	}
	if _, err := c.Status(ctx); err != nil {
		c.Close()
		var answered *client.Error
		if unanswered(err) || errors.As(err, &answered) && answered.Problem.Status == http.StatusServiceUnavailable {
			return nil, fmt.Errorf("%s: %w", dir, errNoServer)
		}
		return nil, fmt.Errorf("ask the server on %s: %w", dir, err)
	}
	return c, nil
}

// api is the API on the data directory itself.
func (d *data) api(ctx context.Context, cfg configs.Config) (*client.Client, error) {
	providers, err := d.providers(cfg)
	if err != nil {
		return nil, err
	}
	if _, err := d.follow(ctx, providers.Keeper.Changed); err != nil {
		return nil, err
	}
	handler, err := admin.New(admin.Options{
		OAuth: providers,
		Store: d.store, Events: events(audit.NewRing(1)), Authority: d.authority,
		Index: d.live, Unmatched: cfg.Unmatched,
		Instance: admin.Instance{Version: programVersion(), StartedAt: time.Now(), DataDir: d.dir},
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{Handler: handler.Trusted()})
}

// providers is the way to OAuth providers: a server's, but that nothing is
// refreshed by itself.
func (d *data) providers(cfg configs.Config) (admin.OAuthOptions, error) {
	settings, err := proxySettings(cfg)
	if err != nil {
		return admin.OAuthOptions{}, err
	}
	dial, err := proxy.Dialer(settings.Upstream)
	if err != nil {
		return admin.OAuthOptions{}, err
	}
	endpoint := oauth.NewEndpoint(oauth.EndpointOptions{DialContext: dial, Roots: settings.Upstream.Roots})
	keeper := oauth.NewKeeper(endpoint, d.store, oauth.KeeperOptions{})
	return admin.OAuthOptions{
		Flows: oauth.NewFlows(keeper), Keeper: keeper, Endpoint: endpoint, CallbackURL: callbackURL(cfg.Admin.PublicURL, cfg.Admin.Listen),
	}, nil
}

// callbackURL is where browsers reach the callback of an API with that public URL,
// or, where it has none, browsers on this machine that of one that listens there;
// empty where none can be named.
func callbackURL(public string, listen netip.AddrPort) string {
	switch {
	case public != "":
		return public + callbackPath
	case listen.Port() == 0:
		return ""
	}
	return loopbackURL(reachable(listen.String()))
}

// events adapts the ring of recent events to the API.
func events(ring *audit.Ring) admin.EventSource {
	return admin.EventsFrom(ring.Recent, ring.Subscribe, func(d audit.Delivery) (attache.Event, uint64) { return d.Event, d.Missed })
}

// eventually tries until it is done, the time is over or ctx ends, and returns
// the last try's error.
func eventually(ctx context.Context, within time.Duration, try func() (done bool, err error)) error {
	over := time.NewTimer(within)
	defer over.Stop()
	tick := time.NewTicker(reachEvery)
	defer tick.Stop()
	for {
		done, err := try()
		if done {
			return err
		}
		select {
		case <-tick.C:
		case <-over.C:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
