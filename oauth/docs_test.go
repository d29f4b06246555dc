package oauth

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"attache"
)

// ownCodes are the error codes in failure.go that begin with Code.
func ownCodes(t *testing.T) (codes []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "failure.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Code") {
			code, _ := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			codes = append(codes, code)
		}
		return true
	})
	return codes
}

// TestThePageOfOAuthHasEveryStateAndFailure holds the tables of docs/oauth.md
// against what there is: each state has a row, and each error code one that tells
// its state and what to do.
func TestThePageOfOAuthHasEveryStateAndFailure(t *testing.T) {
	page, err := os.ReadFile("../docs/oauth.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (.+) \| (.+) \| (.+) \|$`).FindAllStringSubmatch(string(page), -1)
	named := regexp.MustCompile("`([a-z0-9_]+)`")
	states := map[string]string{} // by what the first column names
	for _, row := range rows {
		for _, name := range named.FindAllStringSubmatch(row[1], -1) {
			if states[name[1]] != "" {
				t.Errorf("docs/oauth.md has %s twice", name[1])
			}
			states[name[1]] = row[2]
		}
	}
	for _, s := range []attache.GrantState{
		attache.GrantPending, attache.GrantActive, attache.GrantRefreshing, attache.GrantRetrying, attache.GrantConfigError, attache.GrantNeedsReauth, attache.GrantMoved,
	} {
		if states[string(s)] == "" {
			t.Errorf("docs/oauth.md has no row for the state %s", s)
		}
	}
	for _, code := range ownCodes(t) {
		if states[code] == "" {
			t.Errorf("docs/oauth.md has no row for %s", code)
		}
	}
	for code, kind := range kinds {
		want := map[Kind]string{GrantRefused: "`needs_reauthorization`", ClientRefused: "`config_error`", Pending: "as it was", SlowDown: "as it was"}[kind]
		if states[code] != want {
			t.Errorf("docs/oauth.md has %q for %s, want %q", states[code], code, want)
		}
	}
}
