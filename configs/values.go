package configs

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"attache"
	"attache/secret"
)

// setting is one value inside a [Config], read and written as text. What set
// refuses is an [attache.FieldError] that leaves the field's name to the caller.
type setting struct {
	kind  kind
	text  func() string
	set   func(string) error // of a list: append one item
	clear func()             // of a list: drop all items; nil otherwise
}

// kind is how a sort of value is written.
type kind struct {
	name  string   // as flags show it
	tags  []string // the YAML types that it may be written in
	takes string   // completes "write …"
}

func (s setting) isList() bool { return s.clear != nil }

// setAll sets a value as environment variables and flags write it: lists have
// commas.
func (s setting) setAll(text string) error {
	if !s.isList() {
		return s.set(text)
	}
	s.clear()
	var errs []error
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			errs = append(errs, s.set(item))
		}
	}
	return errors.Join(errs...)
}

func refuse(rule, remedy string) error {
	return &attache.FieldError{Rule: rule, Remedy: remedy}
}

// words is free text: a path, mostly. ok may be nil.
func words(p *string, takes string, ok func(string) error) setting {
	return setting{
		kind: kind{"string", []string{"!!str"}, takes},
		text: func() string { return *p },
		set: func(s string) error {
			if strings.ContainsFunc(s, unicode.IsControl) {
				return refuse("holds a control character", "remove it")
			}
			if ok != nil {
				if err := ok(s); err != nil {
					return err
				}
			}
			*p = s
			return nil
		},
	}
}

func file(p *string) setting { return words(p, "a file's path", noTilde) }

// noTilde refuses a path that only a shell would have understood: it would name
// something in the directory that attache was started in.
func noTilde(path string) error {
	if strings.HasPrefix(path, "~") {
		return refuse("begins with ~, which only shells know", "write the whole path")
	}
	return nil
}

// choice is one of a few words.
func choice[T ~string](p *T, of ...T) setting {
	names := make([]string, len(of))
	for i, o := range of {
		names[i] = string(o)
	}
	one := "one of " + strings.Join(names, ", ")
	return setting{
		kind: kind{"string", []string{"!!str"}, one},
		text: func() string { return string(*p) },
		set: func(s string) error {
			if !slices.Contains(of, T(s)) {
				return refuse("is none of the words that it can be", "write "+one)
			}
			*p = T(s)
			return nil
		},
	}
}

func level(p *slog.Level) setting {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	name := strings.ToLower(p.String())
	s := choice(&name, "debug", "info", "warn", "error")
	choose := s.set
	s.set = func(text string) error {
		if err := choose(text); err != nil {
			return err
		}
		*p = levels[name]
		return nil
	}
	return s
}

func boolean(p *bool) setting {
	return setting{
		kind: kind{"bool", []string{"!!bool"}, "true or false"},
		text: func() string { return strconv.FormatBool(*p) },
		set: func(s string) error {
			b, err := strconv.ParseBool(s)
			if err != nil {
				return refuse("is neither true nor false", "write true or false")
			}
			*p = b
			return nil
		},
	}
}

// count is a whole number from lo to hi.
func count(p *int, lo, hi int) setting {
	takes := "a whole number from " + strconv.Itoa(lo) + " to " + strconv.Itoa(hi)
	return setting{
		kind: kind{"int", []string{"!!int"}, takes},
		text: func() string { return strconv.Itoa(*p) },
		set: func(s string) error {
			n, err := decimal(s)
			if err != nil || n < int64(lo) || n > int64(hi) {
				return refuse("is not "+takes, "write one, without separators or leading zeros")
			}
			*p = int(n)
			return nil
		},
	}
}

// decimal reads digits. YAML would read a leading zero as octal and take
// underscores: here neither is a number, so that nobody is surprised.
func decimal(s string) (int64, error) {
	if len(s) > 1 && s[0] == '0' || strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 10, 64)
}

// duration is in Go's syntax, from lo to hi.
func duration(p *time.Duration, lo, hi time.Duration) setting {
	takes := "a duration from " + shortDuration(lo) + " to " + shortDuration(hi)
	return setting{
		kind: kind{"duration", []string{"!!str", "!!int"}, takes},
		text: func() string { return shortDuration(*p) },
		set: func(s string) error {
			d, err := time.ParseDuration(s)
			if err != nil {
				return refuse("is not a duration", "write a number and its unit, such as 500ms, 10s, 5m or 72h")
			}
			if d < lo || d > hi {
				return refuse("is out of bounds", "write "+takes)
			}
			*p = d
			return nil
		},
	}
}

