package attache_test

import (
	"fmt"
	"os"
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
