package attache_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// imports lists the packages of this module, bottom first, and which of the
// others each may import. What a package may not import is the point: policy
// sees no store, proxy sees neither store nor oauth nor admin, and nobody
// imports cmd. Tests may import what they like, but not cmd.
const imports = `
secret        -
.             secret
policy        . secret
wire          -
certs         -
audit         .
metrics       .
oauth         . secret
store         . secret
configs       . secret
proxy         . policy certs wire secret
admin         . policy oauth secret
client        . secret
cmd/attache   *
bench         client
conformance   client
`

const module = "attache"

// allowed is the table above: for each directory, those that it may import.
func allowed() map[string][]string {
	table := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(imports)) {
		fields := strings.Fields(line)
		table[fields[0]] = fields[1:]
	}
	return table
}

// source is one Go file of this module.
type source struct {
	dir, name string
	test      bool
	file      *ast.File
	positions *token.FileSet
}

// at is where a node is, for people.
func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", path.Join(s.dir, s.name), s.positions.Position(n.Pos()).Line)
}

// sources parses every Go file below root, except those of other modules.
func sources(root fs.FS) ([]source, error) {
	var all []source
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, err := fs.Stat(root, path.Join(name, "go.mod"))
			if name != "." && (err == nil || d.Name()[0] == '.' || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		positions := token.NewFileSet()
		file, err := parser.ParseFile(positions, name, text, parser.SkipObjectResolution)
		all = append(all, source{path.Dir(name), path.Base(name), strings.HasSuffix(name, "_test.go"), file, positions})
		return err
	})
	return all, err
}

// forbiddenImports says which imports the table does not allow, and which
// directories it does not list.
func forbiddenImports(s source) []string {
	may, listed := allowed()[s.dir]
	if !listed {
		return []string{path.Join(s.dir, s.name) + " is in a directory that the table does not list"}
	}
	var wrong []string
	for _, spec := range s.file.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		dir, ours := strings.CutPrefix(name, module+"/")
		switch {
		case name == module:
			dir = "."
		case !ours:
			continue
		}
		own := s.test && dir == s.dir
		anything := s.test || slices.Contains(may, "*")
		if !own && strings.HasPrefix(dir, "cmd/") || !anything && !slices.Contains(may, dir) {
			wrong = append(wrong, fmt.Sprintf("%s: %s imports %s", s.at(spec), s.dir, dir))
		}
	}
	return wrong
}

// waysOut are the two ways out of a secret.Text, and the packages and files that
// may use each. Expose is for where a record is sealed, for the endpoints of
// OAuth providers, and for where a request, or a tunnel through a parent proxy,
// is given its credential, and for the locks and keys of exports; Outgoing is for
// both ends of the admin API, for who has to be shown a new token, and for what is
// inside an export.
func waysOut() map[string][]string {
	return map[string][]string{
		"Expose":   {"secret", "store/records.go", "store/oauthrecords.go", "oauth", "proxy/fields.go", "proxy/upstream.go"},
		"Outgoing": {"secret", "admin", "client", "cmd/attache"},
	}
}

func forbiddenExposures(s source) []string {
	if s.test {
		return nil
	}
	var wrong []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if may, leads := waysOut()[sel.Sel.Name]; leads && !slices.Contains(may, s.dir) && !slices.Contains(may, path.Join(s.dir, s.name)) {
			wrong = append(wrong, s.at(n)+": a secret is exposed")
		}
		return true
	})
	return wrong
}

// forbiddenCalls finds what ends the program below a command, tests that skip,
// and code that runs before main does.
func forbiddenCalls(s source) []string {
	var wrong []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				wrong = append(wrong, s.at(n)+": init")
			}
		case *ast.CallExpr:
			name := dotted(n.Fun)
			pkg, method, _ := strings.Cut(name, ".")
			ends := name == "os.Exit" || pkg == "log" && (strings.HasPrefix(method, "Fatal") || strings.HasPrefix(method, "Panic")) ||
				// This one only tells net/http to close the connection.
				name == "panic" && dotted(n.Args[0]) != "http.ErrAbortHandler"
			skips := slices.Contains([]string{"t", "b", "f", "tb"}, pkg) && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, method)
			if !s.test && ends && s.file.Name.Name != "main" || s.test && skips {
				wrong = append(wrong, s.at(n)+": "+name)
			}
		}
		return true
	})
	return wrong
}

// dotted is an expression as it is written if it is f or x.f, and empty if not.
func dotted(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return x.Name + "." + e.Sel.Name
		}
	}
	return ""
}

// violations applies a rule to every file below root.
func violations(t *testing.T, root fs.FS, rule func(source) []string) []string {
	t.Helper()
	all, err := sources(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("there is no Go file")
	}
	var wrong []string
	for _, s := range all {
		wrong = append(wrong, rule(s)...)
	}
	return wrong
}

func TestPackagesImportWhatTheTableAllows(t *testing.T) {
	for _, v := range violations(t, os.DirFS("."), forbiddenImports) {
		t.Error(v)
	}
}

