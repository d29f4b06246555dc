package admin_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"

	"attache/admin"
)

// TestTheSchemaOfExportsIsCurrent holds docs/connection-export.schema.json against
// the types that are written and read.
func TestTheSchemaOfExportsIsCurrent(t *testing.T) {
	file := filepath.Join("..", "docs", "connection-export.schema.json")
	defs := huma.NewMapRegistry("#/$defs/", huma.DefaultSchemaNamer)
	root := defs.Schema(reflect.TypeFor[admin.ExportDocument](), true, "")
	now, err := json.MarshalIndent(struct {
		Schema      string                  `json:"$schema"`
		Title       string                  `json:"title"`
		Description string                  `json:"description"`
		Ref         string                  `json:"$ref"`
		Defs        map[string]*huma.Schema `json:"$defs"`
	}{
		"https://json-schema.org/draft/2020-12/schema", "An exported connection of Attaché",
		"What is inside the age file that attache connection export writes and attache connection import reads.",
		root.Ref, defs.Map(),
	}, "", "  ")
	must(t, err)
	now = append(now, '\n')
	if *update {
		must(t, os.WriteFile(file, now, 0o644))
	}
	committed, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(committed), string(now)); diff != "" {
		t.Errorf("docs/connection-export.schema.json is not current; run go test ./admin -run Schema -update\n%s", diff)
	}
}
