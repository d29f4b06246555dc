package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"attache"
	"attache/certs"
	"attache/client"
	"attache/configs"
	"attache/secret"
)

const (
	demoHost    = "api.example.com"
	otherHost   = "api.example.org"
	demoTimeout = 30 * time.Second
)

func newDemoCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show the whole story, offline",
		Long: "Starts a TLS server on loopback that wants a key, and a proxy with that key for it in a directory of its own;\n" +
			"sends a request without any key through the proxy, and shows what left and what arrived. The exit code is 0\n" +
			"where the key arrived, there and nowhere else.",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			signal.Ignore(syscall.SIGPIPE) // who listens may leave; the files must not stay
			ctx, cancel := context.WithTimeout(ctx, demoTimeout)
			defer cancel()
			return a.demo(ctx)
		},
	}
}

// demo tells its story while it happens.
func (a *app) demo(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "attache-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	up, err := newDemoUpstream(ctx, dir)
	if err != nil {
		return err
	}
	s, err := a.newServer(ctx, demoConfig(dir, up), slog.New(slog.DiscardHandler))
	if err != nil {
		return errors.Join(err, up.listener.Close())
	}
	ctx, end := context.WithCancel(ctx)
	var running errgroup.Group
	running.Go(func() error { return up.serve(ctx) })
	running.Go(func() error { return s.run(ctx) })
	err = a.tell(ctx, s, up)
	end()
	return errors.Join(err, running.Wait(), s.close())
}

// demoConfig is a server for the demo alone: its ports are the kernel's choice,
// and two hosts are at the upstream, whatever DNS says.
func demoConfig(dir string, up *demoUpstream) configs.Config {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	cfg := configs.Default()
	cfg.DataDir = filepath.Join(dir, "data")
	cfg.Listen = netip.AddrPortFrom(loopback, 0)
	cfg.Admin.Listen, cfg.Metrics.Listen = netip.AddrPort{}, netip.AddrPort{}
	cfg.Log.Events = configs.EventsOff
	cfg.Upstream.AllowPrivate = []netip.Prefix{netip.PrefixFrom(loopback, 32)}
	cfg.Upstream.Hosts = []configs.HostAddress{{Host: demoHost, Address: loopback}, {Host: otherHost, Address: loopback}}
	cfg.Upstream.CAFile = up.caFile
	return cfg
}

var errNotArrived = errors.New("the demo failed")

func (a *app) tell(ctx context.Context, s *server, up *demoUpstream) error {
	c := a.colours()
	var unheard error // the first one of writing
	say := func(format string, args ...any) {
		if _, err := fmt.Fprintf(a.out, format+"\n", args...); unheard == nil {
			unheard = err
		}
	}

	key := "demo-" + rand.Text()
	api, err := client.New(client.Options{Socket: s.socket.Addr().String()})
	if err != nil {
		return err
	}
	defer api.Close()
	if _, err := api.CreateConnection(ctx, defaultIntegration, attache.BearerToken, client.NewConnection{
		Name: "weather", AllowedDomain: demoHost, AllowedPorts: []uint16{up.port},
		Credential: client.Credential{Token: secret.Outgoing{Text: secret.New(key)}},
	}); err != nil {
		return err
	}
	say("\n%s\n\n   attache connection create weather --type bearer_token --allowed-domain %s\n", c.bold("A key is stored once, for one host."), demoHost)

	bot, err := newDemoClient(ctx, s, up)
	if err != nil {
		return err
	}
	defer bot.http.CloseIdleConnections()
	begin := time.Now()
	left, arrived, err := bot.ask(ctx, demoHost)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	say("%s\n\n%s", c.bold("A program that knows no key asks that host, through the proxy. This left it:"), indented(left, nil))
	say("%s\n\n%s", c.bold("This arrived at "+demoHost+":"), indented(arrived, func(line string) string {
		if slices.Contains(left, line) {
			return line
		}
		return c.green(line + "   <- added on the way")
	}))
	_, elsewhere, err := bot.ask(ctx, otherHost)
	if err != nil {
		return err
	}
	say("%s\n\n%s", c.bold("It asks "+otherHost+", for which there is no key. This arrived there:"), indented(elsewhere, nil))

	held := "Authorization: Bearer " + key
	switch {
	case slices.Contains(left, held) || !slices.Contains(arrived, held):
		return fmt.Errorf("%w: the key did not arrive", errNotArrived)
	case slices.Contains(elsewhere, held):
		return fmt.Errorf("%w: the key went to the wrong host", errNotArrived)
	}
	say("%s The key was sent to its host and to no other, over TLS, and the program never held it. (%s)\n",
		c.green("It works."), took.Round(time.Millisecond))
	say("Next:\n")
	say("   attache connection create NAME --type bearer_token --allowed-domain HOST")
	say("   attache run -- curl -sS https://HOST/\n")
	return unheard
}

