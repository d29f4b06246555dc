package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"attache/configs"
)

// listeners are where a server listens.
type listeners struct {
	proxy   net.Listener
	admin   net.Listener // nil: off
	metrics net.Listener // nil: off
	socket  net.Listener
	own     []netip.AddrPort
}

// listen opens the TCP listeners, all or none.
func listen(ctx context.Context, cfg configs.Config) (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for _, one := range []struct {
		flag string
		addr netip.AddrPort
		to   *net.Listener
	}{
		{"listen", cfg.Listen, &l.proxy},
		{"admin-listen", cfg.Admin.Listen, &l.admin},
		{"metrics-listen", cfg.Metrics.Listen, &l.metrics},
	} {
		if !one.addr.IsValid() {
			continue
		}
		network := "tcp"
		if one.addr.Addr().Is4() {
			network = "tcp4" // else 0.0.0.0 would mean [::], too
		}
		ln, err := new(net.ListenConfig).Listen(ctx, network, one.addr.String())
		if err != nil {
			return l, cannotListen(ctx, one.flag, one.addr, err)
		}
		*one.to = ln
		if bound, ok := ln.Addr().(*net.TCPAddr); ok {
			l.own = append(l.own, bound.AddrPort())
		}
	}
	if cfg.ListenTLS.CertificateFile == "" {
		return l, nil
	}
	pair, err := tls.LoadX509KeyPair(cfg.ListenTLS.CertificateFile, cfg.ListenTLS.KeyFile)
	if err != nil {
		return l, fmt.Errorf("listen_tls: %w", err)
	}
	l.proxy = tls.NewListener(l.proxy, &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	})
	return l, nil
}

// close closes those that are open.
func (l listeners) close() {
	for _, ln := range []net.Listener{l.proxy, l.admin, l.metrics, l.socket} {
		if ln != nil {
			_ = ln.Close()
		}
	}
}

// address is where a listener listens, or empty.
func address(ln net.Listener) string {
	if ln == nil {
		return ""
	}
	return ln.Addr().String()
}

// maxSocketPath is how long the path of a Unix socket may be where it may be
// shortest (macOS; Linux allows four more), in bytes.
const maxSocketPath = 103

// checkSocketPath refuses what can be neither listened on nor dialled.
func checkSocketPath(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("%s: the path of a socket has at most %d characters, this one has %d: choose a shorter data directory with --data-dir", path, maxSocketPath, len(path))
	}
	return nil
}

// listenSocket listens on a Unix socket that only its owner can open. The data
// directory must be open: that nobody else has it says that a socket in it is a
// dead server's.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: another program answers on this socket: stop it, or choose another data directory with --data-dir", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of a server that is gone: %w", err)
	}
	// The directory may be open to others, which only gets a warning.
	undo := closeToOthers()
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	undo()
	if err != nil {
		return nil, err
	}
	// Where the directory has a list of rights for what is made in it, that counts.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// cannotListen says which listener has which trouble, who holds the port as far
// as can be told, and what to do.
func cannotListen(ctx context.Context, flag string, addr netip.AddrPort, err error) error {
	if !addressInUse(err) {
		return fmt.Errorf("--%s: %w", flag, err)
	}
	holder := portHolder(addr.Port())
	switch {
	// A proxy is not asked: it would record that as a request.
	case flag == "listen" && strings.HasSuffix(holder, "(attache)"), flag != "listen" && isAttache(ctx, addr):
		if holder != "" {
			holder = ", " + holder
		}
		holder = "another attache" + holder
	case holder == "":
		holder = "another program"
	}
	return &portError{fmt.Sprintf("--%s: %s is in use by %s: stop it, or choose another port with --%s", flag, addr, holder, flag), err}
}

// portError says more of why a port cannot be had than the system does.
type portError struct {
	text string
	err  error
}

func (e *portError) Error() string { return e.text }
func (e *portError) Unwrap() error { return e.err }

const (
	askTimeout = time.Second
	maxAsked   = 4 << 10 // bytes of an answer
)

// isAttache reports whether what listens on a TCP port answers as our API or our
// metrics do.
func isAttache(ctx context.Context, addr netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(addr.String())+healthPath, nil)
	if err != nil {
		return false
	}
	resp, err := straight().Do(r)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAsked))
	for _, v := range []string{resp.Header.Get("Proxy-Authenticate"), resp.Header.Get("WWW-Authenticate"), string(body)} {
		if strings.Contains(v, "attache") {
			return true
		}
	}
	return false
}

// straight is an HTTP client that goes through no proxy and keeps nothing open.
func straight() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}
