package configs

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"
)

// fieldNames lists the full names of all keys that a struct's tags give.
func fieldNames(t reflect.Type, prefix string) []string {
	var names []string
	for f := range t.Fields() {
		name := prefix + f.Tag.Get("yaml")
		// Types of other packages are values, ours are sections.
		if f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == t.PkgPath() {
			names = append(names, fieldNames(f.Type, name+".")...)
			continue
		}
		names = append(names, name)
	}
	return names
}

func keyNames() []string {
	var names []string
	for _, k := range Keys() {
		names = append(names, k.Name)
	}
	return names
}

func TestTheTableListsEveryFieldOfConfigInOrder(t *testing.T) {
	if diff := cmp.Diff(fieldNames(reflect.TypeFor[Config](), ""), keyNames()); diff != "" {
		t.Errorf("struct (-) and table (+) differ:\n%s", diff)
	}
}

// TestEachKeySetsItsOwnField changes one key at a time and looks which tagged
// field moved.
func TestEachKeySetsItsOwnField(t *testing.T) {
	for _, k := range Keys() {
		c := Default()
		if err := k.Set(&c, sample(k)); err != nil {
			t.Fatalf("%s: %v", k.Name, err)
		}
		if diff := cmp.Diff([]string{k.Name}, changed(reflect.ValueOf(Default()), reflect.ValueOf(c), "")); diff != "" {
			t.Errorf("setting %s changed other fields (+):\n%s", k.Name, diff)
		}
	}
}

func changed(a, b reflect.Value, prefix string) []string {
	var names []string
	for i := range a.NumField() {
		f := a.Type().Field(i)
		name := prefix + f.Tag.Get("yaml")
		switch {
		case f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == a.Type().PkgPath():
			names = append(names, changed(a.Field(i), b.Field(i), name+".")...)
		case !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
			names = append(names, name)
		}
	}
	return names
}

// sample is a value that is not the key's default.
func sample(k Key) string {
	switch k.Name {
	case "unmatched":
		return "deny"
	case "key_exchange":
		return "hybrid"
	case "log.level":
		return "debug"
	case "log.format":
		return "json"
	case "master_key":
		return "env:KEY"
	case "admin.public_url":
		return "https://attache.example.com"
	case "upstream.proxy":
		return "http://bob:canary@proxy.example.com:3128"
	}
	c := Default()
	switch s := k.at(&c); s.kind.name {
	case "bool":
		if s.text() == "true" {
			return "false"
		}
		return "true"
	case "int":
		return "77"
	case "duration":
		return "1h1m1s"
	case "size":
		return "33KiB"
	case "address":
		return "[::1]:7777"
	case "networks":
		return "10.0.0.0/8,fd00::/8"
	case "hosts":
		return "a.example.com,b.example.com"
	case "host=address":
		return "a.example.com=192.0.2.7,b.example.com=2001:db8::7"
	default:
		return "/somewhere/else"
	}
}

// documented walks a file and returns its keys in order, each with the comment
// right above it.
func documented(t *testing.T, text string) (names []string, docs map[string]string) {
	t.Helper()
	var document yaml.Node
	if err := yaml.Load([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text, "\n")
	docs = map[string]string{}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		for i := 0; i < len(n.Content); i += 2 {
			name := prefix + n.Content[i].Value
			if n.Content[i+1].Kind == yaml.MappingNode {
				walk(name+".", n.Content[i+1])
				continue
			}
			var doc []string
			for at := n.Content[i].Line - 2; at >= 0; at-- {
				comment, ok := strings.CutPrefix(strings.TrimSpace(lines[at]), "#")
				if !ok {
					break
				}
				doc = append(doc, strings.TrimSpace(comment))
			}
			slices.Reverse(doc)
			names, docs[name] = append(names, name), strings.Join(doc, " ")
		}
	}
	walk("", document.Content[0])
	return names, docs
}

func TestTheExampleHasEveryKeyWithItsDocumentation(t *testing.T) {
	names, docs := documented(t, Example)
	if diff := cmp.Diff(keyNames(), names); diff != "" {
		t.Errorf("table (-) and attache.yaml (+) list different keys:\n%s", diff)
	}
	for _, k := range Keys() {
		if diff := cmp.Diff(k.Doc, docs[k.Name]); diff != "" {
			t.Errorf("%s is documented differently in table (-) and attache.yaml (+):\n%s", k.Name, diff)
		}
	}
}

