package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"attache/client"
)

// TestMain lets scripts call this program as attache.
func TestMain(m *testing.M) { testscript.Main(m, programs()) }

// TestScripts runs the scripts in testdata/script. Each has a home of its own,
// and no data directory until a command makes one.
func TestScripts(t *testing.T) {
	cmds := commands()
	maps.Copy(cmds, map[string]func(*testscript.TestScript, bool, []string){
		"capture":      capture,
		"await":        await,
		"fingerprints": fingerprints,
		"upstream":     upstream,
		"provider":     provide,
	})
	testscript.Run(t, testscript.Params{
		Cmds:                cmds,
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("DATA", filepath.Join(e.WorkDir, "home", ".local", "share", "attache"))
			docs, err := filepath.Abs(filepath.Join("..", "..", "docs"))
			if err != nil {
				return err
			}
			e.Setenv("DOCS", docs)
			e.Setenv("TZ", "UTC")
			e.Values[providerKey{}] = new(*provider)
			e.Setenv("GORACE", "atexit_sleep_ms=0") // or each command takes a second more
			return os.MkdirAll(filepath.Join(e.WorkDir, "home"), 0o700)
		},
	})
}

// capture sets a variable to what the last command printed, or to one field of
// the JSON that it printed: capture NAME [FIELD].
func capture(ts *testscript.TestScript, _ bool, args []string) {
	value := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(args) > 1 {
		fields := map[string]any{}
		ts.Check(json.Unmarshal([]byte(value), &fields))
		value = fmt.Sprint(fields[args[1]])
	}
	ts.Setenv(args[0], value)
}

// fingerprints sets SIGNING and OLD to those of the CA certificates that the last
// command printed as JSON.
func fingerprints(ts *testscript.TestScript, _ bool, _ []string) {
	var ca client.CA
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &ca))
	ts.Setenv("SIGNING", ca.Certificates[0].Fingerprint)
	ts.Setenv("OLD", ca.Certificates[1].Fingerprint)
}

// await waits until a file exists: await FILE.
func await(ts *testscript.TestScript, _ bool, args []string) {
	path, tick, over := ts.MkAbs(args[0]), time.NewTicker(10*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-over:
			ts.Fatalf("%s does not appear", args[0])
		}
	}
}

// upstream starts a TLS server for example.com: upstream HEADER VALUE. It answers
// 204 to requests that have the header with that value, and 401 to all others.
// It sets UPSTREAM_PORT, and UPSTREAM_CA to a file with the certificate that has
// to be trusted.
func upstream(ts *testscript.TestScript, _ bool, args []string) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(args[0]) != args[1] {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	ts.Defer(s.Close)
	_, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
	file := ts.MkAbs("upstream.pem")
	ts.Check(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	ts.Setenv("UPSTREAM_PORT", port)
	ts.Setenv("UPSTREAM_CA", file)
}
