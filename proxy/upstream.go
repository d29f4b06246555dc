package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"attache"
	"attache/policy"
	"attache/secret"
	"attache/wire"
)

// upstream reaches origins: it dials them past the address guard, verifies
// their certificates, and pools their connections.
type upstream struct {
	pool     *http.Transport
	upgrades *http.Transport // for requests that switch protocols, which h2 cannot
	relays   *wire.Pool      // for the fast path, and for what roundtrip.go says
	speak11  *origins        // as pool has found out
	only2    *origins        // as relays has found out
	tls      *tls.Config     // for what no transport secures; each transport has its own, and writes to it
	dialer   *net.Dialer     // guarded
	hosts    map[string]netip.Addr
	parent   *url.URL
	toParent *net.Dialer // unguarded: the administrator named that address
	write    time.Duration
	read     time.Duration
	head     int64         // bytes of an answer's head
	patience time.Duration // for a connection from the pool
	guard    func(network, address string, c syscall.RawConn) error
	opened   atomic.Uint64
}

// errOwnAddress: somebody asked the proxy to call itself.
var errOwnAddress = errors.New("the address is this proxy's own")

func newUpstream(u Upstream, l Limits) (*upstream, error) {
	parent, err := parseParent(u.Parent)
	if err != nil {
		return nil, err
	}
	up := &upstream{
		speak11:  newOrigins(),
		only2:    newOrigins(),
		guard:    guardAddress(u),
		toParent: &net.Dialer{Timeout: u.ConnectTimeout},
		hosts:    u.Hosts,
		parent:   parent,
		head:     int64(l.HeadBytes),
		patience: u.ConnectTimeout + u.TLSTimeout,
		write:    l.WriteTimeout,
		read:     u.ResponseTimeout + l.IdleTimeout,
	}
	up.dialer = &net.Dialer{Timeout: u.ConnectTimeout, Control: up.guard}
	up.pool, up.upgrades = up.transport(u), up.transport(u)
	up.tls = tlsConfig(u)
	h1 := new(http.Protocols)
	h1.SetHTTP1(true)
	up.upgrades.Protocols = h1
	if u.DisableHTTP2 {
		up.pool.Protocols = h1
	}
	up.relays = &wire.Pool{
		Dial:           up.dialRelay,
		Secure:         up.secureRelay,
		MaxPerHost:     u.MaxPerHost,
		MaxIdlePerHost: u.MaxIdlePerHost,
		MaxIdle:        idleHosts * u.MaxIdlePerHost,
		IdleTimeout:    u.IdleTimeout,
		Patience:       up.patience,
	}
	return up, nil
}

// idleHosts is for how many hosts idle connections are kept, if they are many
// for each.
const idleHosts = 8

// How long an upstream may take to ask for a body with a 100.
const continueTimeout = time.Second

// transport is a pool that changes nothing on its own account.
func (u *upstream) transport(o Upstream) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	t := &http.Transport{
		DialContext:            u.dialPooled,
		TLSClientConfig:        tlsConfig(o),
		TLSHandshakeTimeout:    o.TLSTimeout,
		ResponseHeaderTimeout:  o.ResponseTimeout,
		ExpectContinueTimeout:  continueTimeout,
		IdleConnTimeout:        o.IdleTimeout,
		MaxIdleConns:           idleHosts * o.MaxIdlePerHost,
		MaxIdleConnsPerHost:    o.MaxIdlePerHost,
		MaxConnsPerHost:        o.MaxPerHost,
		MaxResponseHeaderBytes: u.head,
		DisableCompression:     true,
		Protocols:              protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	if u.parent != nil {
		t.Proxy = http.ProxyURL(u.parent)
	}
	return t
}

// tlsConfig is what every upstream is verified with.
func tlsConfig(o Upstream) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            o.Roots,
		ClientSessionCache: tls.NewLRUClientSessionCache(1024),

		DynamicRecordSizingDisabled: true,
	}
}

// parseParent reads the URL of a parent proxy, which may hold a password.
func parseParent(text secret.Text) (*url.URL, error) {
	if text.IsZero() {
		return nil, nil
	}
	u, err := url.Parse(text.Expose())
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &attache.FieldError{Field: "upstream.proxy", Rule: "is not a proxy's URL", Remedy: "write http://HOST:PORT or https://HOST:PORT"}
	}
	return u, nil
}

// guardAddress refuses an address after it was resolved and before it is
// dialled: private, loopback and reserved ranges that are not allowed, and this
// process's own listeners, which nothing allows.
func guardAddress(u Upstream) func(network, address string, c syscall.RawConn) error {
	var v4, v6 []netip.Prefix
	for _, prefix := range u.AllowPrivate {
		if prefix.Addr().Is4() {
			v4 = append(v4, prefix)
		} else {
			v6 = append(v6, prefix)
		}
	}
	guard := ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
	return func(network, address string, c syscall.RawConn) error {
		if addr, err := netip.ParseAddrPort(address); err == nil && isOwn(u.Own, addr) {
			return errOwnAddress
		}
		return guard.Safe(network, address, c)
	}
}

// isOwn tells whether dialling addr would reach one of the listeners. One that
// listens on every address is reached by any address of this machine.
func isOwn(own []netip.AddrPort, addr netip.AddrPort) bool {
	ip := addr.Addr().Unmap()
	for _, o := range own {
		if o.Port() != addr.Port() {
			continue
		}
		listens := o.Addr().Unmap()
		if listens == ip || ip.IsUnspecified() || listens.IsUnspecified() && (ip.IsLoopback() || isLocal(ip)) {
			return true
		}
	}
	return false
}

