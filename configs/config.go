// Package configs is the configuration: the format of the config file, its
// environment variables and flags, and the files that ship with the program.
//
// One table ([Keys]) lists every key with its documentation and how it is
// written as text. The file, the environment and the flags are read through
// that table, so that a key means the same wherever it is given, and a new key
// is written once. What reaches [Config] is parsed: addresses, durations and
// sizes are values within their bounds, not strings.
//
// The order of precedence is flag, environment, file, default. A caller builds
// it from the back: [Load] (or [Default] without a file), then
// [Config.ApplyEnvironment], then [Flag.Apply], then [Config.Validate].
package configs

import (
	_ "embed"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime"
	"time"

	"attache"
	"attache/secret"
)

// Example is the config file that we ship: every key with its documentation
// and its default. Loading it gives [Default].
//
//go:embed attache.yaml
var Example string

// Config is what an administrator can decide. The documentation of each key is
// in the table of [Keys]; the comments here say units and what zero means.
type Config struct {
	DataDir      string         `yaml:"data_dir"` // empty: DefaultDataDir
	Listen       netip.AddrPort `yaml:"listen"`   // port 0: chosen by the kernel, here and below
	ListenTLS    ListenTLS      `yaml:"listen_tls"`
	Admin        Admin          `yaml:"admin"`
	Metrics      Metrics        `yaml:"metrics"`
	MasterKey    string         `yaml:"master_key"` // empty: a generated file in the data directory
	Production   bool           `yaml:"production"`
	Unmatched    attache.Action `yaml:"unmatched"` // attache.Tunnel or attache.Deny
	KeyExchange  KeyExchange    `yaml:"key_exchange"`
	Upstream     Upstream       `yaml:"upstream"`
	Limits       Limits         `yaml:"limits"`
	Log          Log            `yaml:"log"`
	Events       Events         `yaml:"events"`
	Certificates Certificates   `yaml:"certificates"`
	IdleExit     time.Duration  `yaml:"idle_exit"` // 0: never
}

// KeyExchange is how keys are agreed in the TLS handshakes inside of tunnels.
type KeyExchange string

// The ways to agree on keys.
const (
	KeyExchangeAuto   KeyExchange = "auto" // x25519 where Listen is a loopback address, else hybrid
	KeyExchangeHybrid KeyExchange = "hybrid"
	KeyExchangeX25519 KeyExchange = "x25519"
)

// ListenTLS makes the proxy's own listener speak TLS; both files or none.
type ListenTLS struct {
	CertificateFile string `yaml:"certificate_file"`
	KeyFile         string `yaml:"key_file"`
}

// Admin is the listener of the REST API and the web UI. The Unix socket in the
// data directory answers whatever is configured here.
type Admin struct {
	Listen    netip.AddrPort `yaml:"listen"`     // zero: no TCP listener
	PublicURL string         `yaml:"public_url"` // scheme, host and port; empty: that of Listen
	Hosts     []string       `yaml:"hosts"`      // lower case, without ports
}

// Metrics is the listener of /metrics, /healthz and /readyz.
type Metrics struct {
	Listen netip.AddrPort `yaml:"listen"` // zero: no listener
}

// Upstream is the way from the proxy to the servers that it calls.
type Upstream struct {
	AllowPrivate    []netip.Prefix `yaml:"allow_private"`
	Hosts           []HostAddress  `yaml:"hosts"`
	CAFile          string         `yaml:"ca_file"` // empty: the system's roots alone
	Proxy           secret.Text    `yaml:"proxy"`   // an http or https URL; zero: none
	ConnectTimeout  time.Duration  `yaml:"connect_timeout"`
	TLSTimeout      time.Duration  `yaml:"tls_timeout"`
	ResponseTimeout time.Duration  `yaml:"response_timeout"`
	IdleTimeout     time.Duration  `yaml:"idle_timeout"`
	MaxIdlePerHost  int            `yaml:"max_idle_per_host"` // connections; 0: none is kept
	MaxPerHost      int            `yaml:"max_per_host"`      // connections, at least 1
	HTTP2           bool           `yaml:"http2"`
}

// HostAddress is where a host is, whatever DNS says.
type HostAddress struct {
	Host    string // lower case, as it was written otherwise
	Address netip.Addr
}

// Limits bound what clients can make the proxy hold. None can be switched off.
type Limits struct {
	Connections          int           `yaml:"connections"`
	HeadBytes            Bytes         `yaml:"head_bytes"`
	HeadTimeout          time.Duration `yaml:"head_timeout"`
	IdleTimeout          time.Duration `yaml:"idle_timeout"`
	WriteTimeout         time.Duration `yaml:"write_timeout"`
	StreamsPerConnection int           `yaml:"streams_per_connection"`
}

// Log is where the program says what it does.
type Log struct {
	Level  slog.Level `yaml:"level"`
	Format string     `yaml:"format"` // FormatText or FormatJSON
	Events string     `yaml:"events"` // EventsToStderr, EventsToStdout, EventsOff, or a file's path
}

