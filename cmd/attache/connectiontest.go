package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"attache"
	"attache/client"
)

const (
	testTimeout = 60 * time.Second
	// testTokenLife is for when the token cannot be revoked afterwards.
	testTokenLife = 2 * time.Minute
	maxProblem    = 64 << 10 // bytes
)

// connectionTest is one request through the proxy.
type connectionTest struct {
	integration, host, path, method string
}

func newConnectionTest(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test NAME",
		Short: "Send one request with a connection's credential",
		Long: `Send one request through the proxy to the connection's domain and say how it was answered.
It takes a running server. The access token that it uses is revoked afterwards.`,
		Example: `  attache connection test tickets --path /api/v2/users/me
  attache connection test wiki --host team.wiki.example --method GET`,
		Args: exactly("NAME"),
	}
	var t connectionTest
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, connectionNames(integration))
	flags := cmd.Flags()
	choiceFlag(cmd, &t.method, flagName{long: "method"}, "method of the request", http.MethodGet, http.MethodHead)
	flags.Lookup("method").DefValue, t.method = http.MethodGet, http.MethodGet
	flags.StringVar(&t.path, "path", "/", "path and query to ask for")
	flags.StringVar(&t.host, "host", "", "host to ask, below the domain of a wildcard (default the allowed domain)")
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, args []string) error {
		t.integration = *integration
		ctx, cancel := context.WithTimeout(ctx, testTimeout)
		defer cancel()
		return t.run(ctx, a, c, args[0])
	})
	return cmd
}

func (t connectionTest) run(ctx context.Context, a *app, c *client.Client, name string) error {
	found, err := findConnection(ctx, c, t.integration, name)
	if err != nil {
		return err
	}
	target, err := t.target(found)
	if err != nil {
		return err
	}
	through, done, err := t.proxied(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	r, err := http.NewRequestWithContext(ctx, t.method, target, nil)
	if err != nil {
		return usagef("--path is not the path of a URL")
	}
	r.Header.Set("Attache-Connection", found.Name)
	r.Header.Set("User-Agent", "attache/"+programVersion())
	resp, err := through.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("%s %s: %w", t.method, target, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if refused := problemOf(resp); refused != nil {
		return fmt.Errorf("%s %s: %w", t.method, target, refused)
	}
	_, err = fmt.Fprintf(a.out, "%s %s, with %s of %s: %s\n", t.method, target, headerOf(found), found.Name, printable(resp.Status))
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return errors.Join(err, fmt.Errorf("the upstream does not accept the credential for this: look at it there, or replace it with attache connection rotate %s", found.Name))
	}
	return err
}

// target is the URL to ask for.
func (t connectionTest) target(c client.Connection) (string, error) {
	host := t.host
	if host == "" {
		host = strings.TrimPrefix(string(c.AllowedDomain), "*.")
	}
	if port := c.AllowedPorts[0]; !slices.Contains(c.AllowedPorts, 443) {
		host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	if !strings.HasPrefix(t.path, "/") {
		return "", usagef("--path must begin with /")
	}
	return "https://" + host + t.path, nil
}

// proxied is a way through the proxy, with a token that done revokes.
func (t connectionTest) proxied(ctx context.Context, c *client.Client) (_ http.RoundTripper, done func(), err error) {
	status, err := c.Status(ctx)
	if err != nil {
		return nil, nil, err
	}
	if status.ProxyAddress == "" {
		return nil, nil, errors.New("no server runs on this data directory: start one with attache serve, and try again")
	}
	ca, err := c.CA(ctx)
	if err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca.PEM))
	made, err := c.CreateAccessToken(ctx, t.integration, time.Now().Add(testTokenLife))
	if err != nil {
		return nil, nil, err
	}
	token, err := made.Token.MarshalText()
	if err != nil {
		return nil, nil, err
	}
	transport := &http.Transport{
		Proxy:                  http.ProxyURL(&url.URL{Scheme: "http", Host: status.ProxyAddress}),
		ProxyConnectHeader:     http.Header{"Proxy-Authorization": {"Bearer " + string(token)}},
		OnProxyConnectResponse: refusedTunnel,
		TLSClientConfig:        &tls.Config{RootCAs: roots},
		DisableKeepAlives:      true,
		DisableCompression:     true,
	}
	return transport, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), testTimeout)
		defer cancel()
		_ = c.RevokeAccessToken(ctx, t.integration, made.ID) // it ends soon by itself
	}, nil
}

// refusedTunnel makes an error of a CONNECT that the proxy did not accept.
func refusedTunnel(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	if p := problemOf(resp); p != nil {
		return p
	}
	return fmt.Errorf("the proxy answered %s", printable(resp.Status))
}

// problemOf is the proxy's own answer, or nil where the upstream answered.
func problemOf(resp *http.Response) error {
	code := resp.Header.Get("Attache-Error")
	if code == "" {
		return nil
	}
	p := attache.Problem{Title: resp.Status}
	// A body that cannot be read, or that HEAD has none of, leaves the code.
	_ = json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(&p)
	text := p.Title
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	return fmt.Errorf("%s (%s)", printable(text), printable(code))
}