// isLocal tells whether ip belongs to one of this machine's interfaces. Where
// that cannot be found out, it does.
func isLocal(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip.AsSlice()) {
			return true
		}
	}
	return false
}

// mayAsk guards a target that is an address where a parent proxy will dial it. A
// name is for the parent to resolve and to guard.
func (u *upstream) mayAsk(target attache.Target) error {
	ip, err := netip.ParseAddr(target.Host)
	if u.parent == nil || err != nil {
		return nil
	}
	network := "tcp4"
	if ip.Is6() {
		network = "tcp6"
	}
	return u.guard(network, target.Addr(), nil)
}

// dialPooled opens a connection for the pool, which speaks HTTP over it.
func (u *upstream) dialPooled(ctx context.Context, network, addr string) (net.Conn, error) {
	if u.parent != nil && addr == hostPort(u.parent) {
		conn, err := u.toParent.DialContext(ctx, network, addr)
		return u.track(conn, u.read), err
	}
	conn, err := u.dialer.DialContext(ctx, network, u.resolve(addr))
	return u.track(conn, u.read), err
}

// dialRelay opens a connection for the fast path.
func (u *upstream) dialRelay(ctx context.Context, addr string) (net.Conn, error) {
	target, err := policy.ParseTarget("https", addr)
	if err != nil {
		return nil, err
	}
	return u.dial(ctx, target)
}

// secureRelay makes it a secure one, for HTTP/1.1 alone, whose heads the fast path
// writes.
func (u *upstream) secureRelay(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	c := u.tls.Clone()
	c.ServerName, _, _ = net.SplitHostPort(addr)
	c.NextProtos = []string{"http/1.1"}
	secure := tls.Client(conn, c)
	ctx, cancel := context.WithTimeout(ctx, u.pool.TLSHandshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "remote error" {
			err = fmt.Errorf("%w: %w", errOtherProtocol, err)
		}
		return nil, err
	}
	return secure, nil
}

// errOtherProtocol: the upstream broke off a handshake that offered HTTP/1.1
// alone.
var errOtherProtocol = errors.New("the upstream may want HTTP/2")

// dial opens a connection to copy bytes over.
func (u *upstream) dial(ctx context.Context, target attache.Target) (net.Conn, error) {
	if err := u.mayAsk(target); err != nil {
		return nil, err
	}
	if u.parent != nil {
		return u.dialThroughParent(ctx, target.Addr())
	}
	conn, err := u.dialer.DialContext(ctx, "tcp", u.resolve(target.Addr()))
	return u.track(conn, 0), err
}

// Dialer dials as the proxy does, past the address guard, and through the parent
// proxy where there is one. It is for those who call others on the proxy's behalf.
func Dialer(u Upstream) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	s := Settings{Upstream: u}.withDefaults()
	up, err := newUpstream(s.Upstream, s.Limits)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		target, err := policy.ParseTarget("https", address)
		if err != nil {
			return nil, err
		}
		return up.dial(ctx, target)
	}, nil
}

// resolve replaces a host whose address the administrator gave.
func (u *upstream) resolve(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip, ok := u.hosts[host]; ok && err == nil {
		return net.JoinHostPort(ip.String(), port)
	}
	return addr
}

// track counts a connection that was opened, and puts deadlines on it; without
// one there is nothing to do.
func (u *upstream) track(conn net.Conn, read time.Duration) net.Conn {
	if conn == nil {
		return nil
	}
	u.opened.Add(1)
	return wire.NewSocket(conn, wire.Patience{Read: read, Write: u.write}, func() {})
}

// errParent: the parent proxy would not open a tunnel.
var errParent = errors.New("the parent proxy refused the tunnel")

// dialThroughParent opens a tunnel through the parent proxy (RFC 9110, section
// 9.3.6).
func (u *upstream) dialThroughParent(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := u.toParent.DialContext(ctx, "tcp", hostPort(u.parent))
	if err != nil {
		return nil, err
	}
	tunnel, err := u.askParent(ctx, conn, addr)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return u.track(tunnel, 0), nil
}

func (u *upstream) askParent(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	deadline := time.Now().Add(u.pool.TLSHandshakeTimeout)
	_ = conn.SetDeadline(deadline)
	if u.parent.Scheme == "https" {
		c := u.tls.Clone()
		c.ServerName, c.NextProtos = u.parent.Hostname(), nil
		secure := tls.Client(conn, c)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{"User-Agent": nil}}
	if user := u.parent.User; user != nil {
		password, _ := user.Password()
		r.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	br := bufio.NewReader(io.LimitReader(conn, 64<<10))
	resp, err := http.ReadResponse(br, r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w with status %d", errParent, resp.StatusCode)
	}
	_ = conn.SetDeadline(time.Time{})
	if n := br.Buffered(); n > 0 {
		early, _ := br.Peek(n)
		conn = &replay{Conn: conn, early: early}
	}
	return conn, nil
}

// hostPort is where a proxy URL points to, with its scheme's port as default.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func (u *upstream) close() {
	u.pool.CloseIdleConnections()
	u.upgrades.CloseIdleConnections()
}
