package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// variants are all that there are, in the order of the tables.
func variants() []variant {
	return []variant{
		{name: "direct", about: "no proxy: the client speaks to the origin", start: startDirect},
		{name: "tunnel", about: "Attaché's opaque tunnel: it copies bytes", start: attacheServer{host: opaqueHost, connections: 1000}.start},
		{name: "attache", about: "Attaché with everything on, and 1,000 connections in the store", start: attacheServer{host: apiHost, connections: 1000}.start},
		{name: "goproxy", about: "bare goproxy that intercepts, with a certificate cache and a tuned transport", start: startGoproxy},
		{name: "nginx", about: "nginx as a reverse proxy that sets the header", missing: missing("nginx", "nginx"), start: startNginx},
	}
}

func startDirect(_ context.Context, b *bed) (*proxy, error) {
	return &proxy{
		route: route{Ports: b.ports, Host: apiHost, Roots: b.authority.Certificate, Credential: credential},
		stop:  func() error { return nil },
	}, nil
}

func startGoproxy(_ context.Context, b *bed) (*proxy, error) {
	var state goproxyState
	c, err := begin("goproxy", goproxyTask{b.authority.pair, b.authority.Certificate, credential}, &state)
	if err != nil {
		return nil, err
	}
	return &proxy{
		route: route{Proxy: state.Address, Ports: b.ports, Host: apiHost, Roots: b.authority.Certificate},
		pid:   c.cmd.Process.Pid,
		stop:  c.end,
		mallocs: func() (float64, error) {
			err := c.ask(struct{}{}, &state)
			return float64(state.Mallocs), err
		},
	}, nil
}

// missing says which Debian package to install where a program is not there.
func missing(name, pkg string) func() string {
	return func() string {
		if find(name) == "" {
			return "apt-get install --no-install-recommends " + pkg
		}
		return ""
	}
}

// find is the path of a program; empty where there is none. Debian keeps servers
// where people's PATH does not lead.
func find(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && !info.IsDir() {
			return filepath.Join(dir, name)
		}
	}
	return ""
}
