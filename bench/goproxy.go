package main

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/elazarl/goproxy"
)

// goproxyTask is what a bare goproxy is told.
type goproxyTask struct {
	Authority  pair   // the CA that it signs with
	Roots      string // of the origin
	Credential string // Authorization that it sets
}

// goproxyState is what it answers: where it is, and how many objects it has
// allocated.
type goproxyState struct {
	Address string
	Mallocs uint64
}

// goproxyRole is goproxy as its documentation sets it up for interception, and as
// well as its options allow: a certificate cache, HTTP/2, and a pool that fits the
// load.
func goproxyRole(d dialogue) error {
	var task goproxyTask
	if err := d.Decode(&task); err != nil {
		return err
	}
	server, err := newGoproxy(task)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(ln, server) }()
	state := func(struct{}) (goproxyState, error) {
		return goproxyState{Address: ln.Addr().String(), Mallocs: mallocs()}, nil
	}
	first, err := state(struct{}{})
	if err != nil {
		return err
	}
	if err := d.Encode(first); err != nil {
		return err
	}
	return ask(d, state)
}

func newGoproxy(task goproxyTask) (*goproxy.ProxyHttpServer, error) {
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

// mallocs is how many objects this process has allocated.
func mallocs() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
