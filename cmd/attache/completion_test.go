package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestCompletionWaitsForNobody(t *testing.T) {
	asked, over := make(chan struct{}, 10), make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-over
	}))
	defer silent.Close()
	defer close(over)
	var out bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: io.Discard, lookup: func(name string) (string, bool) {
		if name == adminTokenVariable {
			return "attadmin_x", true
		}
		return "", false
	}}
	began := time.Now()
	code := a.execute(t.Context(), []string{"__complete", "integration", "show", "--server", silent.URL, ""})
	if took := time.Since(began); took > 5*completionTimeout {
		t.Errorf("it takes %v", took)
	}
	select {
	case <-asked:
	default:
		t.Error("the server was not asked")
	}
	if want := ":4\n"; code != exitOK || out.String() != want {
		t.Errorf("it ends with %d and offers %q, want %q", code, out.String(), want)
	}
}
