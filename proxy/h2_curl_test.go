package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"attache/proxy"
)

// curl asks for many things at once, some small and some larger than what it grants
// room for at first, and sends as many, over one connection.
func TestCurlAsksForManyThingsAtOnce(t *testing.T) {
	const asked = 60
	size := func(n int) int { return n * n * 60 } // up to 200 KiB
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		_, _ = w.Write(bytes.Repeat([]byte{byte(n)}, size(n)+len(body)))
	})
	w := newWorld(t, up, func(s *proxy.Settings) { s.Limits.Connections = 3 }, bearer("for-a", host))
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, w.ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{"GET": nil, "POST": {"--data-binary", strings.Repeat("x", 1000)}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			curl := exec.CommandContext(t.Context(), "curl", append([]string{
				"-sSf", "--http2", "--parallel", "--parallel-max", "50", "--max-time", "60",
				"--cacert", ca, "--proxy", w.proxyURL().String(),
				"-o", filepath.Join(dir, "#1"), "-w", "%{http_version} %{response_code}\n",
				"https://" + up.authority(host) + "/[1-" + strconv.Itoa(asked) + "]",
			}, args...)...)
			out, err := curl.CombinedOutput()
			if err != nil || strings.Count(string(out), "2 200\n") != asked {
				t.Fatalf("%v: %s", err, out)
			}
			for n := 1; n <= asked; n++ {
				got, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(n)))
				want := bytes.Repeat([]byte{byte(n)}, size(n))
				if name == "POST" {
					want = append(want, bytes.Repeat([]byte{byte(n)}, 1000)...)
				}
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("/%d: %d bytes, want %d: %v", n, len(got), len(want), err)
				}
			}
		})
	}
}
