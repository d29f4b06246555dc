package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
)

func TestLoad(t *testing.T) {
	tests := map[string]struct {
		text string
		want func(*Config)
	}{
		"an empty file changes nothing":              {"", func(*Config) {}},
		"a file of comments changes nothing":         {"# nothing\n", func(*Config) {}},
		"an empty document changes nothing":          {"---\n", func(*Config) {}},
		"a section without keys changes nothing":     {"upstream:\nlog:\n", func(*Config) {}},
		"a byte order mark is no part of the text":   {"\ufeffproduction: true\n", func(c *Config) { c.Production = true }},
		"lines may end as on Windows":                {"production: true\r\nidle_exit: 5m\r\n", func(c *Config) { c.Production, c.IdleExit = true, 5*time.Minute }},
		"off is a word, not a truth value":           {"admin: {listen: off}\nlog: {events: off}\n", func(c *Config) { c.Admin = Admin{}; c.Log.Events = EventsOff }},
		"a size may be a bare number of bytes":       {"limits: {head_bytes: 8192}\n", func(c *Config) { c.Limits.HeadBytes = 8192 }},
		"zero needs no unit":                         {"idle_exit: 0\n", func(*Config) {}},
		"numbers are decimal":                        {"limits: {connections: 20}\n", func(c *Config) { c.Limits.Connections = 20 }},
		"host names are compared in lower case":      {"admin: {hosts: [Attache.Example.COM]}\n", func(c *Config) { c.Admin.Hosts = []string{"attache.example.com"} }},
		"an empty list is a list":                    {"admin:\n  hosts: []\n", func(*Config) {}},
		"a file is read whole, in any order of keys": {"log: {level: warn}\ndata_dir: /data\n", func(c *Config) { c.Log.Level = 4; c.DataDir = "/data" }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parse("attache.yaml", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			want := Default()
			tt.want(&want)
			if !reflect.DeepEqual(got, want) {
				t.Error(cmp.Diff(texts(want), texts(got)))
			}
		})
	}
}