func TestSecretsAreExposedWhereTheyHaveToBe(t *testing.T) {
	for _, v := range violations(t, os.DirFS("."), forbiddenExposures) {
		t.Error(v)
	}
}

func TestNothingSkipsOrEndsTheProgramOrRunsBeforeMain(t *testing.T) {
	for _, v := range violations(t, os.DirFS("."), forbiddenCalls) {
		t.Error(v)
	}
}

// TestTheRulesCatchWhoBreaksThem applies the rules above to files that do.
func TestTheRulesCatchWhoBreaksThem(t *testing.T) {
	for sentence, c := range map[string]struct {
		rule       func(source) []string
		name, text string
		want       string // empty: no violation
	}{
		"policy may import the domain":               {forbiddenImports, "policy/a.go", `package policy; import "attache"`, ""},
		"policy may import other modules":            {forbiddenImports, "policy/a.go", `package policy; import "attachement/x"`, ""},
		"policy may not import the store":            {forbiddenImports, "policy/a.go", `package policy; import "attache/store"`, "policy/a.go:1: policy imports store"},
		"the domain may not import policy":           {forbiddenImports, "a.go", `package attache; import "attache/policy"`, "a.go:1: . imports policy"},
		"secret may not import the domain":           {forbiddenImports, "secret/a.go", `package secret; import "attache"`, "secret/a.go:1: secret imports ."},
		"a test of policy may import the store":      {forbiddenImports, "policy/a_test.go", `package policy; import "attache/store"`, ""},
		"a test may not import the command":          {forbiddenImports, "policy/a_test.go", `package policy; import "attache/cmd/attache"`, "policy/a_test.go:1: policy imports cmd/attache"},
		"the command may import the store":           {forbiddenImports, "cmd/attache/a.go", `package main; import "attache/store"`, ""},
		"bench may import the client":                {forbiddenImports, "bench/a.go", `package bench; import "attache/client"`, ""},
		"bench may not import the proxy":             {forbiddenImports, "bench/a.go", `package bench; import "attache/proxy"`, "bench/a.go:1: bench imports proxy"},
		"a new directory has to be listed":           {forbiddenImports, "util/a.go", `package util`, "util/a.go is in a directory that the table does not list"},
		"a new directory below one has to be listed": {forbiddenImports, "proxy/util/a_test.go", `package util`, "proxy/util/a_test.go is in a directory that the table does not list"},

		"where a request is completed may":    {forbiddenExposures, "proxy/fields.go", `package proxy; var x = y.Expose()`, ""},
		"the rest of the proxy may not":       {forbiddenExposures, "proxy/a.go", `package proxy; var x = y.Expose()`, "proxy/a.go:1: a secret is exposed"},
		"the API may show a new token":        {forbiddenExposures, "admin/a.go", `package admin; var x = secret.Outgoing{}`, ""},
		"the log may not":                     {forbiddenExposures, "audit/a.go", `package audit; var x = secret.Outgoing{}`, "audit/a.go:1: a secret is exposed"},
		"a test may expose":                   {forbiddenExposures, "admin/a_test.go", `package admin; var x = y.Expose()`, ""},
		"the API may not expose":              {forbiddenExposures, "admin/a.go", `package admin; var x = y.z.Expose()`, "admin/a.go:1: a secret is exposed"},
		"the API may not pass the method on":  {forbiddenExposures, "admin/a.go", `package admin; var x = y.Expose`, "admin/a.go:1: a secret is exposed"},
		"the command may not expose":          {forbiddenExposures, "cmd/attache/a.go", `package main; var x = y.Expose()`, "cmd/attache/a.go:1: a secret is exposed"},
		"the command may end the program":     {forbiddenCalls, "cmd/attache/a.go", `package main; func main() { os.Exit(1) }`, ""},
		"so may another command":              {forbiddenCalls, "bench/a.go", `package main; func main() { os.Exit(1) }`, ""},
		"no other may end the program":        {forbiddenCalls, "proxy/a.go", `package proxy; func f() { os.Exit(1) }`, "proxy/a.go:1: os.Exit"},
		"no other may end it through the log": {forbiddenCalls, "proxy/a.go", `package proxy; func f() { log.Fatalf("") }`, "proxy/a.go:1: log.Fatalf"},
		"no other may panic":                  {forbiddenCalls, "proxy/a.go", `package proxy; func f() { panic(1) }`, "proxy/a.go:1: panic"},
		"a handler may abort its request":     {forbiddenCalls, "proxy/a.go", `package proxy; func f() { panic(http.ErrAbortHandler) }`, ""},
		"no test may skip":                    {forbiddenCalls, "proxy/a_test.go", `package proxy; func f(t *testing.T) { t.Skip() }`, "proxy/a_test.go:1: t.Skip"},
		"nothing runs before main":            {forbiddenCalls, "cmd/attache/a.go", `package main; func init() {}`, "cmd/attache/a.go:1: init"},
		"a method may be called init":         {forbiddenCalls, "proxy/a.go", `package proxy; func (x) init() {}`, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			var want []string
			if c.want != "" {
				want = []string{c.want}
			}
			got := violations(t, fstest.MapFS{c.name: {Data: []byte(c.text)}}, c.rule)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}
