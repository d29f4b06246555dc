package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"attache/certs"
	"attache/configs"
	"attache/secret"
)

// environment stands in for os.LookupEnv.
func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func TestWhatDoesNotGoThroughTheProxy(t *testing.T) {
	for sentence, c := range map[string]struct {
		before map[string]string
		want   string
	}{
		"this machine":                         {nil, ""},
		"a name and what is below it":          {map[string]string{"NO_PROXY": "x.org"}, "x.org,.x.org"},
		"the same from either form":            {map[string]string{"NO_PROXY": ".x.org", "no_proxy": "x.org"}, "x.org,.x.org"},
		"of a wildcard, what is below":         {map[string]string{"NO_PROXY": "*.x.org"}, "x.org,.x.org"},
		"both variables":                       {map[string]string{"NO_PROXY": "x.org", "no_proxy": "y.org"}, "x.org,.x.org,y.org,.y.org"},
		"names between commas and spaces":      {map[string]string{"NO_PROXY": "x.org, y.org z.org"}, "x.org,.x.org,y.org,.y.org,z.org,.z.org"},
		"a name without its port":              {map[string]string{"NO_PROXY": "x.org:8080"}, "x.org,.x.org"},
		"an address has nothing below":         {map[string]string{"NO_PROXY": "10.1.2.3,fd00::1,[fd00::2]:80"}, "10.1.2.3,fd00::1,fd00::2"},
		"not everything":                       {map[string]string{"NO_PROXY": "*"}, ""},
		"no network":                           {map[string]string{"NO_PROXY": "10.0.0.0/8"}, ""},
		"not what is there already, once more": {map[string]string{"NO_PROXY": "localhost,127.0.0.1,::1"}, ""},
		"no half of a wildcard":                {map[string]string{"NO_PROXY": "ex*.org"}, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			a := &app{lookup: environment(c.before)}
			got := a.noProxy()
			want := "localhost,127.0.0.1,::1"
			if c.want != "" {
				want += "," + c.want
			}
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			again := &app{lookup: environment(map[string]string{"NO_PROXY": got, "no_proxy": got})}
			if twice := again.noProxy(); twice != got {
				t.Errorf("a run within a run has %s", twice)
			}
		})
	}
}

func TestTheProxysURL(t *testing.T) {
	g := grant{proxyURL: "https://127.0.0.1:3128", user: "support-bot.tickets", token: secret.New("att_x")}
	if got, err := g.url(); err != nil || got != "https://support-bot.tickets:att_x@127.0.0.1:3128" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := (grant{proxyURL: "127.0.0.1:3128"}).url(); err == nil {
		t.Error("a URL without a scheme is taken")
	}
}

// awkward are values that shells could take for something else.
func awkward(t *rapid.T) string {
	return rapid.StringOf(rapid.SampledFrom([]rune("ab 'é\"$`\\!#;&|<>(){}[]*?~=%^\t/:.,-_’"))).Draw(t, "value")
}

func TestAShellReadsBackWhatWasMeant(t *testing.T) {
	sh, _ := shellOf("sh")
	rapid.Check(t, func(t *rapid.T) {
		value := awkward(t)
		script := sh.script([]variable{{name: "HTTPS_PROXY", value: value}, {name: "ALL_PROXY", unset: true}})
		cmd := exec.Command("sh", "-c", script+`printf '%s|%s' "$HTTPS_PROXY" "${ALL_PROXY-none}"`)
		cmd.Env = []string{"ALL_PROXY=x"}
		out, err := cmd.Output()
		if err != nil || string(out) != value+"|none" {
			t.Fatalf("of %q it reads %q, %v", value, out, err)
		}
	})
}