func TestLoadNamesFileLineKeyAndRemedy(t *testing.T) {
	tests := map[string]struct {
		text string
		want string
	}{
		"a misspelt key": {
			"upstream:\n  conect_timeout: 5s\n",
			"x.yaml:2: upstream.conect_timeout is not a key: did you mean upstream.connect_timeout?",
		},
		"a key of another section": {
			"allow_private: [10.0.0.0/8]\n",
			"x.yaml:1: allow_private is not a key: did you mean upstream.allow_private?",
		},
		"a misspelt section is named once, where it begins": {
			"upstreem:\n  conect_timeout: 5s\n  ca_fil: x\n",
			"x.yaml:1: upstreem is not a key: did you mean upstream?",
		},
		"a key like no other": {
			"log:\n  rotation_schedule: weekly\n",
			"x.yaml:2: log.rotation_schedule is not a key: the keys here are level, format, events",
		},
		"a key that differs in case": {
			"Production: true\n",
			"x.yaml:1: Production is not a key: did you mean production?",
		},
		"a key with a dot": {
			"log.level: info\n",
			"x.yaml:1: log.level is written with a dot: write the section's name and a colon, and the key below it, indented",
		},
		"a key given twice": {
			"production: true\nlisten: 127.0.0.1:1\nproduction: false\n",
			"x.yaml:3: production was given before, on line 1: keep one of the two",
		},
		"a section given twice": {
			"log: {level: info}\nlog: {format: json}\n",
			"x.yaml:2: log was given before, on line 1: keep one of the two",
		},
		"a value for a section": {
			"upstream: none\n",
			"x.yaml:1: upstream is a section, not a value: put its keys below it, indented",
		},
		"a section for a value": {
			"listen:\n  address: 127.0.0.1\n",
			"x.yaml:2: listen is a key, not a section: write an IP address and a port, such as 127.0.0.1:3128",
		},
		"a list for a value": {
			"data_dir: [a]\n",
			"x.yaml:1: data_dir is a list: write a directory's path",
		},
		"a value for a list": {
			"upstream:\n  allow_private: 10.0.0.0/8\n",
			"x.yaml:2: upstream.allow_private is not a list: write it in brackets, with commas: networks, such as 10.0.0.0/8 or fd00::/8",
		},
		"a list in a list": {
			"upstream:\n  allow_private:\n    - [10.0.0.0/8]\n",
			"x.yaml:3: upstream.allow_private holds a list: write networks, such as 10.0.0.0/8 or fd00::/8",
		},
		"the line of a list's wrong item": {
			"upstream:\n  allow_private:\n    - 10.0.0.0/8\n    - 10.0.0.0/33\n",
			"x.yaml:4: upstream.allow_private is not a network: write an address and a prefix length, such as 10.0.0.0/8 or fd00::/8",
		},
		"a comma does not make two items of one": {
			"upstream:\n  allow_private: ['10.0.0.0/8,fd00::/8']\n",
			"x.yaml:2: upstream.allow_private is not a network: write an address and a prefix length, such as 10.0.0.0/8 or fd00::/8",
		},
		"a key without a value": {
			"listen:\n",
			"x.yaml:1: listen has no value: give it one, or remove the line to keep the default",
		},
		"a number where text belongs": {
			"listen: 3128\n",
			"x.yaml:1: listen is a number: write an IP address and a port, such as 127.0.0.1:3128",
		},
		"text where a truth value belongs": {
			"production: yes\n",
			"x.yaml:1: production is text: write true or false",
		},
		"a truth value in quotes": {
			"production: 'true'\n",
			"x.yaml:1: production is text: write true or false",
		},
		"text where a number belongs": {
			"limits:\n  connections: many\n",
			"x.yaml:2: limits.connections is text: write a whole number from 1 to 1000000",
		},
		"a number that YAML would read as octal": {
			"limits:\n  connections: 0100\n",
			"x.yaml:2: limits.connections is not a whole number from 1 to 1000000: write one, without separators or leading zeros",
		},
		"a tag of one's own": {
			"data_dir: !env HOME\n",
			"x.yaml:1: data_dir is a tag or a date: write a directory's path",
		},
		"a duration without a unit": {
			"limits:\n  head_timeout: 10\n",
			"x.yaml:2: limits.head_timeout is not a duration: write a number and its unit, such as 500ms, 10s, 5m or 72h",
		},
		"a deadline that is switched off": {
			"limits:\n  head_timeout: 0s\n",
			"x.yaml:2: limits.head_timeout is out of bounds: write a duration from 1ms to 24h",
		},
		"an alias": {
			"data_dir: &d /data\nlog: {events: *d}\n",
			"x.yaml:1: data_dir uses an anchor: write the value itself, in quotes where it begins with * or &\n" +
				"x.yaml:2: log.events uses an anchor: write the value itself, in quotes where it begins with * or &",
		},
		"an alias of nothing": {
			"data_dir: *canary\n",
			"x.yaml:1: the file refers to an anchor that it does not have: write the value itself, in quotes where it begins with *",
		},
		"a merge": {
			"<<: {production: true}\n",
			"x.yaml:1: << is not a key: the keys here are data_dir, listen, listen_tls, admin, metrics, master_key, production, unmatched, key_exchange, upstream, limits, log, events, certificates, idle_exit",
		},
		"something that is not a key is not repeated": {
			"log:\n  'https://bob:canary@example.com': 1\n",
			"x.yaml:2: log holds something that is not a key: the keys here are level, format, events",
		},
		"a second document": {
			"production: true\n---\nproduction: false\n",
			"x.yaml:2: the file holds a second document: remove the line \"---\"",
		},
		"a list for a file": {
			"- listen\n",
			"x.yaml:1: the file does not hold keys and values: write lines such as \"listen: 127.0.0.1:3128\"",
		},
		"a bracket that is never closed": {
			"log: {level: info}\nupstream:\n  allow_private: [10.0.0.0/8\n",
			"x.yaml:3: upstream.allow_private is not YAML: did not find expected ',' or ']': look at its colon, indentation, quotes and brackets",
		},
		"a quote that is never closed": {
			"data_dir: \"/data\nlisten: 127.0.0.1:3128\n",
			"x.yaml:2: listen is not YAML: found unexpected end of stream while scanning a quoted scalar that begins on line 1: look at its colon, indentation, quotes and brackets",
		},
		"a tab for indentation": {
			"log:\n\tlevel: info\n",
			"x.yaml:2: log.level is not YAML: found character that cannot start any token: look at its colon, indentation, quotes and brackets",
		},
		"two colons": {
			"master_key: file: /key\n",
			"x.yaml:1: master_key is not YAML: mapping values are not allowed in this context: look at its colon, indentation, quotes and brackets",
		},
		"bytes that are not UTF-8": {
			"production: true\ndata_dir: \"\xff\"\n",
			"x.yaml:2: the file holds bytes that are not UTF-8 text: save it as UTF-8",
		},
		"several errors at once, in the order of the file": {
			"listen: here\nproduction: maybe\nupstream:\n  http3: true\n",
			"x.yaml:1: listen is not an IP address and a port: write 127.0.0.1:3128 or [::1]:3128, or 0.0.0.0:3128 for every interface\n" +
				"x.yaml:2: production is text: write true or false\n" +
				"x.yaml:4: upstream.http3 is not a key: did you mean upstream.http2?",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parse("x.yaml", []byte(tt.text))
			if err == nil {
				t.Fatal("was accepted")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Error(diff)
			}
			if _, ok := errors.AsType[*attache.FieldError](err); !ok {
				t.Errorf("%T holds no FieldError", err)
			}
		})
	}
}

