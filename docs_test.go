package attache_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"attache"
	"attache/policy"
)

func readPage(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func TestTheReadmeIsShort(t *testing.T) {
	if lines := strings.Count(readPage(t, "README.md"), "\n"); lines >= 200 {
		t.Errorf("README.md has %d lines, and must have less than 200", lines)
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	relative := regexp.MustCompile(`\]\(([^):#\s]+)\)`)
	found := 0
	for _, page := range append(pages, "README.md", "SECURITY.md", "CHANGELOG.md") {
		for _, link := range relative.FindAllStringSubmatch(readPage(t, page), -1) {
			found++
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), link[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
	if found == 0 {
		t.Error("no page has a link")
	}
}

func TestTheErrorsPageHasEveryCode(t *testing.T) {
	page := readPage(t, "docs/errors.md")
	for _, c := range attache.Codes() {
		shown := c.ProxyStatus()
		if shown == "" {
			shown = "–"
		}
		if row := fmt.Sprintf("| `%s` | %d | %s |", c, c.Status(), shown); !strings.Contains(page, row) {
			t.Errorf("docs/errors.md lacks the row %s", row)
		}
	}
	if rows := strings.Count(page, "\n| `"); rows != len(attache.Codes()) {
		t.Errorf("docs/errors.md has %d rows for %d codes", rows, len(attache.Codes()))
	}
}

func TestTheStrippingPageHasEveryHeader(t *testing.T) {
	page := readPage(t, "docs/stripping.md")
	for _, h := range policy.KnownCredentialHeaders() {
		if !strings.Contains(page, "- `"+h+"`\n") {
			t.Errorf("docs/stripping.md lacks %s", h)
		}
	}
	if rows := strings.Count(page, "\n  - `"); rows != len(policy.KnownCredentialHeaders()) {
		t.Errorf("docs/stripping.md lists %d headers, not %d", rows, len(policy.KnownCredentialHeaders()))
	}
}
