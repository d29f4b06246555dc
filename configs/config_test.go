package configs

import (
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"
)

func TestValidate(t *testing.T) {
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"the defaults go together": {func(*Config) {}, ""},
		"a certificate needs its key": {
			func(c *Config) { c.ListenTLS.CertificateFile = "/c.pem" },
			"listen_tls.key_file is needed with listen_tls.certificate_file: give both files, or neither",
		},
		"a key needs its certificate": {
			func(c *Config) { c.ListenTLS.KeyFile = "/k.pem" },
			"listen_tls.certificate_file is needed with listen_tls.key_file: give both files, or neither",
		},
		"a certificate and a key go together": {
			func(c *Config) { c.ListenTLS = ListenTLS{"/c.pem", "/k.pem"} }, "",
		},
		"two listeners cannot share an address": {
			func(c *Config) { c.Admin.Listen = c.Listen },
			"admin.listen is the address of listen too: give each its own port",
		},
		"every interface includes loopback": {
			func(c *Config) { c.Metrics.Listen = netip.MustParseAddrPort("0.0.0.0:3129") },
			"metrics.listen is the address of admin.listen too: give each its own port",
		},
		"one port on two addresses is two listeners": {
			func(c *Config) { c.Admin.Listen = netip.MustParseAddrPort("[::1]:3128") }, "",
		},
		"ports that the kernel chooses differ": {
			func(c *Config) {
				zero := netip.MustParseAddrPort("127.0.0.1:0")
				c.Listen, c.Admin.Listen, c.Metrics.Listen = zero, zero, zero
			}, "",
		},
		"listeners that are off share nothing": {
			func(c *Config) { c.Admin.Listen, c.Metrics.Listen = netip.AddrPort{}, netip.AddrPort{} }, "",
		},
		"a public URL leads somewhere": {
			func(c *Config) { c.Admin.PublicURL, c.Admin.Listen = "https://attache.example.com", netip.AddrPort{} },
			"admin.public_url leads nowhere, for admin.listen is off: give admin.listen an address, or leave the URL out",
		},
		"no more idle connections than connections": {
			func(c *Config) { c.Upstream.MaxPerHost = 100 },
			"upstream.max_idle_per_host is more than upstream.max_per_host: lower the one or raise the other",
		},
		"all that is wrong is said": {
			func(c *Config) { c.Upstream.MaxPerHost = 100; c.ListenTLS.KeyFile = "/k.pem" },
			"listen_tls.certificate_file is needed with listen_tls.key_file: give both files, or neither\n" +
				"upstream.max_idle_per_host is more than upstream.max_per_host: lower the one or raise the other",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := Default()
			tt.change(&c)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("\n got %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestDefaultListensOnLoopbackOnly(t *testing.T) {
	c := Default()
	for name, a := range map[string]netip.AddrPort{"listen": c.Listen, "admin.listen": c.Admin.Listen, "metrics.listen": c.Metrics.Listen} {
		if !a.Addr().IsLoopback() {
			t.Errorf("%s is %v", name, a)
		}
	}
	if len(c.Upstream.AllowPrivate) != 0 {
		t.Errorf("upstream.allow_private is %v", c.Upstream.AllowPrivate)
	}
}

func TestDefaultDataDir(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // the paths below are not absolute there
	}
	tests := map[string]struct {
		env  map[string]string
		want string
	}{
		"XDG_DATA_HOME comes first":             {map[string]string{"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/attache"},
		"a relative XDG_DATA_HOME is no path":   {map[string]string{"XDG_DATA_HOME": "x", "HOME": "/h"}, "/h/.local/share/attache"},
		"HOME stands in for it":                 {map[string]string{"HOME": "/h"}, "/h/.local/share/attache"},
		"without either there is no default":    {nil, ""},
		"an empty HOME is as good as no HOME":   {map[string]string{"HOME": ""}, ""},
		"a HOME that is not absolute is no use": {map[string]string{"HOME": "."}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := DefaultDataDir(environment(tt.env))
			if filepath.ToSlash(got) != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// environment stands in for os.LookupEnv.
func environment(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
}
