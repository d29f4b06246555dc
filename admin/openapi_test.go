package admin_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attache"
)

var update = flag.Bool("update", false, "write what docs/ has of the API")

func TestOpenAPIDocumentIsCurrent(t *testing.T) {
	file := filepath.Join("..", "docs", "openapi.yaml")
	now, err := start(t).api.OpenAPI()
	must(t, err)
	if *update {
		must(t, os.WriteFile(file, now, 0o644))
	}
	committed, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(committed), string(now)); diff != "" {
		t.Errorf("docs/openapi.yaml is not current; run go test ./admin -run OpenAPI -update\n%s", diff)
	}
}

// described is the part of an OpenAPI document that the tests look at.
type described struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string `json:"operationId"`
		Summary     string
		Description string
		Tags        []string
		Responses   map[string]json.RawMessage
	}
}

func (s *server) described() described {
	s.t.Helper()
	a := s.raw("GET", "/api/v1/openapi.json", "", as(s.token(attache.RoleViewer)))
	var d described
	if a.status != 200 {
		s.t.Fatalf("openapi.json answers %d: %s", a.status, a.body)
	}
	must(s.t, json.Unmarshal([]byte(a.body), &d))
	return d
}

func TestOpenAPIDescribesEveryOperation(t *testing.T) {
	d := start(t).described()
	if d.OpenAPI != "3.1.0" {
		t.Errorf("OpenAPI %s, want 3.1.0", d.OpenAPI)
	}
	seen := map[string]bool{}
	for path, methods := range d.Paths {
		for method, op := range methods {
			at := strings.ToUpper(method) + " " + path
			if op.Summary == "" || op.Description == "" || len(op.Tags) != 1 || op.OperationID == "" {
				t.Errorf("%s lacks a summary, a description, a tag or an ID: %+v", at, op)
			}
			if seen[op.OperationID] {
				t.Errorf("%s: the ID %s is not unique", at, op.OperationID)
			}
			seen[op.OperationID] = true
			for _, status := range []string{"401", "403", "429", "500"} {
				if !strings.Contains(string(op.Responses[status]), "application/problem+json") {
					t.Errorf("%s does not say that %s is a problem document", at, status)
				}
			}
		}
	}
	const operations = 3*5 + 4 + 1 + 5 + 3 + 3 + 4 + 3 + 3 + 3 + 3 // connections, oauth ones, all, OAuth clients, authorization, transfers, integrations, tokens, admin tokens, CA, observation
	if len(seen) != operations {
		t.Errorf("%d operations, want %d", len(seen), operations)
	}
}

func TestTheDocumentIsServedToManyAtOnce(t *testing.T) {
	s := start(t)
	token := as(s.token(attache.RoleViewer))
	var wg sync.WaitGroup
	for i := range 8 {
		path := []string{"/api/v1/openapi.json", "/api/v1/openapi.yaml"}[i%2]
		wg.Go(func() {
			if got := s.raw("GET", path, "", token); got.status != 200 || !strings.Contains(got.body, "create-bearer_token") {
				t.Errorf("%s: answered %d", path, got.status)
			}
		})
	}
	wg.Wait()
}
