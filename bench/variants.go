package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// variant is one way from the client to the origin.
type variant struct {
	Name  string `json:"name"`
	About string `json:"about"`
	// program and pkg are what has to be installed, by its name or path, and the Debian
	// package that has it; empty where nothing has to be.
	program, pkg string
	// only are the workloads that it takes part in; none: all. Those proxies are
	// shown for comparison, and slow ones would take long.
	only  []string
	start func(context.Context, *bed) (*proxy, error)
}

// proxy is a variant that runs.
type proxy struct {
	route   route
	pid     int                     // 0: there is none
	mallocs func() (float64, error) // objects allocated so far; nil: it cannot be had
	between func() error            // after each measurement; nil: nothing
	stop    func() error
}

// everyone is the variants of most groups, in the order of the tables.
func everyone(s sizes) []variant {
	const http1 = "get-h1-64"
	all := []variant{
		{Name: "direct", About: "no proxy: the client speaks to the origin", start: startDirect},
		{Name: "tunnel", About: "Attaché's opaque tunnel, which copies bytes", start: attacheServer{connections: s.few, opaque: true}.start},
		{Name: "attache", About: fmt.Sprintf("Attaché with everything on, and %d connections in the store", s.few), start: attacheServer{connections: s.few}.start},
		{Name: "reencrypt", About: "a tunnel that decrypts, puts the field in and encrypts again, and does nothing else", only: []string{"get-h1-16", http1, "get-h1-256"}, start: own("reencrypt").start},
		{Name: "goproxy", About: "bare goproxy that intercepts, with a certificate cache and a tuned transport", start: own("goproxy").start},
		{Name: "nginx", About: "nginx as a reverse proxy that sets the field", program: "nginx", pkg: "nginx", start: startNginx},
		{Name: "squid", About: "squid that intercepts (ssl-bump) and sets the field", program: squidHelper, pkg: "squid-openssl", only: []string{http1, "connect-full"}, start: startSquid},
		{Name: "mitmproxy", About: "mitmproxy with an addon that sets the field", program: "mitmdump", pkg: "mitmproxy", only: []string{http1, "get-h2-64", "connect-full"}, start: startMitmproxy},
	}
	if s.baseline != "" {
		all = append(all, variant{
			Name: baseline, About: "as attache, by another binary", start: attacheServer{connections: s.few, binary: s.baseline}.start,
		})
	}
	return all
}

// baseline is the variant that is another build of Attaché: one from before a
// change, perhaps.
const baseline = "baseline"

// stores are the variants that show what the number of connections in the store
// does, and what goes on in it.
func stores(s sizes) []variant {
	of := func(n int) variant {
		return variant{
			Name: fmt.Sprintf("store-%d", n), About: fmt.Sprintf("Attaché with as many connections in the store: %d", n),
			start: attacheServer{connections: n}.start,
		}
	}
	return []variant{
		of(1), of(s.few), of(s.many),
		{
			Name: "refreshing", About: fmt.Sprintf("Attaché with %d connections, and %d OAuth refreshes a minute going on", s.few, refreshes*60/(tokenLife/2)),
			start: attacheServer{connections: s.few, refreshes: refreshes}.start,
		},
	}
}

// refreshes is how many OAuth connections make 1,000 refreshes a minute: each is
// renewed after half of its token's life.
const refreshes = 100

// takesPart tells whether a workload is measured through v.
func (v variant) takesPart(w workload) bool {
	return (len(v.only) == 0 || slices.Contains(v.only, w.Name)) && (len(w.only) == 0 || slices.Contains(w.only, v.Name))
}

// missing says what to install before v can be measured; empty: nothing.
func (v variant) missing() string {
	if v.program == "" || find(v.program) != "" {
		return ""
	}
	return fmt.Sprintf("%s is not installed, or without what is needed here: apt-get install --no-install-recommends %s", v.Name, v.pkg)
}

func startDirect(_ context.Context, b *bed) (*proxy, error) {
	r := b.route()
	r.Credential = credential
	return &proxy{route: r, stop: func() error { return nil }}, nil
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