// The values of [Log].Format.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// The values of [Log].Events that are not a path.
const (
	EventsToStderr = "stderr"
	EventsToStdout = "stdout"
	EventsOff      = "off"
)

// Events bounds the memory of recent events, which the UI and the API show.
type Events struct {
	Keep int `yaml:"keep"` // events; 0: none
}

// Certificates is about the leaf certificates that our CA issues.
type Certificates struct {
	LeafLife time.Duration `yaml:"leaf_life"`
	Cache    int           `yaml:"cache"` // certificates, at least 1
}

// Default is the configuration of who configures nothing: loopback only, no
// private upstreams, and every bound in place.
func Default() Config {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	return Config{
		Listen:    netip.AddrPortFrom(loopback, 3128),
		Admin:     Admin{Listen: netip.AddrPortFrom(loopback, 3129)},
		Metrics:   Metrics{Listen: netip.AddrPortFrom(loopback, 3130)},
		Unmatched: attache.Tunnel, KeyExchange: KeyExchangeAuto,
		Upstream: Upstream{
			ConnectTimeout:  10 * time.Second,
			TLSTimeout:      10 * time.Second,
			ResponseTimeout: 10 * time.Minute,
			IdleTimeout:     90 * time.Second,
			MaxIdlePerHost:  512,
			MaxPerHost:      512,
			HTTP2:           true,
		},
		Limits: Limits{
			Connections:          10_000,
			HeadBytes:            64 << 10,
			HeadTimeout:          10 * time.Second,
			IdleTimeout:          10 * time.Minute,
			WriteTimeout:         time.Minute,
			StreamsPerConnection: 250,
		},
		Log:          Log{Level: slog.LevelInfo, Format: FormatText, Events: EventsToStderr},
		Events:       Events{Keep: 1_000},
		Certificates: Certificates{LeafLife: 72 * time.Hour, Cache: 10_000},
	}
}

// Validate checks what no key alone can say, once every source has been
// applied. Its errors are [attache.FieldError]s, joined. It looks at no file.
func (c Config) Validate() error {
	var errs []error
	if (c.ListenTLS.CertificateFile == "") != (c.ListenTLS.KeyFile == "") {
		missing, given := "listen_tls.key_file", "listen_tls.certificate_file"
		if c.ListenTLS.CertificateFile == "" {
			missing, given = given, missing
		}
		errs = append(errs, &attache.FieldError{Field: missing, Rule: "is needed with " + given, Remedy: "give both files, or neither"})
	}
	if c.Admin.PublicURL != "" && !c.Admin.Listen.IsValid() {
		errs = append(errs, &attache.FieldError{Field: "admin.public_url", Rule: "leads nowhere, for admin.listen is off", Remedy: "give admin.listen an address, or leave the URL out"})
	}
	listeners := []struct {
		key  string
		addr netip.AddrPort
	}{{"listen", c.Listen}, {"admin.listen", c.Admin.Listen}, {"metrics.listen", c.Metrics.Listen}}
	for i, l := range listeners {
		for _, earlier := range listeners[:i] {
			if overlap(l.addr, earlier.addr) {
				errs = append(errs, &attache.FieldError{Field: l.key, Rule: "is the address of " + earlier.key + " too", Remedy: "give each its own port"})
			}
		}
	}
	if c.Upstream.MaxIdlePerHost > c.Upstream.MaxPerHost {
		errs = append(errs, &attache.FieldError{Field: "upstream.max_idle_per_host", Rule: "is more than upstream.max_per_host", Remedy: "lower the one or raise the other"})
	}
	return errors.Join(errs...)
}

// overlap reports whether two listeners would want the same port of the same
// address.
func overlap(a, b netip.AddrPort) bool {
	if a.Port() == 0 || a.Port() != b.Port() {
		return false
	}
	return a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified()
}

// DefaultDataDir is the data directory of who configures none:
// $XDG_DATA_HOME/attache, or where that is not set, what it stands for on this
// system. lookup is os.LookupEnv, or stands in for it.
func DefaultDataDir(lookup func(string) (string, bool)) (string, error) {
	bases := []struct {
		variable string
		below    string
	}{{"XDG_DATA_HOME", ""}, {"HOME", ".local/share"}}
	if runtime.GOOS == "windows" {
		bases[1].variable, bases[1].below = "LocalAppData", ""
	}
	for _, b := range bases {
		if dir, _ := lookup(b.variable); filepath.IsAbs(dir) {
			return filepath.Join(dir, filepath.FromSlash(b.below), "attache"), nil
		}
	}
	return "", &attache.FieldError{
		Field:  "data_dir",
		Rule:   "has no default here, because neither " + bases[0].variable + " nor " + bases[1].variable + " is set",
		Remedy: "name a directory with --data-dir or ATTACHE_DATA_DIR",
	}
}
