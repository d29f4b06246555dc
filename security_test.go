package attache_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// invariants are those of SECURITY.md by number, each with the tests that the
// page names, as "package.TestName".
func invariants(t *testing.T) map[int][]string {
	t.Helper()
	page, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| .+ \| (.*) ?\|$`)
	rows := map[int][]string{}
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		number, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		rows[number] = strings.FieldsFunc(m[2], func(c rune) bool { return strings.ContainsRune("` ,", c) })
	}
	return rows
}

// testsOf lists the tests and fuzz targets of a package's directory.
func testsOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	var names []string
	for _, f := range files {
		source, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range declaration.FindAllStringSubmatch(string(source), -1) {
			names = append(names, m[1])
		}
	}
	return names
}

func TestSecurityPageNamesTestsThatExist(t *testing.T) {
	rows := invariants(t)
	numbers := slices.Sorted(maps.Keys(rows))
	if want := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}; !slices.Equal(numbers, want) {
		t.Errorf("SECURITY.md lists the invariants %v, want %v", numbers, want)
	}
	for number, tests := range rows {
		if len(tests) == 0 {
			t.Errorf("no test holds invariant %d", number)
		}
		for _, name := range tests {
			dir, test, ok := strings.Cut(name, ".")
			if dir == "attache" {
				dir = "."
			}
			if !ok || !slices.Contains(testsOf(t, filepath.FromSlash(dir)), test) {
				t.Errorf("invariant %d names %q, which is no test: name it package.TestName", number, name)
			}
		}
	}
}
