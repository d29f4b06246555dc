package configs

import (
	"math"
	"strings"
	"testing"
)

func TestSet(t *testing.T) {
	tests := []struct {
		rule string
		key  string
		text string
		want string // as printed; "!" and the rule that it breaks
	}{
		{"an address has an IP address", "listen", "localhost:3128", "!is not an IP address and a port"},
		{"an address names its interface", "listen", ":3128", "!is not an IP address and a port"},
		{"an address has a port", "listen", "127.0.0.1", "!is not an IP address and a port"},
		{"an address has no zone", "listen", "[fe80::1%eth0]:1", "!is not an IP address and a port"},
		{"an address is not IPv4 in disguise", "listen", "[::ffff:127.0.0.1]:1", "!is not an IP address and a port"},
		{"the proxy's listener cannot be off", "listen", "off", "!is not an IP address and a port"},
		{"the API's listener can be off", "admin.listen", "off", "off"},
		{"every interface is said", "listen", "0.0.0.0:80", "0.0.0.0:80"},
		{"a port may be zero", "listen", "[::1]:0", "[::1]:0"},

		{"a network may be one address", "upstream.allow_private", "::1", "::1/128"},
		{"networks have commas and blanks", "upstream.allow_private", " 10.0.0.0/8 , 192.168.0.0/16,", "10.0.0.0/8,192.168.0.0/16"},
		{"no network is an empty list", "upstream.allow_private", "", ""},
		{"a network has no bits after its length", "upstream.allow_private", "10.1.2.3/8", "!has bits set after its prefix length"},
		{"a network is not IPv4 in disguise", "upstream.allow_private", "::ffff:10.0.0.0/104", "!is an IPv4 network written as IPv6"},
		{"a network has no zone", "upstream.allow_private", "fe80::1%eth0", "!is not a network"},

		{"a host name has no port", "admin.hosts", "example.com:80", "!is not a host name"},
		{"a host name has no scheme", "admin.hosts", "https://example.com", "!is not a host name"},
		{"a host name is no wildcard", "admin.hosts", "*.example.com", "!is not a host name"},

		{"a public URL is https", "admin.public_url", "https://Attache.Example.com", "https://attache.example.com"},
		{"a public URL may be none", "admin.public_url", "", ""},
		{"a public URL may have a port", "admin.public_url", "https://attache.example.com:8443", "https://attache.example.com:8443"},
		{"a public URL's own port is not said", "admin.public_url", "https://attache.example.com:443/", "https://attache.example.com"},
		{"a public URL's port is a number", "admin.public_url", "https://attache.example.com:08443", "https://attache.example.com:8443"},
		{"a public URL's port may be left out", "admin.public_url", "https://attache.example.com:", "https://attache.example.com"},
		{"a public URL may be an address", "admin.public_url", "https://[2001:db8::7]:8443", "https://[2001:db8::7]:8443"},
		{"a public URL may be http on loopback", "admin.public_url", "http://localhost:8080", "http://localhost:8080"},
		{"loopback is also an address", "admin.public_url", "http://[::1]:80/", "http://[::1]"},
		{"a public URL elsewhere is not http", "admin.public_url", "http://attache.example.com", "!is http, and not on loopback"},
		{"a loopback name is not the beginning of another", "admin.public_url", "http://localhost.example.com", "!is http, and not on loopback"},
		{"a public URL has a scheme", "admin.public_url", "attache.example.com", "!does not begin with https://"},
		{"a public URL has no other scheme", "admin.public_url", "ftp://attache.example.com", "!does not begin with https://"},
		{"a public URL has a host", "admin.public_url", "https://:8443", "!has no host, or one that is neither a name nor an IP address"},
		{"a public URL's host is a name", "admin.public_url", "https://*.example.com", "!has no host, or one that is neither a name nor an IP address"},
		{"a public URL's port is one", "admin.public_url", "https://attache.example.com:99999", "!has a port that is not a number from 1 to 65535"},
		{"a public URL's port is a number from 1", "admin.public_url", "https://attache.example.com:0", "!has a port that is not a number from 1 to 65535"},
		{"a public URL's port is no word", "admin.public_url", "https://attache.example.com:https/", "!has a port that is not a number from 1 to 65535"},
		{"a public URL's scheme comes before its port", "admin.public_url", "attache.example.com:8443", "!does not begin with https://"},
		{"a public URL may shout", "admin.public_url", "HTTPS://attache.example.com", "https://attache.example.com"},
		{"a public URL has no zone", "admin.public_url", "http://[fe80::1%25eth0]", "!has no host, or one that is neither a name nor an IP address"},
		{"a public URL is not malformed", "admin.public_url", "https://bob:can ary@example.com", "!is not a URL"},
		{"a public URL has no user", "admin.public_url", "https://bob:canary@example.com", "!has more than scheme, host and port"},
		{"a public URL has no path", "admin.public_url", "https://example.com/canary", "!has more than scheme, host and port"},
		{"a public URL has no query", "admin.public_url", "https://example.com?canary", "!has more than scheme, host and port"},
		{"a public URL has no fragment", "admin.public_url", "https://example.com#", "!has more than scheme, host and port"},
		{"a public URL is no slash too many", "admin.public_url", "https://example.com//", "!has more than scheme, host and port"},

		{"a host has an address of either family", "upstream.hosts", "A.example.com=192.0.2.7, b.example.com=2001:db8::7", "a.example.com=192.0.2.7,b.example.com=2001:db8::7"},
		{"a host has an address", "upstream.hosts", "a.example.com", "!is not a host name and an IP address"},
		{"a host's address is no name", "upstream.hosts", "a.example.com=b.example.com", "!is not a host name and an IP address"},
		{"a host's address has no port", "upstream.hosts", "a.example.com=192.0.2.7:443", "!is not a host name and an IP address"},
		{"a host's address has no zone", "upstream.hosts", "a.example.com=fe80::1%eth0", "!is not a host name and an IP address"},
		{"a host with an address is no wildcard", "upstream.hosts", "*.example.com=192.0.2.7", "!is not a host name and an IP address"},
		{"a host has one address", "upstream.hosts", "a.example.com=192.0.2.7,A.example.com=192.0.2.8", "!names a host twice"},

		{"a size has binary units", "limits.head_bytes", "16KiB", "16KiB"},
		{"a size may be in bytes", "limits.head_bytes", "5000B", "5000B"},
		{"a size needs no unit", "limits.head_bytes", "1048576", "1MiB"},
		{"a size has no decimal units", "limits.head_bytes", "64KB", "!is not a size"},
		{"a size has no fraction", "limits.head_bytes", "0.5MiB", "!is not a size"},
		{"a size is not negative", "limits.head_bytes", "-1KiB", "!is not a size"},
		{"a size is more than its unit", "limits.head_bytes", "KiB", "!is not a size"},
		{"a size fits", "limits.head_bytes", "99999999999GiB", "!is not a size"},
		{"a size has a lower bound", "limits.head_bytes", "1KiB", "!is out of bounds"},
		{"a size has an upper bound", "limits.head_bytes", "2MiB", "!is out of bounds"},

		{"a duration has Go's syntax", "upstream.idle_timeout", "90s", "1m30s"},
		{"a duration is printed short", "upstream.idle_timeout", "2h0m0s", "2h"},
		{"a duration keeps the zeros of tens", "upstream.idle_timeout", "10m", "10m"},
		{"a duration is not negative", "idle_exit", "-1s", "!is out of bounds"},
		{"a certificate lives at most 72h", "certificates.leaf_life", "73h", "!is out of bounds"},

		{"a count has a lower bound", "limits.connections", "0", "!is not a whole number from 1 to 1000000"},
		{"a count is not hexadecimal", "limits.connections", "0x10", "!is not a whole number from 1 to 1000000"},
		{"a count has no separators", "limits.connections", "10_000", "!is not a whole number from 1 to 1000000"},
		{"a count is a number", "limits.connections", "", "!is not a whole number from 1 to 1000000"},

		{"a level is a word", "log.level", "error", "error"},
		{"a level is one of four words", "log.level", "INFO+2", "!is none of the words that it can be"},
		{"a choice is one of its words", "unmatched", "inject", "!is none of the words that it can be"},
		{"a path has no control characters", "data_dir", "/data\x00", "!holds a control character"},
		{"a home directory is written out", "data_dir", "~/attache", "!begins with ~, which only shells know"},
		{"somebody's home directory is, too", "upstream.ca_file", "~bob/ca.pem", "!begins with ~, which only shells know"},
		{"events go to no home directory of ours", "log.events", "~/events", "!begins with ~, which only shells know"},
		{"a master key's file is written out", "master_key", "file:~/key", "!begins with ~, which only shells know"},
		{"a path may be relative", "data_dir", "./~/attache", "./~/attache"},
		{"events go somewhere", "log.events", "", "!is empty"},
		{"events may go to a file", "log.events", "/var/log/events", "/var/log/events"},

		{"a master key may be generated", "master_key", "", ""},
		{"a master key may be asked for", "master_key", "passphrase", "passphrase"},
		{"a master key may be in a file", "master_key", "file:/key", "file:/key"},
		{"a master key may be systemd's", "master_key", "credential:key", "credential:key"},
		{"a master key's source needs a name", "master_key", "env:", "!does not say where the key is"},
		{"a master key is never given itself", "master_key", "c2VjcmV0", "!does not say where the key is"},

		{"a parent proxy is a secret", "upstream.proxy", "http://bob:canary@example.com:1/", "[redacted]"},
		{"a parent proxy may be none", "upstream.proxy", "", ""},
		{"a parent proxy has a scheme", "upstream.proxy", "example.com:3128", "!is not the URL of a proxy"},
		{"a parent proxy has a host", "upstream.proxy", "http://:3128", "!is not the URL of a proxy"},
		{"a parent proxy is not malformed", "upstream.proxy", "http://bob:can ary@example.com", "!is not the URL of a proxy"},
		{"a parent proxy has no path", "upstream.proxy", "http://example.com/canary", "!has more than a proxy's URL needs"},
		{"a parent proxy has no query", "upstream.proxy", "http://example.com?canary", "!has more than a proxy's URL needs"},
		{"a parent proxy is not a placeholder", "upstream.proxy", "[redacted]", "!is not the URL of a proxy"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			k := keyNamed(t, tt.key)
			c := Default()
			err := k.Set(&c, tt.text)
			if rule, refused := strings.CutPrefix(tt.want, "!"); refused {
				if err == nil {
					t.Fatalf("%q was accepted as %q", tt.text, k.Text(&c))
				}
				if want := tt.key + " " + rule + ": "; !strings.HasPrefix(err.Error(), want) {
					t.Errorf("the error is %q, want %q", err, want)
				}
				if strings.Contains(err.Error(), "canary") {
					t.Errorf("the error repeats the value: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := k.Text(&c); got != tt.want {
				t.Errorf("%q became %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}

func keyNamed(t *testing.T, name string) Key {
	t.Helper()
	for _, k := range Keys() {
		if k.Name == name {
			return k
		}
	}
	t.Fatalf("no key is named %q", name)
	return Key{}
}

func TestBytesPrintsTheLargestWholeUnit(t *testing.T) {
	for b, want := range map[Bytes]string{
		0: "0B", 1: "1B", 1023: "1023B", 1 << 10: "1KiB", 1<<10 + 1: "1025B", 64 << 10: "64KiB",
		1 << 20: "1MiB", 3 << 30: "3GiB", 1 << 40: "1024GiB", math.MaxInt64: "9223372036854775807B",
	} {
		if got := b.String(); got != want {
			t.Errorf("%d prints %s, want %s", int64(b), got, want)
		}
		if back, err := parseBytes(want); err != nil || back != b {
			t.Errorf("%s reads %d, %v", want, int64(back), err)
		}
	}
}

func TestNearest(t *testing.T) {
	candidates := []string{"listen", "log", "log.level", "upstream.proxy", "upstream.connect_timeout"}
	tests := map[string]struct {
		name string
		want string
	}{
		"a letter too few":             {"liste", "listen"},
		"a letter too many":            {"llisten", "listen"},
		"a wrong letter":               {"lisden", "listen"},
		"two letters swapped":          {"lsiten", "listen"},
		"capitals":                     {"LISTEN", "listen"},
		"the last part of a full name": {"proxy", "upstream.proxy"},
		"the wrong section":            {"log.connect_timeout", "upstream.connect_timeout"},
		"something else":               {"banana", ""},
		"nothing":                      {"", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := nearest(tt.name, candidates)
			if !ok {
				got = ""
			}
			if got != tt.want {
				t.Errorf("nearest(%q) = %q, want %q", tt.name, got, tt.want)
			}
		})
	}
}