func TestEachShellHasItsOwnWay(t *testing.T) {
	vars := []variable{{name: "A", value: `it's a "$x" \ ’`}, {name: "B", value: "http://u:p@127.0.0.1:1"}, {name: "C", unset: true}}
	for name, want := range map[string]string{
		"sh":         "export A='it'\\''s a \"$x\" \\ ’'\nexport B=http://u:p@127.0.0.1:1\nunset C\n",
		"fish":       "set -gx A 'it\\'s a \"$x\" \\\\ ’'\nset -gx B 'http://u:p@127.0.0.1:1'\nset -e C\n",
		"powershell": "$env:A = 'it''s a \"$x\" \\ ’’'\n$env:B = 'http://u:p@127.0.0.1:1'\nRemove-Item Env:C -ErrorAction SilentlyContinue\n",
		"dotenv":     "A=\"it's a \\\"\\$x\\\" \\\\ ’\"\nB=http://u:p@127.0.0.1:1\nC=\n",
	} {
		sh, ok := shellOf(name)
		if !ok || !slices.Contains(shellNames, name) {
			t.Fatalf("%s is no shell", name)
		}
		if diff := cmp.Diff(want, sh.script(vars)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestAnEnvironmentIsCompleted(t *testing.T) {
	got := applied([]string{"A=1", "B=2", "C=3", "B=4", "odd"}, []variable{{name: "B", value: "x=y"}, {name: "C", unset: true}})
	if diff := cmp.Diff([]string{"A=1", "odd", "B=x=y"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOurOwnSecretsAreNotPassedOn(t *testing.T) {
	environ := []string{"ATTACHE_ADMIN_TOKEN=1", "ATTACHE_ADMIN_TOKEN_FILE=2", "ATTACHE_UPSTREAM_PROXY=3", "MASTER=4", "PATH=5"}
	if diff := cmp.Diff([]string{"PATH=5"}, withoutOwn(environ, configs.Config{MasterKey: "env:MASTER"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCredentialsAreFoundByTheirNames(t *testing.T) {
	for name, want := range map[string]bool{
		"OPENAI_API_KEY": true, "GITHUB_TOKEN": true, "AWS_SECRET_ACCESS_KEY": true, "npm_config__auth": true, "DB_PASSWORD": true,
		"STRIPE_SECRET": true, "GITLAB_PAT": true, "token": true,
		"SECRET_KEY": true, "SECRET_KEY_BASE": true, "PGPASSWORD": true, "MYSQL_PWD": true, "DB_PASS": true, "STRIPE_KEY": true,
		"OPENAI_API_KEY_2": true, "OPENAI_API_KEY2": true, "npm_config_//registry.npmjs.org/:_authToken": true, "API_KEY": true, "PASSWORD": true,
		"PASSPHRASE": true, "KEY": true, "TOKENS": true, "OPENAI_API_KEYS": true, "API_TOKEN_V2": true, "PGPASS": true, "JWT": true, "SESSION_COOKIE": true,
		"SECRET_2": true, "GOOGLE_CREDENTIALS": true, "V2": false, "": false, "_": false, "COMPASS": false, "MONKEYS": false,
		"PWD": false, "OLDPWD": false, "SSH_ASKPASS": false, "AWS_ACCESS_KEY_ID": false, "GOOGLE_APPLICATION_CREDENTIALS": false, "JWT_PUBLIC_KEY": false,
		"PATH": false, "HOME": false, "KEYBOARD": false, "SSH_AUTH_SOCK": false, "TOKENIZERS_PARALLELISM": false, "GITHUB_TOKEN_FILE": false,
	} {
		if got := isCredential(name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestCredentialsAreScrubbedFromValues(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "key.pem"), "x")
	const canary = "canary"
	for variable, want := range map[string]string{
		"GITHUB_TOKEN=" + canary:                                            placeholder,
		"SECRET_KEY=/" + canary:                                             placeholder, // as base64 may begin
		"TLS_KEY=" + file:                                                   file,
		"GITHUB_TOKEN=":                                                     "",
		"DATABASE_URL=postgres://app:canary@db:1/x?y=z":                     "postgres://app:" + placeholder + "@db:1/x?y=z",
		"REDIS_URL=redis://:canary@cache":                                   "redis://:" + placeholder + "@cache",
		"DATABASE_URL=postgres://app:can#ary@db:1/x":                        placeholder,
		"DATABASE_URL=postgres://app@db/x":                                  "postgres://app@db/x",
		"BROKER=amqp://u:canary@a//;amqp://u:canary@b//":                    "amqp://u:" + placeholder + "@a//;amqp://u:" + placeholder + "@b//",
		"CACHES=redis://:canary@a:1,redis://:canary@b:1":                    "redis://:" + placeholder + "@a:1,redis://:" + placeholder + "@b:1",
		"PIP_EXTRA_INDEX_URL=https://a:canary@x/s https://c:canary@y/s?%zz": "https://a:" + placeholder + "@x/s https://c:" + placeholder + "@y/s?%zz",
		"JDBC=jdbc:postgresql://u:canary@db/x":                              "jdbc:postgresql://u:" + placeholder + "@db/x",
		"SITE=https://example.com:8080/@someone?a=b%20c":                    "https://example.com:8080/@someone?a=b%20c",
		`CONFIG={"url":"https://someone@example.com"}`:                      `{"url":"https://someone@example.com"}`,
		"MAIL=someone@example.com":                                          "someone@example.com",
	} {
		name, value, _ := strings.Cut(variable, "=")
		if got := harmless(name, value); got != want {
			t.Errorf("of %s there is %s, want %s", variable, got, want)
		}
	}
}

// newCertificate is a new one, in PEM.
func newCertificate(t *testing.T) string {
	t.Helper()
	ca, err := certs.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return string(ca.PEM())
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// countOf is how often each of the certificates is in a file.
func countOf(t *testing.T, path string, certificates ...string) []int {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var counts []int
	for _, c := range certificates {
		counts = append(counts, strings.Count(string(content), c))
	}
	return counts
}

func TestBundles(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	ours, theirs, third := newCertificate(t), newCertificate(t), newCertificate(t)
	file := write(t, filepath.Join(elsewhere, "roots.pem"), "# theirs\n"+theirs+"# and once more\n"+theirs)
	write(t, filepath.Join(elsewhere, "hashed", "one.pem"), theirs)
	write(t, filepath.Join(elsewhere, "hashed", "two.pem"), strings.TrimSpace(third))
	d, err := newRunDir(grant{dir: dir, ca: ours})
	if err != nil {
		t.Fatal(err)
	}
	bundle := func(d *runDir, system bool, others ...string) string {
		t.Helper()
		path, err := d.bundle(system, namedBySome(others)...)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}

	path := bundle(d, false, file)
	if got := countOf(t, path, ours, theirs); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("ours and theirs: %v", got)
	}
	if again := bundle(d, false, file); again != path {
		t.Errorf("the same file has two bundles: %s, %s", path, again)
	}
	if got := countOf(t, bundle(d, false, filepath.Join(elsewhere, "hashed")), ours, theirs, third); !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("ours and a directory's: %v", got)
	}
	if got := countOf(t, bundle(d, false), ours, "BEGIN"); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("ours alone: %v", got)
	}
	system := bundle(d, true)
	if countOf(t, system, ours)[0] != 1 {
		t.Errorf("%s lacks ours", system)
	}
	both := bundle(d, true, file)
	if got, want := countOf(t, both, ours, theirs, "BEGIN"), []int{1, 1, countOf(t, system, "BEGIN")[0] + 1}; !slices.Equal(got, want) {
		t.Errorf("ours, theirs and the system's: %v, want %v", got, want)
	}
	if slices.Contains([]string{path, system}, both) || system == path {
		t.Errorf("two bundles have one name: %s, %s, %s", path, system, both)
	}
	if _, err := d.bundle(false, namedFile{filepath.Join(elsewhere, "missing.pem"), "SOME"}); err == nil || !strings.HasPrefix(err.Error(), "SOME: ") || !strings.Contains(err.Error(), "missing.pem") {
		t.Errorf("a missing file: %v", err)
	}

	// A run within a run, after our CA was rotated.
	fresh := newCertificate(t)
	inner, err := newRunDir(grant{dir: dir, ca: fresh})
	if err != nil {
		t.Fatal(err)
	}
	if nested := bundle(inner, false, path); nested != path {
		t.Errorf("a run within a run makes another file: %s", nested)
	}
	if got := countOf(t, path, ours, theirs, fresh); !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("within a run: %v", got)
	}
}

func TestFilesThatNobodyUsedInAMonthGo(t *testing.T) {
	dir := t.TempDir()
	old := write(t, filepath.Join(dir, "run", "ca-old.pem"), "x")
	kept := write(t, filepath.Join(dir, "run", "ca-new.pem"), "x")
	long := time.Now().Add(-runFileLife - time.Hour)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(kept, long, long); err != nil {
		t.Fatal(err)
	}
	d := &runDir{path: filepath.Join(dir, "run"), done: map[string]bool{}}
	if err := d.write(kept, []byte("x")); err != nil {
		t.Fatal(err)
	}
	d.sweep()
	left, err := os.ReadDir(d.path)
	if err != nil || len(left) != 1 || left[0].Name() != "ca-new.pem" {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestConfigurationFilesKeepWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	own := write(t, filepath.Join(dir, "home", ".wgetrc"), "timeout = 7")
	a := &app{lookup: environment(map[string]string{"HOME": filepath.Join(dir, "home"), "PHP_INI_SCAN_DIR": "/etc/php"})}
	d, err := newRunDir(grant{dir: dir, ca: newCertificate(t)})
	if err != nil {
		t.Fatal(err)
	}
	vars, err := a.clientConfigs(d, "/roots.pem")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range vars {
		got[v.name] = v.value
	}
	content, err := os.ReadFile(got["WGETRC"])
	if want := "timeout = 7\n" + ours + "ca_certificate = /roots.pem\n"; err != nil || string(content) != want {
		t.Errorf("wget reads %q, %v", content, err)
	}
	if want := "/etc/php" + string(filepath.ListSeparator) + filepath.Join(dir, "run", "php"); got["PHP_INI_SCAN_DIR"] != want {
		t.Errorf("php scans %s", got["PHP_INI_SCAN_DIR"])
	}
	nested := &app{lookup: environment(got)}
	again, err := nested.clientConfigs(d, "/roots.pem")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(vars, again, cmp.AllowUnexported(variable{})); diff != "" {
		t.Errorf("a run within a run (-once +twice):\n%s", diff)
	}
	if unchanged, err := os.ReadFile(own); err != nil || string(unchanged) != "timeout = 7" {
		t.Errorf("the user's own file is %q, %v", unchanged, err)
	}
}

func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIdle()
		const after = time.Minute
		step := func(d time.Duration) {
			t.Helper()
			<-time.After(d)
			if i.over(after) {
				t.Fatal("it ends too early")
			}
		}
		step(59 * time.Second)
		i.touch(time.Now())
		step(59 * time.Second)
		one, _ := i.begin()
		two, ok := i.begin()
		if !ok {
			t.Fatal("a server that is in use takes nobody")
		}
		one()
		step(time.Hour)
		two()
		step(59 * time.Second)
		<-time.After(time.Second)
		if !i.over(after) {
			t.Error("it goes on after its time")
		}
		if _, ok := i.begin(); ok {
			t.Error("somebody can come after its end")
		}
	})
}

func TestALogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "server.log")
	f, err := openBoundedFile(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 29) + "\n"
	for range 1000 {
		if n, err := f.Write([]byte(line)); err != nil || n != len(line) {
			t.Fatal(n, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		sizes[e.Name()] = info.Size()
	}
	if want := map[string]int64{"server.log": 30, "server.log.old": 90}; !maps.Equal(sizes, want) {
		t.Errorf("the files are %v, want %v", sizes, want)
	}
}

func TestAddressesToDial(t *testing.T) {
	for listening, want := range map[string]string{
		"127.0.0.1:1": "127.0.0.1:1", "192.0.2.1:1": "192.0.2.1:1", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "127.0.0.1:1", "[::1]:1": "[::1]:1", "": "",
	} {
		if got := reachable(listening); got != want {
			t.Errorf("for %q: %q, want %q", listening, got, want)
		}
	}
	for _, c := range []struct{ api, listening, want string }{
		{"https://attache.example.com", "0.0.0.0:3128", "attache.example.com:3128"},
		{"https://attache.example.com:8443", "[::]:3128", "attache.example.com:3128"},
		{"http://[::1]:3129", "[::]:3128", "[::1]:3128"},
		{"https://attache.example.com", "192.0.2.1:3128", "192.0.2.1:3128"},
		{"", "0.0.0.0:3128", "127.0.0.1:3128"},
		{"", "127.0.0.1:3128", "127.0.0.1:3128"},
		{"http://localhost:3129", "127.0.0.1:3128", "127.0.0.1:3128"},
		{"http://[::1]:3129", "127.0.0.1:3128", "127.0.0.1:3128"},
		{"https://attache.example.com", "127.0.0.1:3128", ""}, // that is another machine's
		{"https://192.0.2.1", "[::1]:3128", ""},
	} {
		got, err := seenFrom(c.api, c.listening)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("from %q, %q is %q, %v, want %q", c.api, c.listening, got, err, c.want)
		}
	}
}
