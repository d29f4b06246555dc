package main

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/elazarl/goproxy"
)

// serveGoproxy serves with a goproxy as its documentation sets it up for interception,
// and as well as its options allow: a certificate cache, HTTP/2, and a pool that fits
// the load.
func serveGoproxy(task ownTask, ln net.Listener) error {
	server, err := newGoproxy(task)
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(ln, server) }()
	return nil
}

func newGoproxy(task ownTask) (*goproxy.ProxyHttpServer, error) {
	ca, err := task.Authority.load()
	if err != nil {
		return nil, err
	}
	roots, err := pool(task.Roots)
	if err != nil {
		return nil, err
	}
	p := goproxy.NewProxyHttpServer()
	p.Logger = log.New(io.Discard, "", 0)
	p.AllowHTTP2 = true
	p.CertStore = new(certificates)
	p.ConnectDial = nil
	p.Tr = &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		},
		TLSClientConfig:     &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(1024)},
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        4096,
		MaxIdleConnsPerHost: 512,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
	intercept := &goproxy.ConnectAction{Action: goproxy.ConnectMitm, TLSConfig: goproxy.TLSConfigFromCA(&ca)}
	p.OnRequest().HandleConnectFunc(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		return intercept, host
	})
	p.OnRequest().DoFunc(func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		r.Header.Set("Authorization", task.Credential)
		return r, nil
	})
	return p, nil
}

// certificates is a cache of certificates without a bound.
type certificates struct{ sync.Map }

// Fetch implements [goproxy.CertStorage].
func (c *certificates) Fetch(host string, make func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	if cert, ok := c.Load(host); ok {
		return cert.(*tls.Certificate), nil
	}
	cert, err := make()
	if err == nil {
		c.Store(host, cert)
	}
	return cert, err
}
