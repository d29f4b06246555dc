// Package client is the Go client of the admin API. It reaches a server over its
// Unix socket, over a URL with an admin token, or a handler in the same process,
// and looks the same over all three.
//
// Requests never go through a proxy, whatever the environment says, and follow no
// redirect: what they carry is for this one server.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"attache"
	"attache/secret"
)

const (
	basePath       = "/api/v1"
	defaultTimeout = 30 * time.Second
	dialTimeout    = 5 * time.Second
	maxAnswer      = 64 << 20 // bytes; a page of connections has about 50 KiB
)

// Options say where the API is: exactly one of Socket, URL and Handler.
type Options struct {
	// Socket is the path of the server's Unix socket, which needs no token.
	Socket string
	// URL is the server's: scheme, host and port. It must be https, except on
	// loopback, because the token travels with each request.
	URL string
	// Token is an admin token. It goes with URL.
	Token secret.Text
	// Handler answers in this process, and is trusted.
	Handler http.Handler
	// Timeout bounds each call, from dialling to the last byte of the answer. Zero
	// means 30 seconds. Event streams have none.
	Timeout time.Duration
}

// ErrOptions: the options name no server, or more than one, or one that a token
// must not be sent to.
var ErrOptions = errors.New("client options")

// Client calls the API. It is safe for concurrent use. Its errors are an
// [*Error] where the server answered one, and those of net/http otherwise.
type Client struct {
	base          string
	authorization secret.Outgoing // empty where none is needed
	http          *http.Client
	timeout       time.Duration
}

// New makes a client. It does not connect yet.
func New(o Options) (*Client, error) {
	c := &Client{base: "http://attache", timeout: o.Timeout}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	c.http = &http.Client{
		// An answer that points elsewhere is handed back as it is, and is an error.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	switch {
	case o.Socket != "" && o.URL == "" && o.Handler == nil:
		c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", o.Socket)
		}}
	case o.URL != "" && o.Socket == "" && o.Handler == nil:
		u, err := url.Parse(o.URL)
		if err != nil || !tokenMayGo(u) {
			return nil, fmt.Errorf("%w: the URL must be https://host:port, or http:// on loopback", ErrOptions)
		}
		c.base = u.Scheme + "://" + u.Host
		c.http.Transport = &http.Transport{DialContext: dialer.DialContext, ForceAttemptHTTP2: true}
	case o.Handler != nil && o.Socket == "" && o.URL == "":
		c.http.Transport = inProcess{o.Handler}
	default:
		return nil, fmt.Errorf("%w: name one of socket, URL and handler", ErrOptions)
	}
	if !o.Token.IsZero() {
		c.authorization.Text = secret.Concat(secret.New("Bearer "), o.Token)
	}
	return c, nil
}

// tokenMayGo reports whether a token can be sent to the server of a URL without
// others on the way reading it.
func tokenMayGo(u *url.URL) bool {
	if u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return false
	}
	if u.Scheme == "http" {
		addr, err := netip.ParseAddr(u.Hostname())
		return u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
	}
	return u.Scheme == "https"
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// path joins path segments, escaping each. A segment that would name something
// else in a path names nothing.
func path(segments ...string) (string, error) {
	var b strings.Builder
	for _, s := range segments {
		if s == "" || s == "." || s == ".." {
			return "", fmt.Errorf("a name is empty or made of dots: %w", attache.ErrNotFound)
		}
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String(), nil
}

// call sends a request with in as its body, or none, and decodes the answer into
// a T.
func call[T any](ctx context.Context, c *Client, method string, in any, segments ...string) (T, error) {
	return query[T](ctx, c, method, in, nil, segments...)
}

func query[T any](ctx context.Context, c *Client, method string, in any, params url.Values, segments ...string) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var out T
	r, err := c.request(ctx, method, in, params, segments...)
	if err != nil {
		return out, err
	}
	resp, err := c.send(r)
	if err != nil {
		return out, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNoContent {
		return out, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return out, fmt.Errorf("read the answer: %w", err)
	}
	return out, nil
}

func (c *Client) request(ctx context.Context, method string, in any, params url.Values, segments ...string) (*http.Request, error) {
	p, err := path(segments...)
	if err != nil {
		return nil, err
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	u := c.base + basePath + p
	if len(params) > 0 {
		u += "?" + params.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	if !c.authorization.IsZero() {
		value, err := c.authorization.MarshalText()
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", string(value))
	}
	r.Header.Set("Accept", "application/json")
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

// send returns an answer with a status of 2xx, and every other as an error.
func (c *Client) send(r *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	e := &Error{attache.Problem{Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode)}}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && media == "application/problem+json" {
		// What cannot be decoded leaves the status, which says enough.
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&e.Problem)
	}
	return nil, e
}