// shortDuration drops the zeros that Go prints after whole minutes and hours.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Bytes is a size. As text it is a whole number and B, KiB, MiB or GiB.
type Bytes int64

var byteUnits = [...]struct {
	name  string
	shift int
}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}}

// String is the size in the largest unit that leaves no fraction: "64KiB".
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && b%(1<<u.shift) == 0 {
			return strconv.FormatInt(int64(b>>u.shift), 10) + u.name
		}
	}
	return "0B"
}

func size(p *Bytes, lo, hi Bytes) setting {
	takes := "a size from " + lo.String() + " to " + hi.String()
	return setting{
		kind: kind{"size", []string{"!!str", "!!int"}, takes},
		text: func() string { return p.String() },
		set: func(s string) error {
			b, err := parseBytes(s)
			if err != nil {
				return refuse("is not a size", "write a whole number and its unit, such as 512B, 64KiB or 1MiB")
			}
			if b < lo || b > hi {
				return refuse("is out of bounds", "write "+takes)
			}
			*p = b
			return nil
		},
	}
}

// parseBytes reads what [Bytes.String] prints, and a bare number of bytes.
func parseBytes(s string) (Bytes, error) {
	shift := 0
	for _, u := range byteUnits {
		if digits, ok := strings.CutSuffix(s, u.name); ok {
			s, shift = digits, u.shift
			break
		}
	}
	n, err := decimal(s)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, strconv.ErrSyntax
	}
	return Bytes(n << shift), nil
}

// address is an IP address and a port. A host name would leave open which of
// its addresses is meant, and ":3128" would mean every interface without
// saying so; neither is taken.
func address(p *netip.AddrPort) setting {
	return setting{
		kind: kind{"address", []string{"!!str"}, "an IP address and a port, such as 127.0.0.1:3128"},
		text: func() string { return p.String() },
		set: func(s string) error {
			a, err := netip.ParseAddrPort(s)
			if err != nil || a.Addr().Zone() != "" || a.Addr().Is4In6() {
				return refuse("is not an IP address and a port", "write 127.0.0.1:3128 or [::1]:3128, or 0.0.0.0:3128 for every interface")
			}
			*p = a
			return nil
		},
	}
}

// addressOrOff is an address, or the word off for the zero one.
func addressOrOff(p *netip.AddrPort) setting {
	s := address(p)
	s.text = func() string {
		if !p.IsValid() {
			return "off"
		}
		return p.String()
	}
	set := s.set
	s.set = func(text string) error {
		if text == "off" {
			*p = netip.AddrPort{}
			return nil
		}
		return set(text)
	}
	return s
}

// prefixes is a list of networks.
func prefixes(p *[]netip.Prefix) setting {
	return setting{
		kind:  kind{"networks", []string{"!!str"}, "networks, such as 10.0.0.0/8 or fd00::/8"},
		clear: func() { *p = nil },
		text: func() string {
			items := make([]string, len(*p))
			for i, n := range *p {
				items[i] = n.String()
			}
			return strings.Join(items, ",")
		},
		set: func(s string) error {
			if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
				s += "/" + strconv.Itoa(a.BitLen())
			}
			n, err := netip.ParsePrefix(s)
			switch {
			case err != nil:
				return refuse("is not a network", "write an address and a prefix length, such as 10.0.0.0/8 or fd00::/8")
			case n.Addr().Is4In6():
				return refuse("is an IPv4 network written as IPv6", "write it as IPv4")
			case n != n.Masked():
				return refuse("has bits set after its prefix length", "write the network's first address, such as 10.0.0.0/8")
			}
			*p = append(*p, n)
			return nil
		},
	}
}

// hosts is a list of host names, compared with a Host header's.
func hosts(p *[]string) setting {
	return setting{
		kind:  kind{"hosts", []string{"!!str"}, "host names, such as attache.example.com"},
		clear: func() { *p = nil },
		text:  func() string { return strings.Join(*p, ",") },
		set: func(s string) error {
			s = strings.ToLower(s)
			if !isHostName(s) {
				return refuse("is not a host name", "write names without scheme, port or wildcard, such as attache.example.com")
			}
			*p = append(*p, s)
			return nil
		},
	}
}