func TestTheExampleHoldsTheDefaults(t *testing.T) {
	c, err := parse("attache.yaml", []byte(Example))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(texts(Default()), texts(c)); diff != "" {
		t.Errorf("defaults (-) and attache.yaml (+) differ:\n%s", diff)
	}
	if !reflect.DeepEqual(c, Default()) {
		t.Error("attache.yaml does not decode to Default()")
	}
}

// texts is a Config as text by key, for comparing and printing.
func texts(c Config) map[string]string {
	m := map[string]string{}
	for _, k := range Keys() {
		m[k.Name] = k.Text(&c)
	}
	return m
}

func TestNamesOfVariablesAndFlagsAreDistinctAndDerived(t *testing.T) {
	seen := map[string]string{}
	for i, f := range NewFlags() {
		k := Keys()[i]
		names := []string{k.Variable(), "--" + f.Name}
		if k.Secret {
			names = append(names, k.Variable()+"_FILE")
		}
		for _, n := range names {
			if other, taken := seen[n]; taken {
				t.Errorf("%s belongs to %s and to %s", n, other, k.Name)
			}
			seen[n] = k.Name
		}
	}
	for name, key := range map[string]string{
		"ATTACHE_UPSTREAM_ALLOW_PRIVATE": "upstream.allow_private",
		"ATTACHE_DATA_DIR":               "data_dir",
		"ATTACHE_UPSTREAM_PROXY_FILE":    "upstream.proxy",
		"--data-dir":                     "data_dir",
		"--listen":                       "listen",
		"--admin-listen":                 "admin.listen",
		"--metrics-listen":               "metrics.listen",
		"--allow-private":                "upstream.allow_private",
		"--upstream-proxy-file":          "upstream.proxy",
	} {
		if seen[name] != key {
			t.Errorf("%s sets %q, want %q", name, seen[name], key)
		}
	}
}

func TestUsageIsOneShortLine(t *testing.T) {
	for _, k := range Keys() {
		if u := k.Usage(); u == "" || len(u) > 200 || strings.ContainsAny(u, "\n`") || strings.HasSuffix(u, ".") {
			t.Errorf("%s: usage %q", k.Name, u)
		}
		if !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s: the documentation ends without a full stop", k.Name)
		}
	}
}

// TestWhatAKeyPrintsItTakes: for any text that a key accepts, what it then
// prints sets the same value again. Flags rely on it.
func TestWhatAKeyPrintsItTakes(t *testing.T) {
	var plain []Key
	for _, k := range Keys() {
		if !k.Secret {
			plain = append(plain, k)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.SampledFrom(plain).Draw(t, "key")
		text := rapid.OneOf(
			rapid.StringMatching(`[0-9]{1,6}(B|KiB|MiB|s|m|h|ms)?`),
			rapid.StringMatching(`[0-9]{1,3}h[0-9]{1,2}m([0-9]{1,2}s)?`),
			rapid.StringMatching(`10\.[0-9]\.0\.0/(16|8)(,fd00::/8)?`),
			rapid.StringMatching(`(127\.0\.0\.1|\[::1\]):[0-9]{1,5}`),
			rapid.StringMatching(`(https://a\.example\.com|http://(localhost|\[::1\]))(:[0-9]{1,5})?/?`),
			rapid.SampledFrom([]string{"true", "false", "off", "deny", "tunnel", "warn", "json", "passphrase", "file:/k", "a.example.com, b"}),
			rapid.String(),
		).Draw(t, "text")
		first, second := Default(), Default()
		if k.Set(&first, text) != nil {
			return
		}
		if err := k.Set(&second, k.Text(&first)); err != nil {
			t.Fatalf("%s takes %q, prints %q, and refuses that: %v", k.Name, text, k.Text(&first), err)
		}
		if !reflect.DeepEqual(first, second) {
			t.Fatalf("%s: %q and what it prints, %q, are two values", k.Name, text, k.Text(&first))
		}
	})
}