func TestLoadIsBounded(t *testing.T) {
	tests := map[string]struct {
		text string
		want string // in the last line of the error
	}{
		"a file over 1 MiB is not parsed": {
			"# " + strings.Repeat("x", 1<<20),
			"x.yaml: is over 1 MiB, which no config file needs: give the right file",
		},
		"a file of errors is not read to its end": {
			strings.Repeat("nonsense: 1\n", 50_000),
			"x.yaml: more errors follow; only the first 20 are shown",
		},
		"a billion laughs are not expanded": {
			"a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a]\nlog: {events: *b}\n",
			"x.yaml:3: log.events uses an anchor: write the value itself, in quotes where it begins with * or &",
		},
		"a million brackets end at the parser's depth": {
			"data_dir: " + strings.Repeat("[", 1<<19),
			"x.yaml:1: data_dir is not YAML: exceeded max depth of 10000: look at its colon, indentation, quotes and brackets",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parse("x.yaml", []byte(tt.text))
			if err == nil {
				t.Fatal("was accepted")
			}
			lines := strings.Split(err.Error(), "\n")
			if got := lines[len(lines)-1]; got != tt.want {
				t.Errorf("last error\n got %s\nwant %s", got, tt.want)
			}
			if len(lines) > 21 {
				t.Errorf("%d errors", len(lines))
			}
		})
	}
}

func TestLoadReadsFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "my.yaml")
	if err := os.WriteFile(path, []byte("production: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path); err != nil || !c.Production {
		t.Errorf("production %v, error %v", c.Production, err)
	}
	missing := filepath.Join(dir, "missing.yaml")
	if _, err := Load(missing); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(fmt.Sprint(err), missing) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Example)
	f.Add("upstream: {proxy: 'http://bob:canary@example.com:1', allow_private: [10.0.0.0/8]}")
	f.Add("data_dir: &a x\nlog: *a\n? [x]\n: - y\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse("x.yaml", []byte(text))
		if err != nil {
			if c.Listen.IsValid() {
				t.Error("a config came with an error")
			}
			return
		}
		// Every accepted value is within its key's bounds.
		for _, k := range Keys() {
			if k.Secret {
				continue
			}
			again := c
			if err := k.Set(&again, k.Text(&c)); err != nil {
				t.Errorf("%s was accepted as %q, which is refused: %v", k.Name, k.Text(&c), err)
			}
		}
	})
}
