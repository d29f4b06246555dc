package main

import (
	"cmp"
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
	maxProblem  = 64 << 10 // bytes
)

// connectionTest is one request through the proxy.
type connectionTest struct {
	host   string // empty: the allowed domain
	path   string
	method string
}

func newConnectionTest(a *app) *cobra.Command {
	t := connectionTest{method: http.MethodGet}
	cmd := &cobra.Command{
		Use:   "test NAME",
		Short: "Send one request with a connection's credential",
		Long: `Send one request through the proxy to the connection's domain, and say how it was answered.
Where no server runs, one is started in the background. The access token that this takes is
gone afterwards.`,
		Example: `  attache connection test tickets --path /api/v2/users/me
  attache connection test wiki --host team.wiki.example --method HEAD`,
		Args: exactly("NAME"),
	}
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, connectionNames(integration, usableConnection))
	choiceFlag(cmd, &t.method, flagName{long: "method"}, "method of the request", http.MethodGet, http.MethodHead)
	flags := cmd.Flags()
	flags.StringVar(&t.path, "path", "/", "`PATH` and query to ask for")
	flags.StringVar(&t.host, "host", "", "`HOST` to ask, below the domain of a wildcard (default the domain itself)")
	for _, name := range []string{"path", "host"} {
		completeWith(cmd, name, cobra.NoFileCompletions)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		found, err := a.lookUp(cmd, *integration, args[0])
		if err != nil {
			return err
		}
		r, err := t.request(found)
		if err != nil {
			return err
		}
		cfg, err := a.loadConfig()
		if err != nil {
			return err
		}
		g, release, err := a.grantFor(cmd.Context(), cfg, identity{*integration, found.Name})
		if err != nil {
			return err
		}
		defer release()
		ctx, cancel := context.WithTimeout(cmd.Context(), testTimeout)
		defer cancel()
		return a.try(r.WithContext(ctx), g, found)
	}
	return cmd
}

// request is the one that is sent.
func (t connectionTest) request(c client.Connection) (*http.Request, error) {
	host := cmp.Or(t.host, strings.TrimPrefix(string(c.AllowedDomain), "*."))
	if !slices.Contains(c.AllowedPorts, 443) {
		host = net.JoinHostPort(host, strconv.Itoa(int(c.AllowedPorts[0])))
	}
	r, err := http.NewRequest(t.method, "https://"+host+t.path, nil)
	if err != nil || !strings.HasPrefix(t.path, "/") || r.URL.Host != host {
		return nil, usagef("--host must be a host name, and --path begin with / and be a URL's path")
	}
	r.Header.Set("User-Agent", "attache/"+programVersion())
	return r, nil
}

// try sends a request through the proxy, with the grant, and says what came of it.
func (a *app) try(r *http.Request, g grant, c client.Connection) error {
	transport, err := g.transport()
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("%s %s: %w", r.Method, r.URL, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := problemOf(resp); err != nil {
		return fmt.Errorf("%s %s: %w", r.Method, r.URL, err)
	}
	came := fmt.Sprintf("%s %s with %s of %s: %s", r.Method, r.URL, headerOf(c), c.Name, resp.Status)
	if _, err := fmt.Fprintln(a.out, printable(came)); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		replace := "rotate"
		if c.Type == attache.OAuth {
			replace = "authorize"
		}
		return fmt.Errorf("the upstream does not accept the credential for this: check it there, or replace it with attache connection %s %s", replace, c.Name)
	}
	return nil
}

// transport is the way through the proxy for one request.
func (g grant) transport() (*http.Transport, error) {
	text, err := g.url()
	if err != nil {
		return nil, err
	}
	proxy, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("the proxy's address is no URL") // err has the token in it
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(g.ca))
	return &http.Transport{
		Proxy:                  http.ProxyURL(proxy),
		OnProxyConnectResponse: refusedTunnel,
		TLSClientConfig:        &tls.Config{RootCAs: roots},
		DisableKeepAlives:      true,
		DisableCompression:     true,
	}, nil
}

// refusedTunnel makes an error of a CONNECT that the proxy did not accept.
func refusedTunnel(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return cmp.Or(problemOf(resp), fmt.Errorf("the proxy answered %s", resp.Status))
}

// problemOf is the proxy's own answer as an error: what went wrong and what to
// do, and its code. It is nil where the upstream answered.
func problemOf(resp *http.Response) error {
	code := resp.Header.Get("Attache-Error")
	if code == "" {
		return nil
	}
	p := attache.Problem{Title: resp.Status}
	// A body that cannot be read, or that HEAD has none of, leaves the code.
	_ = json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(&p)
	if p.Detail != "" {
		p.Title += ": " + p.Detail
	}
	return fmt.Errorf("%s (%s)", p.Title, code)
}
