package configs

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"attache"
)

// Key is one thing that can be configured.
type Key struct {
	// Name is the key's full name in the file, with dots: "upstream.ca_file".
	Name string
	// Doc is its documentation in sentences; the first stands alone.
	Doc string
	// Secret: its value is never shown, never taken from the command line, and
	// can be read from a file (environment variable …_FILE, flag --…-file).
	Secret bool

	flag string // where it is not the name with dashes
	at   func(*Config) setting
}

// A day is more than any of these waits can need, and still a bound.
const day = 24 * time.Hour

// Keys lists every key, in the order of the file that we ship.
func Keys() []Key {
	return []Key{
		{Name: "data_dir",
			Doc: "Directory of the database, its key and the admin socket. Empty means $XDG_DATA_HOME/attache, or ~/.local/share/attache.",
			at:  func(c *Config) setting { return words(&c.DataDir, "a directory's path", noTilde) }},
		{Name: "listen",
			Doc: "Address that clients use as their proxy. Port 0 lets the kernel choose one, here and for the other listeners.",
			at:  func(c *Config) setting { return address(&c.Listen) }},
		{Name: "listen_tls.certificate_file",
			Doc: "PEM certificate chain that the proxy listener presents. With it and its key, clients reach the proxy through TLS (an https:// proxy URL); empty means plain HTTP.",
			at:  func(c *Config) setting { return file(&c.ListenTLS.CertificateFile) }},
		{Name: "listen_tls.key_file",
			Doc: "PEM private key that goes with the proxy listener's certificate.",
			at:  func(c *Config) setting { return file(&c.ListenTLS.KeyFile) }},
		{Name: "admin.listen",
			Doc: "Address of the REST API and the web UI, or off. The Unix socket in the data directory answers in any case.",
			at:  func(c *Config) setting { return addressOrOff(&c.Admin.Listen) }},
		{Name: "admin.public_url",
			Doc: "URL by which browsers reach the API and UI through a reverse proxy, such as https://attache.example.com, without a path. OAuth providers send people back to its /oauth/callback, and its host is one of admin.hosts. Empty means the address of admin.listen.",
			at:  func(c *Config) setting { return origin(&c.Admin.PublicURL) }},
		{Name: "admin.hosts",
			Doc: "Host names, besides the loopback ones, by which browsers and clients may call the API and UI, and read the metrics. A request for any other name is refused, which stops DNS rebinding.",
			at:  func(c *Config) setting { return hosts(&c.Admin.Hosts) }},
		{Name: "metrics.listen",
			Doc: "Address of /metrics, /healthz and /readyz, or off.",
			at:  func(c *Config) setting { return addressOrOff(&c.Metrics.Listen) }},
		{Name: "master_key",
			Doc: "Where the key comes from that protects the database: file:PATH, env:VARIABLE, credential:NAME (systemd) or passphrase (asked for at start). Empty means a file in the data directory, generated at the first start.",
			at:  func(c *Config) setting { return masterKey(&c.MasterKey) }},
		{Name: "production",
			Doc: "Treat this machine as a server, not as a laptop. The first start then prints no access token, and each warns of a generated master key beside the database.",
			at:  func(c *Config) setting { return boolean(&c.Production) }},
		{Name: "unmatched",
			Doc: "What happens to a host that no connection covers: tunnel or deny. Tunnelled bytes are neither decrypted nor changed.",
			at:  func(c *Config) setting { return choice(&c.Unmatched, attache.Tunnel, attache.Deny) }},
		{Name: "key_exchange",
			Doc: "How keys are agreed in TLS handshakes with clients: hybrid, x25519 or auto. hybrid (X25519MLKEM768) withstands quantum computers too, of those who record traffic today, and takes about a fifth more CPU for each handshake; auto is x25519 where clients come over loopback, which nobody records, and hybrid elsewhere. Handshakes with upstreams are hybrid in any case.",
			at: func(c *Config) setting {
				return choice(&c.KeyExchange, KeyExchangeAuto, KeyExchangeHybrid, KeyExchangeX25519)
			}},

		{Name: "upstream.allow_private",
			flag: "allow-private",
			Doc:  "Private, loopback or reserved networks that may be dialled, such as 10.0.0.0/8. Without this no such address is ever dialled, whatever name resolves to it.",
			at:   func(c *Config) setting { return prefixes(&c.Upstream.AllowPrivate) }},
		{Name: "upstream.hosts",
			Doc: "Addresses of hosts that are not asked of DNS, such as api.example.com=192.0.2.7. A private address needs upstream.allow_private, too.",
			at:  func(c *Config) setting { return hostAddresses(&c.Upstream.Hosts) }},
		{Name: "upstream.ca_file",
			Doc: "PEM file of root certificates to trust besides the system's.",
			at:  func(c *Config) setting { return file(&c.Upstream.CAFile) }},
		{Name: "upstream.proxy",
			Doc:    "URL of a parent proxy that every connection goes through. It may hold a user name and a password, and is treated as a secret.",
			Secret: true,
			at:     func(c *Config) setting { return proxyURL(&c.Upstream.Proxy) }},
		{Name: "upstream.connect_timeout",
			Doc: "How long resolving a name and connecting may take.",
			at:  func(c *Config) setting { return duration(&c.Upstream.ConnectTimeout, time.Millisecond, day) }},
		{Name: "upstream.tls_timeout",
			Doc: "How long the TLS handshake with the upstream may take.",
			at:  func(c *Config) setting { return duration(&c.Upstream.TLSTimeout, time.Millisecond, day) }},
		{Name: "upstream.response_timeout",
			Doc: "How long the upstream may think before its answer begins. Language models take minutes where they do not stream, and their clients wait ten; the body that follows has no such limit.",
			at:  func(c *Config) setting { return duration(&c.Upstream.ResponseTimeout, time.Millisecond, day) }},
		{Name: "upstream.idle_timeout",
			Doc: "How long an unused upstream connection is kept for the next request.",
			at:  func(c *Config) setting { return duration(&c.Upstream.IdleTimeout, time.Millisecond, day) }},
		{Name: "upstream.max_idle_per_host",
			Doc: "Unused connections kept per upstream host. Fewer than there are concurrent requests means a new TLS handshake for many of them.",
			at:  func(c *Config) setting { return count(&c.Upstream.MaxIdlePerHost, 0, 1_000_000) }},
		{Name: "upstream.max_per_host",
			Doc: "Connections per upstream host, used and unused. Over HTTP/1.1 a request needs one for itself, and waits for it where there are as many.",
			at:  func(c *Config) setting { return count(&c.Upstream.MaxPerHost, 1, 1_000_000) }},
		{Name: "upstream.http2",
			Doc: "Use HTTP/2 with upstreams that offer it, for requests that are not plain: those of HTTP/2 clients with a body, of HTTP/1.1 clients with a large one. Plain ones go over HTTP/1.1, where the upstream speaks that.",
			at:  func(c *Config) setting { return boolean(&c.Upstream.HTTP2) }},

		{Name: "limits.connections",
			Doc: "Client connections at one time.",
			at:  func(c *Config) setting { return count(&c.Limits.Connections, 1, 1_000_000) }},
		{Name: "limits.head_bytes",
			Doc: "Size of a request's or an answer's head: its first line and all of its fields.",
			at:  func(c *Config) setting { return size(&c.Limits.HeadBytes, 4<<10, 1<<20) }},
		{Name: "limits.head_timeout",
			Doc: "How long a client may take to send a request's head, or its TLS handshake.",
			at:  func(c *Config) setting { return duration(&c.Limits.HeadTimeout, time.Millisecond, day) }},
		{Name: "limits.idle_timeout",
			Doc: "How long a client connection or a tunnel may stay silent in both directions before it is closed; one that waits for a request, up to a quarter longer.",
			at:  func(c *Config) setting { return duration(&c.Limits.IdleTimeout, time.Millisecond, day) }},
		{Name: "limits.write_timeout",
			Doc: "How long one write to a client may take, or over HTTP/2 the room for it to be granted. A client that stops reading is cut off after it; a stream that goes on for hours is not.",
			at:  func(c *Config) setting { return duration(&c.Limits.WriteTimeout, time.Millisecond, day) }},
		{Name: "limits.streams_per_connection",
			Doc: "Concurrent HTTP/2 requests on one client connection.",
			at:  func(c *Config) setting { return count(&c.Limits.StreamsPerConnection, 1, 10_000) }},

		{Name: "log.level",
			Doc: "Least severe messages to log: debug, info, warn or error.",
			at:  func(c *Config) setting { return level(&c.Log.Level) }},
		{Name: "log.format",
			Doc: "How log messages are written: text or json.",
			at:  func(c *Config) setting { return choice(&c.Log.Format, FormatText, FormatJSON) }},
		{Name: "log.events",
			Doc: "Where the events go, one line of JSON for each CONNECT and each request: stderr, stdout, off, or a file's path.",
			at: func(c *Config) setting {
				return words(&c.Log.Events, "stderr, stdout, off, or a file's path", func(s string) error {
					return cmp.Or(notEmpty(s), noTilde(s))
				})
			}},
		{Name: "events.keep",
			Doc: "Recent events kept in memory for the UI and the API.",
			at:  func(c *Config) setting { return count(&c.Events.Keep, 0, 1_000_000) }},
		{Name: "certificates.leaf_life",
			Doc: "How long a certificate that our CA issues for a host is valid, at most 72h.",
			at: func(c *Config) setting {
				return duration(&c.Certificates.LeafLife, time.Hour, 72*time.Hour)
			}},
		{Name: "certificates.cache",
			Doc: "Host certificates kept in memory.",
			at:  func(c *Config) setting { return count(&c.Certificates.Cache, 1, 1_000_000) }},
		{Name: "idle_exit",
			Doc: "Exit after so long without a client; 0s means never. A server that attache run starts exits after five minutes.",
			at:  func(c *Config) setting { return duration(&c.IdleExit, 0, 365*day) }},
	}
}

