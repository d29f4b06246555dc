package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"attache"
	"attache/client"
	"attache/configs"
	"attache/secret"
	"attache/store"
)

// grant is what a client needs to use the proxy.
type grant struct {
	proxyURL string // without the user
	user     string // INTEGRATION or INTEGRATION.CONNECTION
	token    secret.Text
	ca       string // PEM, what has to be trusted
	dir      string // data directory, for the files that variables name
	server   string // URL of the server that was named; empty: the data directory's
	lasting  bool   // nobody can tell when the last client has it
}

// currentCA is what has to be trusted now. A rotation may have come after the grant.
func (g grant) currentCA() []byte {
	if g.server == "" {
		if now, err := os.ReadFile(filepath.Join(g.dir, caFile)); err == nil {
			return now
		}
	}
	return []byte(g.ca)
}

// url is the proxy's, with user and password. This is where the token comes out:
// a client can have it in no other way.
func (g grant) url() (string, error) {
	scheme, host, ok := strings.Cut(g.proxyURL, "://")
	if !ok {
		return "", fmt.Errorf("%q is not the URL of a proxy", g.proxyURL)
	}
	full := secret.Concat(secret.New(scheme+"://"+url.User(g.user).String()+":"), g.token, secret.New("@"+host))
	text, err := secret.Outgoing{Text: full}.MarshalText()
	return string(text), err
}

// grantFor is a run's grant. It starts a server where none runs. What release
// does must be done when the command has ended.
func (a *app) grantFor(ctx context.Context, cfg configs.Config, who identity) (grant, func(), error) {
	g := grant{user: who.user(), dir: cfg.DataDir, server: a.server()}
	if g.server != "" {
		return a.remoteGrant(ctx, who.integration, g)
	}
	if err := a.renew(ctx, cfg); err != nil {
		return grant{}, nil, err
	}
	token := newAccessToken()
	var l *lease
	err := eventually(ctx, reachTimeout, func() (done bool, err error) {
		if l, err = takeLease(ctx, cfg.DataDir, who.integration, token); !errors.Is(err, errNoServer) {
			return true, err
		}
		err = a.startBackground(ctx, cfg)
		return err != nil && !errors.Is(err, store.ErrInUse), err
	})
	if err != nil {
		return grant{}, nil, noIntegration(err, who.integration)
	}
	g.proxyURL, g.ca, g.token = l.ProxyURL, l.CA, token.text
	kept := make(chan struct{})
	ctx, end := context.WithCancel(ctx)
	go func() {
		defer close(kept)
		a.keep(ctx, l, func() (*lease, error) { return takeLease(ctx, cfg.DataDir, who.integration, token) })
	}()
	return g, func() {
		end()
		<-kept
	}, nil
}

// keep holds a lease until ctx ends. Should the server end before, it says so,
// and takes the lease again from one that comes back.
func (a *app) keep(ctx context.Context, l *lease, again func() (*lease, error)) {
	for {
		select {
		case <-ctx.Done():
			l.end()
			return
		case <-l.lost:
		}
		if ctx.Err() != nil {
			return
		}
		if l.Background {
			fmt.Fprintf(a.err, "attache: the server in the background, at %s, has ended: the command's requests fail, and the next server is at another port: restart the command\n", l.ProxyURL)
		} else {
			fmt.Fprintf(a.err, "attache: the server at %s has ended: until it is back, the command's requests fail\n", l.ProxyURL)
		}
		next := leaseAgain(ctx, again)
		if next == nil {
			return
		}
		if next.ProxyURL != l.ProxyURL {
			fmt.Fprintf(a.err, "attache: there is a server again, but at %s: restart the command for its requests to go there\n", next.ProxyURL)
		} else {
			fmt.Fprintf(a.err, "attache: the server at %s is back\n", l.ProxyURL)
		}
		l = next
	}
}

// leaseAgain tries until there is a lease, or is nil when ctx ends.
func leaseAgain(ctx context.Context, again func() (*lease, error)) *lease {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if l, err := again(); err == nil {
			return l
		}
	}
}

// runningAPI is that of the server that was named, or else runs on the data
// directory.
func (a *app) runningAPI(ctx context.Context, cfg configs.Config) (*client.Client, error) {
	if url := a.server(); url != "" {
		return a.remoteAPI(url)
	}
	return localAPI(ctx, cfg.DataDir)
}

// remoteTokenLife bounds the access token of a run against a server that was
// named, should the run end without revoking it.
const remoteTokenLife = 7 * 24 * time.Hour

// remoteGrant is a grant from a server that was named. There are no leases over
// TCP: the token is stored there, and revoked by release.
func (a *app) remoteGrant(ctx context.Context, integration string, g grant) (grant, func(), error) {
	c, err := a.remoteAPI(g.server)
	if err != nil {
		return grant{}, nil, err
	}
	err = g.locate(ctx, c)
	var id string
	if err == nil {
		id, err = g.issue(ctx, c, integration, time.Now().Add(remoteTokenLife))
	}
	if err != nil {
		c.Close()
		return grant{}, nil, err
	}
	return g, func() {
		defer c.Close()
		if err := c.RevokeAccessToken(context.WithoutCancel(ctx), integration, id); err != nil && !errors.Is(err, attache.ErrNotFound) {
			a.warn("the access token %s is valid until it expires: %v", id, err)
		}
	}, nil
}

// locate asks the API of a grant's server where the proxy is, and what to trust.
func (g *grant) locate(ctx context.Context, c *client.Client) error {
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	ca, err := c.CA(ctx)
	if err != nil {
		return err
	}
	at, err := seenFrom(g.server, status.ProxyAddress)
	if err != nil {
		return err
	}
	g.proxyURL, g.ca = proxyURL(at, status.ProxyTLS), ca.PEM
	return nil
}

// issue completes a grant with an access token that is made over the API of its
// server, and returns the token's ID.
func (g *grant) issue(ctx context.Context, c *client.Client, integration string, expires time.Time) (id string, err error) {
	token, err := c.CreateAccessToken(ctx, integration, expires)
	if err != nil {
		return "", noIntegration(err, integration)
	}
	g.token = token.Token.Text
	return token.ID, nil
}

// seenFrom is the proxy's address for a client that reaches the same machine's
// API at a URL: a proxy on every interface is where the API is. One on loopback is
// refused for an API that is not: the access token would go to whatever listens there
// on the client's own machine.
func seenFrom(api, listening string) (string, error) {
	u, err := url.Parse(api)
	addr, err2 := netip.ParseAddrPort(listening)
	switch {
	case err != nil || err2 != nil || u.Hostname() == "":
		return reachable(listening), nil
	case addr.Addr().IsLoopback() && !onLoopback(u.Hostname()):
		return "", fmt.Errorf("the proxy of %s listens on %s, which only its own machine reaches: let it listen for others with attache serve --listen, or, on that machine, name the server by its URL on loopback", u.Host, listening)
	case addr.Addr().IsUnspecified():
		_, port, _ := net.SplitHostPort(listening)
		return net.JoinHostPort(u.Hostname(), port), nil
	default:
		return listening, nil
	}
}

// onLoopback reports whether a host of a URL is this machine, whoever asks.
func onLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