func indented(lines []string, paint func(string) string) string {
	var b strings.Builder
	for _, line := range lines {
		if paint != nil {
			line = paint(line)
		}
		b.WriteString("   " + line + "\n")
	}
	return b.String()
}

// demoUpstream is a TLS server that answers with what it was asked.
type demoUpstream struct {
	listener net.Listener
	port     uint16
	minter   *certs.Minter
	ca       certs.Authority
	caFile   string
}

func newDemoUpstream(ctx context.Context, dir string) (*demoUpstream, error) {
	ca, err := certs.NewAuthority(time.Now())
	if err != nil {
		return nil, err
	}
	u := &demoUpstream{ca: ca, minter: certs.NewMinter(certs.MinterOptions{}), caFile: filepath.Join(dir, "upstream.pem")}
	u.minter.Use(ca)
	if err := writeFile(u.caFile, ca.PEM(), 0o600); err != nil {
		return nil, err
	}
	if u.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	if addr, ok := u.listener.Addr().(*net.TCPAddr); ok {
		u.port = addr.AddrPort().Port()
	}
	return u, nil
}

// serve ends with ctx.
func (u *demoUpstream) serve(ctx context.Context) error {
	srv := &http.Server{
		ReadHeaderTimeout: httpHeadTimeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s\nHost: %s\n", r.Method, r.URL.Path, r.Host)
			for name, values := range r.Header {
				for _, v := range values {
					fmt.Fprintf(w, "%s: %s\n", name, v)
				}
			}
		}),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return u.minter.Leaf(h.Context(), h.ServerName)
		}},
	}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.ServeTLS(u.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// demoClient is a program that uses the proxy and has an access token, but no
// key for anything behind it.
type demoClient struct {
	http *http.Client
	port uint16
}

func newDemoClient(ctx context.Context, s *server, up *demoUpstream) (*demoClient, error) {
	token, err := s.data.newToken(ctx)
	if err != nil {
		return nil, err
	}
	text, err := grant{proxyURL: s.proxyURL(), user: defaultIntegration, token: token}.url()
	if err != nil {
		return nil, err
	}
	proxy, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	pem, err := s.data.authority.PEM(ctx)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(pem))
	roots.AddCert(up.ca.Certificate())
	return &demoClient{port: up.port, http: &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true,
	}}}, nil
}

// ask sends a request, and returns what left here and what the host says has
// arrived, line by line in the same order.
func (d *demoClient) ask(ctx context.Context, host string) (left, arrived []string, err error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaderField: func(name string, values []string) {
		for _, v := range values {
			left = append(left, name+": "+v)
		}
	}})
	at := net.JoinHostPort(host, fmt.Sprint(d.port))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+at+"/v1/forecast", nil)
	if err != nil {
		return nil, nil, err
	}
	left = []string{r.Method + " " + r.URL.Path}
	r.Header.Set("User-Agent", "weather-bot")
	resp, err := d.http.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s answered %s: %s", at, resp.Status, strings.TrimSpace(string(body)))
	}
	arrived = strings.Split(strings.TrimSpace(string(body)), "\n")
	slices.SortStableFunc(left[1:], strings.Compare)
	slices.SortStableFunc(arrived[1:], strings.Compare)
	return left, arrived, nil
}