func notEmpty(s string) error {
	if s == "" {
		return refuse("is empty", "write stderr, stdout, off, or a file's path")
	}
	return nil
}

// Usage is the first sentence of Doc, without its full stop.
func (k Key) Usage() string {
	usage, _, _ := strings.Cut(k.Doc, ". ")
	return strings.TrimSuffix(usage, ".")
}

// Variable is the environment variable that sets the key. Of a secret, the same
// with _FILE names a file that holds it.
func (k Key) Variable() string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Text is the key's value in c as [Key.Set] takes it; a secret's is redacted.
func (k Key) Text(c *Config) string { return k.at(c).text() }

// Set sets the key's value in c from text; lists have commas between items. The
// error is an [attache.FieldError], or several joined for a list.
func (k Key) Set(c *Config, text string) error {
	return k.named(k.at(c).setAll(text))
}

// named fills the key's name into the errors of a [setting].
func (k Key) named(err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case *attache.FieldError:
		return &attache.FieldError{Field: k.Name, Rule: e.Rule, Remedy: e.Remedy}
	case interface{ Unwrap() []error }:
		var errs []error
		for _, one := range e.Unwrap() {
			errs = append(errs, k.named(one))
		}
		return errors.Join(errs...)
	default:
		return fmt.Errorf("%s: %w", k.Name, err)
	}
}
