package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"attache/configs"
	"attache/store"
)

func newServeCommand(a *app) *cobra.Command {
	background := false
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy, the admin API and the metrics",
		Long: "Runs the proxy, the admin API with its UI, and the metrics until SIGINT or SIGTERM. The first start\n" +
			"makes the CA, the key, and the integration \"default\" with an access token, and prints how to use it.",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.serverURL != "" {
				return usagef("--server is not for serve: attache serve is the server")
			}
			if background {
				return a.serveBackground(cmd.Context())
			}
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			if err := makeRoom(cmd.Context(), cfg.DataDir); err != nil {
				return err
			}
			return a.serve(cmd.Context(), cfg, a.introduce)
		},
	}
	a.register(cmd.Flags())
	for flag, words := range map[string][]string{"unmatched": {"tunnel", "deny"}, "key-exchange": {"auto", "hybrid", "x25519"}, "log-level": {"debug", "info", "warn", "error"}} {
		completeWith(cmd, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	cmd.Flags().BoolVar(&background, backgroundFlag, false, "")
	_ = cmd.Flags().MarkHidden(backgroundFlag) // it exists
	return cmd
}

// serve runs a server until it is told to end. Once it listens it calls started.
func (a *app) serve(ctx context.Context, cfg configs.Config, started func(context.Context, *server) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal finds nobody waiting for it, and ends the program at once.
	context.AfterFunc(ctx, stop)

	a.warnOfVariables()
	if cfg.Production && cfg.MasterKey == "" {
		a.warn("the master key is a generated file beside the database, and whoever copies the directory has both: set master_key to file:, env: or credential:")
	}
	a.warnOfExposure(cfg)
	a.warnOfModes(cfg)
	log := newLog(a.err, cfg.Log)
	s, err := a.newServer(ctx, cfg, log)
	if err != nil {
		return whoUses(ctx, cfg, err)
	}
	if err := started(ctx, s); err != nil {
		return errors.Join(err, s.close())
	}
	log.Info("attache is serving", "version", programVersion(), "pid", os.Getpid(), "data_dir", cfg.DataDir,
		"proxy", address(s.listeners.proxy), "admin", address(s.admin), "metrics", address(s.listeners.metrics))
	err = s.run(ctx)
	log.Info("attache has ended")
	return errors.Join(err, s.close())
}

// whoUses is the error of who cannot serve a data directory. Where that is because
// another server does, on whichever port, that is what it says.
func whoUses(ctx context.Context, cfg configs.Config, err error) error {
	if !errors.Is(err, store.ErrInUse) && !addressInUse(err) {
		return err
	}
	c, err2 := localAPI(ctx, cfg.DataDir)
	if err2 != nil {
		return err
	}
	defer c.Close()
	status, err2 := c.Status(ctx)
	if err2 != nil {
		return err
	}
	return fmt.Errorf("%s: %w (it has run since %s, and its proxy listens on %s)",
		cfg.DataDir, store.ErrInUse, status.StartedAt.Local().Format(time.DateTime), status.ProxyAddress)
}

func newLog(w io.Writer, c configs.Log) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == configs.FormatJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// introduction is what a server prints about itself on stdout. It is for people
// and shells alike: what is to be pasted begins in the third column.
var introduction = template.Must(template.New("").Parse(`
Attaché is serving.

  proxy     {{.Proxy}}
{{- with .Admin}}
  API, UI   {{.}}
            opened by an admin token: {{$.Program}} admin-token create{{end}}
{{- with .Metrics}}
  metrics   {{.}}{{end}}
  data      {{.DataDir}}
{{if .Variables}}
This is the first start. It made a CA, a key, and the integration "default" with an access
token that is shown here and never again. In another shell:

{{range .Variables}}  {{.}}
{{end}}  curl -sSI https://example.com/

Other clients need other variables; this sets all of them:
{{else}}
In another shell, this sets the variables that clients need, with a new access token:
{{end}}
  eval "$({{.Program}} env)"
{{- if not .Variables}}
  curl -sSI https://example.com/
{{- end}}

A request gets a credential once there is a connection for its host:

  {{.Program}} connection create NAME --integration default --type bearer_token --allowed-domain HOST

`))

// introduce prints how to use the server.
func (a *app) introduce(ctx context.Context, s *server) error {
	words := struct {
		Proxy, Admin, Metrics, DataDir, Program string
		Variables                               []string
	}{
		Proxy: s.proxyURL() + everywhere(s.listeners.proxy), Admin: s.adminURL(), Metrics: urlOf(s.listeners.metrics, "/metrics"),
		DataDir: s.cfg.DataDir, Program: shellQuoted(os.Args[0]) + a.dataDirFlag(s.cfg.DataDir),
	}
	if s.data.fresh && !s.cfg.Production {
		var err error
		if words.Variables, err = a.firstVariables(ctx, s); err != nil {
			return err
		}
	}
	var out strings.Builder
	if err := introduction.Execute(&out, words); err != nil {
		return err
	}
	_, err := io.WriteString(a.out, out.String())
	return err
}

// adminURL is where browsers reach the API and the UI, and how else they do.
func (s *server) adminURL() string {
	if s.cfg.Admin.PublicURL == "" {
		return urlOf(s.admin, "/")
	}
	return s.cfg.Admin.PublicURL + "/ (from " + urlOf(s.admin, "/") + ")"
}

// urlOf is where what listens can be reached from this machine, and whether it can
// from others; empty where nothing listens.
func urlOf(ln net.Listener, path string) string {
	if ln == nil {
		return ""
	}
	return "http://" + reachable(address(ln)) + path + everywhere(ln)
}

// everywhere says that a listener takes who comes from other machines, if it does.
func everywhere(ln net.Listener) string {
	addr, err := netip.ParseAddrPort(address(ln))
	switch {
	case err != nil || addr.Addr().IsLoopback():
		return ""
	case addr.Addr().IsUnspecified():
		return fmt.Sprintf(" (on every interface: it listens on %s)", addr)
	default:
		return " (for other machines, too)"
	}
}

// warnOfExposure warns of what others can read on the way.
func (a *app) warnOfExposure(cfg configs.Config) {
	if at := cfg.Admin.Listen; at.IsValid() && !at.Addr().IsLoopback() {
		a.warn("the admin API listens on %s through plain HTTP, and whoever is on the way can read admin tokens and credentials: let a TLS proxy on this machine stand before it, with --admin-listen 127.0.0.1:%d and its URL in --admin-public-url", at, at.Port())
	}
}

// warnOfModes warns of a data directory, or a key in it, that is open to others.
func (a *app) warnOfModes(cfg configs.Config) {
	if runtime.GOOS == "windows" {
		return // modes say nothing there
	}
	for _, file := range []string{cfg.DataDir, filepath.Join(cfg.DataDir, "master.key")} {
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
			a.warn("others on this machine may open %s (mode %04o): chmod go= %s", file, info.Mode().Perm(), shellQuoted(file))
		}
	}
}

// firstVariables are lines for a shell, with a token that outlasts this start. There
// are none, nor a token, where what this server's own environment says about clients
// is wrong: that is no reason not to serve.
func (a *app) firstVariables(ctx context.Context, s *server) ([]string, error) {
	ca, err := s.data.authority.PEM(ctx)
	if err != nil {
		return nil, err
	}
	g := grant{proxyURL: s.proxyURL(), user: defaultIntegration, ca: ca, dir: s.cfg.DataDir, lasting: true}
	files, err := a.clientFiles(g)
	if err != nil {
		a.warn("no access token is made yet, for clients here cannot be set up: %v", err)
		return nil, nil
	}
	if g.token, err = s.data.newToken(ctx); err != nil {
		return nil, err
	}
	set, err := a.clientVariables(g, files)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, v := range set {
		switch v.name {
		case "HTTPS_PROXY", "https_proxy", "http_proxy", "CURL_CA_BUNDLE", "SSL_CERT_FILE":
			lines = append(lines, "export "+v.name+"="+shellQuoted(v.value))
		}
	}
	return lines, nil
}
