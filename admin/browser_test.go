package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"attache"
	"attache/secret"
)

// browserLimit is for the browser to look at every page.
const browserLimit = time.Minute

// TestChromiumShowsEveryPage drives a real browser through the UI. What it needs
// is installed by .ci/install.
func TestChromiumShowsEveryPage(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	must(t, err)
	s := start(t)
	must(t, s.store.CreateIntegration(t.Context(), attache.Integration{Name: "bot", CreatedAt: time.Now()}))
	for name, domain := range map[string]attache.AllowedDomain{"tickets": "api.example.com", "wide": "*.example.com"} {
		must(t, s.store.CreateConnection(t.Context(), attache.Connection{
			Integration: "bot", Name: name, Type: attache.BearerToken, AllowedDomain: domain, AllowedPorts: []uint16{443},
			Credential: attache.Credential{Token: secret.New("fake")}, CreatedAt: time.Now(), UpdatedAt: time.Now(),
		}))
	}
	for _, e := range []attache.Event{event("/1", attache.Inject), event("/2", attache.Tunnel), event("/3", attache.Forward), event("/4", attache.Deny)} {
		s.ring.Record(&e)
	}

	ctx, cancel := context.WithTimeout(t.Context(), browserLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "ui.mjs", s.url, chromium)
	cmd.Dir = "testdata/browser"
	cmd.Stdin = strings.NewReader(s.token(attache.RoleViewer).Expose())
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "listening" {
			s.ring.Record(new(event("/live-event", attache.Inject)))
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v:\n%s", err, &complaints)
	}
}