func isHostName(lower string) bool {
	return lower != "" && len(lower) <= 253 && strings.Trim(lower, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

// origin is a scheme, a host and, where it is not the scheme's own, a port. A
// path would be in vain: the API and the UI are at the root.
func origin(p *string) setting {
	s := words(p, "a URL without a path, such as https://attache.example.com", nil)
	take := s.set
	s.set = func(text string) error {
		if text == "" {
			return take(text)
		}
		o, err := parseOrigin(text)
		if err != nil {
			return err
		}
		return take(o)
	}
	return s
}

func parseOrigin(text string) (string, error) {
	const (
		badPort = "has a port that is not a number from 1 to 65535"
		remedy  = "write https://HOST or https://HOST:PORT"
	)
	ownPorts := map[string]uint64{"https": 443, "http": 80}
	text = strings.TrimSuffix(text, "/")
	scheme, authority, _ := strings.Cut(text, "://")
	if ownPorts[strings.ToLower(scheme)] == 0 {
		return "", refuse("does not begin with https://", remedy)
	}
	u, err := url.Parse(text)
	if err != nil { // which quotes the text
		if _, _, err := net.SplitHostPort(authority); err == nil && !strings.Contains(authority, "@") {
			return "", refuse(badPort, remedy)
		}
		return "", refuse("is not a URL", remedy)
	}
	host := strings.ToLower(u.Hostname())
	addr, err := netip.ParseAddr(host)
	isAddress := err == nil && addr.Zone() == ""
	port, err := strconv.ParseUint(cmp.Or(u.Port(), fmt.Sprint(ownPorts[u.Scheme])), 10, 16)
	switch {
	case !isAddress && !isHostName(host):
		return "", refuse("has no host, or one that is neither a name nor an IP address", remedy)
	case err != nil || port == 0:
		return "", refuse(badPort, remedy)
	case !strings.EqualFold(text, u.Scheme+"://"+u.Host):
		return "", refuse("has more than scheme, host and port", "remove the rest: the API and the UI are at the root")
	case u.Scheme == "http" && host != "localhost" && !addr.IsLoopback():
		return "", refuse("is http, and not on loopback", remedy)
	}
	o := u.Scheme + "://" + strings.ToLower(strings.TrimSuffix(u.Host, ":"+u.Port()))
	if port != ownPorts[u.Scheme] {
		o += fmt.Sprintf(":%d", port)
	}
	return o, nil
}

// hostAddresses is a list of hosts, each with its address.
func hostAddresses(p *[]HostAddress) setting {
	return setting{
		kind:  kind{"host=address", []string{"!!str"}, "hosts and their addresses, such as api.example.com=192.0.2.7"},
		clear: func() { *p = nil },
		text: func() string {
			items := make([]string, len(*p))
			for i, h := range *p {
				items[i] = h.Host + "=" + h.Address.String()
			}
			return strings.Join(items, ",")
		},
		set: func(s string) error {
			host, address, _ := strings.Cut(strings.ToLower(s), "=")
			a, err := netip.ParseAddr(address)
			switch {
			case !isHostName(host) || err != nil || a.Zone() != "" || a.Is4In6():
				return refuse("is not a host name and an IP address", "write the two with = between them, such as api.example.com=192.0.2.7")
			case slices.ContainsFunc(*p, func(h HostAddress) bool { return h.Host == host }):
				return refuse("names a host twice", "give each host one address")
			}
			*p = append(*p, HostAddress{host, a})
			return nil
		},
	}
}

// masterKey says where the key-encryption key comes from; it is never the key
// itself.
func masterKey(p *string) setting {
	const takes = "file:PATH, env:VARIABLE, credential:NAME or passphrase"
	return words(p, takes, func(s string) error {
		source, rest, _ := strings.Cut(s, ":")
		switch {
		case s == "" || s == "passphrase":
		case source == "file" && rest != "":
			return noTilde(rest)
		case slices.Contains([]string{"env", "credential"}, source) && rest != "":
		default:
			return refuse("does not say where the key is", "write "+takes+", or leave it empty for a generated file")
		}
		return nil
	})
}

// proxyURL is a secret, because it may carry the parent proxy's password.
func proxyURL(p *secret.Text) setting {
	return setting{
		kind: kind{"string", []string{"!!str"}, "a URL, such as http://proxy.example.com:3128"},
		text: func() string {
			shown, _ := p.MarshalText()
			return string(shown)
		},
		set: func(s string) error {
			// url.Parse's errors quote the URL, password included.
			u, err := url.Parse(s)
			switch {
			case s == "":
			case err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
				return refuse("is not the URL of a proxy", "write http:// or https://, a host and a port")
			case path.Clean("/"+u.Path) != "/" || u.RawQuery != "" || u.Fragment != "":
				return refuse("has more than a proxy's URL needs", "remove what follows the port")
			}
			return p.UnmarshalText([]byte(s))
		},
	}
}
