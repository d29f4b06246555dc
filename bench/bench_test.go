package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the test binary play the roles that the program plays.
func TestMain(m *testing.M) {
	played, err := play(os.Args)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case !played:
		os.Exit(m.Run())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newTestBed starts an origin. Where Attaché takes part it has to be built.
func newTestBed(t *testing.T, attache string) *bed {
	t.Helper()
	b, err := newBed(attache)
	must(t, err)
	t.Cleanup(func() { must(t, b.close()) })
	return b
}

// toTest is where a bench says what it does.
type toTest struct{ *testing.T }

func (l toTest) Write(b []byte) (int, error) {
	l.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// tiny is a benchmark that measures nothing worth knowing.
func tiny() sizes {
	return sizes{rounds: 1, scale: 0.03, bulk: 1 << 20, idle: 20, few: 3, many: 10}
}

// TestEveryKindOfWork does a little of each through Attaché, and a GET through
// each proxy that is installed. The origin wants the credential in each request,
// so what is counted was done.
func TestEveryKindOfWork(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0") // there are many processes
	attache := filepath.Join(t.TempDir(), "attache")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", attache, "../cmd/attache").CombinedOutput(); err != nil {
		t.Fatalf("build attache: %v\n%s", err, out)
	}
	b := &bench{bed: newTestBed(t, attache), progress: toTest{t}}
	groups := slices.Concat(
		choose(plan(tiny()), regexp.MustCompile("^get-h[12]-16$"), regexp.MustCompile("^(direct|tunnel|attache|reencrypt|goproxy|nginx)$")),
		choose(plan(tiny()), regexp.MustCompile("^(get-h2-1x64|post|connect-(resumed|fresh)|download|upload|events|websocket|idle)"), regexp.MustCompile("^attache$")),
		choose(plan(tiny()), regexp.MustCompile("^store-get-h1-64$"), regexp.MustCompile("^store-10$")))
	must(t, b.run(t.Context(), groups))
	for _, g := range groups {
		for _, w := range g.workloads {
			for _, v := range g.variants {
				if v.missing() == "" && v.takesPart(w) {
					checkMeasured(t, &b.results, w, v)
				}
			}
		}
	}
	if share, ok := median("connect-resumed", "attache", resumed)(&b.results); !ok || share != 1 {
		t.Errorf("of the sessions with Attaché %g were resumed", share)
	}
	b.results.judge(claims(tiny()))
	checkWritten(t, &b.results)
}

func checkMeasured(t *testing.T, r *results, w workload, v variant) {
	t.Helper()
	if _, ok := r.series(w.Name, v.Name, rate).median(); !ok {
		t.Errorf("%s through %s was not measured", w.Name, v.Name)
	}
	if units := r.series(w.Name, v.Name, func(m measurement) (float64, bool) { return m.Units, true })[0]; units <= 0 {
		t.Errorf("%s through %s did %g", w.Name, v.Name, units)
	}
	if _, ok := r.series(w.Name, v.Name, resident).median(); ok == (v.Name == "direct") {
		t.Errorf("%s through %s: the memory of a proxy is known: %v", w.Name, v.Name, ok)
	}
}

// checkWritten writes results in every form.
func checkWritten(t *testing.T, r *results) {
	t.Helper()
	dir := t.TempDir()
	o := options{json: filepath.Join(dir, "r.json"), svg: filepath.Join(dir, "r.svg"), markdown: filepath.Join(dir, "r.md")}
	must(t, os.WriteFile(o.markdown, []byte("before\n"+beginMark+"\nstale\n"+endMark+"\nafter\n"), 0o600))
	must(t, r.write(o))
	must(t, r.print(io.Discard))

	text, err := os.ReadFile(o.json)
	must(t, err)
	var back results
	if must(t, json.Unmarshal(text, &back)); len(back.Measurements) != len(r.Measurements) {
		t.Errorf("of %d measurements %d are in the JSON", len(r.Measurements), len(back.Measurements))
	}
	f, err := os.Open(o.svg)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	for d := xml.NewDecoder(f); err == nil; {
		_, err = d.Token()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the chart is no XML: %v", err)
	}
	document, err := os.ReadFile(o.markdown)
	must(t, err)
	for _, want := range []string{"before\n", "after\n", "(r.svg)", "### get-h1-16\n", "| attache | "} {
		if !strings.Contains(string(document), want) {
			t.Errorf("the document lacks %q", want)
		}
	}
	if strings.Contains(string(document), "stale") {
		t.Error("the document still has the old figures")
	}
}

func TestWhoDoesNotAddTheCredentialFails(t *testing.T) {
	b := newTestBed(t, "")
	for _, w := range []workload{
		{Name: "HTTP/1.1", work: work{Kind: getKind, Workers: 1}},
		{Name: "HTTP/2", work: work{Kind: getKind, Workers: 1, HTTP2: true}},
	} {
		t.Run(w.Name, func(t *testing.T) {
			for credential, accepted := range map[string]bool{credential: true, "Bearer other": false, "": false} {
				r := b.route()
				r.Credential = credential
				l, err := newLoad(loadTask{Route: r, Work: w.work})
				must(t, err)
				err = l.open()
				if err == nil {
					_, err = l.workers[0].once()
				}
				l.close()
				if accepted != (err == nil) || err != nil && !strings.Contains(err.Error(), "403 Forbidden") {
					t.Errorf("with %q: %v", credential, err)
				}
			}
		})
	}
}

func TestNothingIsMeasuredOfAProxyThatIsGone(t *testing.T) {
	b := newTestBed(t, "")
	p, err := own("goproxy").start(t.Context(), b)
	must(t, err)
	must(t, p.stop())
	w := workload{Name: "get", work: work{Kind: getKind, Workers: 1}}
	if m, err := b.measure(w, p); err == nil {
		t.Errorf("it was measured: %+v", m)
	}
}

func TestArguments(t *testing.T) {
	for sentence, c := range map[string]struct {
		args []string
		want string
	}{
		"a workload that there is none of": {[]string{"-run", "nothing"}, "nothing matches"},
		"a variant that there is none of":  {[]string{"-variant", "nothing"}, "nothing matches"},
		"no regular expression":            {[]string{"-run", "("}, "missing closing"},
		"too many hosts":                   {[]string{"-run", "connect-", "-rounds", "5"}, "-rounds: connect-fresh and connect-mixed need 30000 hosts"},
		"an argument too many":             {[]string{"get-h1-64"}, `what is "get-h1-64"?`},
		"no binary":                        {[]string{"-attache", "nowhere"}, "make build"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if err := run(t.Context(), c.args, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestNamesAreUsedOnce(t *testing.T) {
	var names []string
	for _, g := range plan(fullSizes()) {
		for _, w := range g.workloads {
			names = append(names, w.Name)
		}
	}
	slices.Sort(names)
	if n := len(names); len(slices.Compact(names)) != n {
		t.Errorf("two workloads have one name: %v", names)
	}
}
