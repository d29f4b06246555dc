package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"attache"
)

// testPrometheus scrapes the installation with a real Prometheus, and asks it for
// what the events say.
func testPrometheus(t *testing.T, in *installation, up *upstream) {
	lint := exec.CommandContext(t.Context(), find(t, "promtool", "prometheus"), "check", "metrics")
	lint.Stdin = bytes.NewReader(get(t, "http://"+in.status.MetricsAddress+"/metrics", ""))
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}

	address := prometheus(t, in)
	for _, s := range sites {
		query := fmt.Sprintf(`sum(attache_requests_total{integration=%q,connection=%q,decision=%q,code="200"})`,
			integration, s.connection, attache.Inject)
		want := len(up.seen(func(a arrival) bool { return a.Host == s.host && a.Status == 200 }))
		var got float64
		until(t, "Prometheus counts the requests of "+s.connection, func() bool {
			got = ask(t, address, query)
			return got == float64(want)
		}, func() string { return fmt.Sprintf("%s is %v, and %d arrived", query, got, want) })
		if want == 0 {
			t.Errorf("no request of %s arrived", s.connection)
		}
	}
}

// prometheus starts a Prometheus that scrapes the installation, and returns the
// address of its API.
func prometheus(t *testing.T, in *installation) string {
	t.Helper()
	dir := t.TempDir()
	config := in.file(t, "prometheus.yml", fmt.Sprintf(`
scrape_configs:
  - job_name: attache
    scrape_interval: 200ms
    scrape_timeout: 200ms
    static_configs:
      - targets: [%q]
`, in.status.MetricsAddress))
	log := new(transcript)
	cmd := exec.CommandContext(t.Context(), find(t, "prometheus", "prometheus"),
		"--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address=127.0.0.1:0")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = []string{"PATH=" + programs(), "HOME=" + dir}
	start(t, cmd)

	listening := regexp.MustCompile(`msg="Listening on".* address=(127\.0\.0\.1:\d+)`)
	var found []string
	until(t, "Prometheus is ready", func() bool {
		if found = listening.FindStringSubmatch(log.String()); found == nil {
			return false
		}
		_, err := fetch(t.Context(), "http://"+found[1]+"/-/ready", "")
		return err == nil
	}, log.String)
	return found[1]
}

// ask is the value of a query with one result; 0 where there is none yet.
func ask(t *testing.T, address, query string) float64 {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]json.RawMessage // the time, and a number in a string
			}
		}
	}
	body := get(t, "http://"+address+"/api/v1/query?"+url.Values{"query": {query}}.Encode(), "")
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if len(answer.Data.Result) == 0 {
		return 0
	}
	var number string
	if err := json.Unmarshal(answer.Data.Result[0].Value[1], &number); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
