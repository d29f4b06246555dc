package configs

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func TestEveryKeyCanBeSetByItsVariable(t *testing.T) {
	for _, k := range Keys() {
		want := Default()
		if err := k.Set(&want, sample(k)); err != nil {
			t.Fatal(err)
		}
		got := Default()
		if err := got.ApplyEnvironment(environment(map[string]string{k.Variable(): sample(k)})); err != nil {
			t.Error(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s=%s:\n%s", k.Variable(), sample(k), cmp.Diff(texts(want), texts(got)))
		}
	}
}

func TestApplyEnvironment(t *testing.T) {
	file := writeFile(t, "http://bob:canary@proxy.example.com:1\n")
	tests := map[string]struct {
		env  map[string]string
		want string // the error
	}{
		"nothing set is nothing changed": {nil, ""},
		"set to nothing is not set":      {map[string]string{"ATTACHE_LISTEN": "", "ATTACHE_UPSTREAM_PROXY_FILE": ""}, ""},
		"the variable and the key are named": {
			map[string]string{"ATTACHE_LISTEN": ":3128"},
			"environment: ATTACHE_LISTEN: listen is not an IP address and a port: write 127.0.0.1:3128 or [::1]:3128, or 0.0.0.0:3128 for every interface",
		},
		"several errors are said together": {
			map[string]string{"ATTACHE_LISTEN": "x", "ATTACHE_PRODUCTION": "maybe"},
			"environment: ATTACHE_LISTEN: listen is not an IP address and a port: write 127.0.0.1:3128 or [::1]:3128, or 0.0.0.0:3128 for every interface\n" +
				"environment: ATTACHE_PRODUCTION: production is neither true nor false: write true or false",
		},
		"each wrong item of a list is said": {
			map[string]string{"ATTACHE_UPSTREAM_ALLOW_PRIVATE": "10.0.0.0/8, 10.0.0.1/8,x"},
			"environment: ATTACHE_UPSTREAM_ALLOW_PRIVATE: upstream.allow_private has bits set after its prefix length: write the network's first address, such as 10.0.0.0/8\n" +
				"upstream.allow_private is not a network: write an address and a prefix length, such as 10.0.0.0/8 or fd00::/8",
		},
		"a secret and its file are one too many": {
			map[string]string{"ATTACHE_UPSTREAM_PROXY": "http://bob:canary@a.example", "ATTACHE_UPSTREAM_PROXY_FILE": file},
			"environment: ATTACHE_UPSTREAM_PROXY: upstream.proxy is given twice, also by ATTACHE_UPSTREAM_PROXY_FILE: unset one of the two",
		},
		"a secret that breaks its rule is not repeated": {
			map[string]string{"ATTACHE_UPSTREAM_PROXY": "socks5://bob:canary@a.example"},
			"environment: ATTACHE_UPSTREAM_PROXY: upstream.proxy is not the URL of a proxy: write http:// or https://, a host and a port",
		},
		"a file that is too large holds more than a secret": {
			map[string]string{"ATTACHE_UPSTREAM_PROXY_FILE": writeFile(t, strings.Repeat("x", 64<<10+1))},
			"environment: ATTACHE_UPSTREAM_PROXY: upstream.proxy comes from a file of over 64 KiB: name a file that holds the secret alone",
		},
		"only secrets are read from files": {map[string]string{"ATTACHE_LISTEN_FILE": "/etc/passwd"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := Default()
			got := ""
			if err := c.ApplyEnvironment(environment(tt.env)); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if tt.want == "" && !reflect.DeepEqual(c, Default()) {
				t.Error("the config has changed")
			}
		})
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestASecretIsReadFromItsFileWithoutTheLineEnding(t *testing.T) {
	const url = "http://bob:canary@proxy.example.com:3128"
	for _, ending := range []string{"", "\n", "\r\n"} {
		path := writeFile(t, url+ending)
		c := Default()
		if err := c.ApplyEnvironment(environment(map[string]string{"ATTACHE_UPSTREAM_PROXY_FILE": path})); err != nil {
			t.Fatal(err)
		}
		if c.Upstream.Proxy.Expose() != url {
			t.Errorf("with ending %q the secret is not what the file holds", ending)
		}
	}
	c := Default()
	err := c.ApplyEnvironment(environment(map[string]string{"ATTACHE_UPSTREAM_PROXY_FILE": filepath.Join(t.TempDir(), "missing")}))
	if !os.IsNotExist(err) && !strings.Contains(err.Error(), "missing") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestUnknownVariables(t *testing.T) {
	tests := map[string]struct {
		variable string
		want     string
	}{
		"a misspelt variable":               {"ATTACHE_UPSTREAM_ALLOW_PRIVAT", `"ATTACHE_UPSTREAM_ALLOW_PRIVAT" sets nothing: did you mean ATTACHE_UPSTREAM_ALLOW_PRIVATE?`},
		"a key without its section":         {"ATTACHE_ALLOW_PRIVATE", `"ATTACHE_ALLOW_PRIVATE" sets nothing: did you mean ATTACHE_UPSTREAM_ALLOW_PRIVATE?`},
		"a section's unknown key":           {"ATTACHE_LOG_ROTATION_SCHEDULE", `"ATTACHE_LOG_ROTATION_SCHEDULE" sets nothing: no key has this variable`},
		"a file for what is no secret":      {"ATTACHE_DATA_DIR_FILE", `"ATTACHE_DATA_DIR_FILE" sets nothing: only secrets are read from files`},
		"a variable of ours":                {"ATTACHE_LISTEN", ""},
		"a secret's file":                   {"ATTACHE_UPSTREAM_PROXY_FILE", ""},
		"what the caller knows":             {"ATTACHE_ADMIN_TOKEN", ""},
		"somebody else's variable":          {"ATTACHE_CASE_COLOUR", ""},
		"another program's variable":        {"LISTEN", ""},
		"a service's link from Kubernetes":  {"ATTACHE_METRICS_SERVICE_PORT_HTTP", ""},
		"a service's port from Kubernetes":  {"ATTACHE_ADMIN_PORT_3129_TCP_ADDR", ""},
		"a service's plain port, the same":  {"ATTACHE_PORT", ""},
		"a name that is no name is quoted":  {"ATTACHE_LOG_\x1b[31m", `"ATTACHE_LOG_\x1b[31m" sets nothing: no key has this variable`},
		"nothing is read into a bare name":  {"ATTACHE_", ""},
		"the value is no part of a warning": {"ATTACHE_LISTENN", `"ATTACHE_LISTENN" sets nothing: did you mean ATTACHE_LISTEN?`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(UnknownVariables([]string{tt.variable + "=canary"}, "ATTACHE_ADMIN_TOKEN"), "\n")
			if got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// parseFlags runs a command line through pflag, as the program does.
func parseFlags(t *testing.T, args ...string) ([]*Flag, error) {
	t.Helper()
	set := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags := NewFlags()
	for _, f := range flags {
		set.VarPF(f, f.Name, "", f.Usage).NoOptDefVal = f.Bare
	}
	return flags, set.Parse(args)
}

func TestEveryKeyCanBeSetByItsFlag(t *testing.T) {
	for i, k := range Keys() {
		want := Default()
		if err := k.Set(&want, sample(k)); err != nil {
			t.Fatal(err)
		}
		typed := sample(k)
		if k.Secret {
			typed = writeFile(t, typed)
		}
		flags, err := parseFlags(t, "--"+NewFlags()[i].Name+"="+typed)
		if err != nil {
			t.Fatal(err)
		}
		got := Default()
		for _, f := range flags {
			if err := f.Apply(&got); err != nil {
				t.Error(err)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("--%s=%s:\n%s", flags[i].Name, typed, cmp.Diff(texts(want), texts(got)))
		}
	}
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	flags, err := parseFlags(t,
		"--production", "--unmatched", "deny", "--unmatched", "tunnel",
		"--allow-private", "10.0.0.0/8", "--allow-private", "127.0.0.1,fd00::/8")
	if err != nil {
		t.Fatal(err)
	}
	c, err := parse("x.yaml", []byte("unmatched: deny\nlisten: 127.0.0.1:1\ndata_dir: /file\nupstream: {allow_private: [192.168.0.0/16]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = c.ApplyEnvironment(environment(map[string]string{"ATTACHE_LISTEN": "127.0.0.1:2", "ATTACHE_UPSTREAM_ALLOW_PRIVATE": "172.16.0.0/12", "ATTACHE_UNMATCHED": "deny"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flags {
		if err := f.Apply(&c); err != nil {
			t.Fatal(err)
		}
	}
	got := texts(c)
	for name, want := range map[string]string{
		"unmatched":              "tunnel",                           // the last flag
		"upstream.allow_private": "10.0.0.0/8,127.0.0.1/32,fd00::/8", // all flags, and they alone
		"production":             "true",                             // a flag without a value
		"listen":                 "127.0.0.1:2",                      // the variable over the file
		"data_dir":               "/file",                            // the file over the default
		"log.events":             "stderr",                           // the default
		"admin.listen":           "127.0.0.1:3129",                   // the default
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

func TestAWrongFlagIsRefusedWhenItIsTyped(t *testing.T) {
	for _, args := range [][]string{{"--listen", "3128"}, {"--limits-connections=0"}, {"--upstream-proxy-file", "/does/not/exist"}, {"--upstream-proxy=http://x"}} {
		if _, err := parseFlags(t, args...); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestNothingShowsTheParentProxysPassword(t *testing.T) {
	path := writeFile(t, "http://bob:canary@proxy.example.com:3128")
	flags, err := parseFlags(t, "--upstream-proxy-file", path)
	if err != nil {
		t.Fatal(err)
	}
	c := Default()
	var shown []string
	for _, f := range flags {
		if err := f.Apply(&c); err != nil {
			t.Fatal(err)
		}
		shown = append(shown, f.String())
	}
	if c.Upstream.Proxy.IsZero() {
		t.Fatal("the file was not read")
	}
	for _, text := range texts(c) {
		shown = append(shown, text)
	}
	if all := strings.Join(shown, "\n"); strings.Contains(all, "canary") {
		t.Errorf("the password is in\n%s", all)
	}
}
