package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"attache/secret"
)

func TestWhatWeShipWaitsForTheServerToEnd(t *testing.T) {
	for file, patience := range map[string]struct {
		grace string
		times int
	}{
		"configs/attache.service": {`\bTimeoutStopSec=(\d+)s\b`, 1},
		"README.md":               {`\bdocker run .*--stop-timeout (\d+)\b`, 1},
		"docs/container.md":       {`(?:--stop-timeout|docker stop -t|stop_grace_period:|terminationGracePeriodSeconds:) (\d+)(?:s?\b)`, 5},
	} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(patience.grace).FindAllSubmatch(text, -1)
		if len(found) != patience.times {
			t.Errorf("%s says %d times how long to wait, want %d", file, len(found), patience.times)
		}
		for _, f := range found {
			if s, _ := strconv.Atoi(string(f[1])); time.Duration(s)*time.Second <= endTimeout {
				t.Errorf("%s: %s is not longer than the %v that an end may take", file, f[0], endTimeout)
			}
		}
	}
}

// TestThePageOfClientsNamesWhatIsSet holds the tables of docs/clients.md and the
// variables of run and env to each other.
func TestThePageOfClientsNamesWhatIsSet(t *testing.T) {
	text, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	a := &app{lookup: environment(nil)}
	g := grant{proxyURL: "http://127.0.0.1:3128", user: "support-bot", token: secret.New("att_x"), ca: newCertificate(t), dir: t.TempDir()}
	files, err := a.clientFiles(g)
	if err != nil {
		t.Fatal(err)
	}
	vars, err := a.clientVariables(g, files)
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{}
	for _, v := range vars {
		set[v.name] = v.value
		if !strings.Contains(page, "`"+v.name) && !strings.Contains(page, "`"+strings.ToUpper(v.name)+"`") {
			t.Errorf("docs/clients.md does not name %s", v.name)
		}
	}
	var rows strings.Builder
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "|") {
			rows.WriteString(line)
		}
	}
	named := regexp.MustCompile("`([A-Z][A-Z_]+|npm_config_cafile|https_proxy)(?:=(1))?`").FindAllStringSubmatch(rows.String(), -1)
	if len(named) == 0 {
		t.Error("the tables name no variable")
	}
	for _, n := range named {
		if value := set[n[1]]; value == "" || n[2] != "" && value != n[2] {
			t.Errorf("docs/clients.md has %s, which is set to %q", n[0], value)
		}
	}
}

// TestTheCommandsOfThePagesAreWellFormed parses every attache command line in the
// shell blocks of the documentation as the program would: that there is such a
// command, with such flags and as many arguments.
func TestTheCommandsOfThePagesAreWellFormed(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```")
	line := regexp.MustCompile(`(?m)^attache (.*)$`)
	word := regexp.MustCompile(`'[^']*'|"[^"]*"|[^\s'"]+`)
	found := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range blocks.FindAllStringSubmatch(string(text), -1) {
			for _, l := range line.FindAllStringSubmatch(strings.ReplaceAll(block[1], "\\\n", " "), -1) {
				found++
				var words []string
				for _, w := range word.FindAllString(l[1], -1) {
					if strings.HasPrefix(w, "#") || strings.ContainsAny(w[:1], "<>|&") {
						break
					}
					words = append(words, strings.Trim(w, `'"`))
				}
				cmd, rest, err := newRoot(&app{lookup: environment(nil)}).Find(words)
				if err == nil {
					err = cmd.ParseFlags(rest)
				}
				if err == nil {
					err = errors.Join(cmd.ValidateArgs(cmd.Flags().Args()), cmd.ValidateRequiredFlags())
				}
				if err != nil {
					t.Errorf("%s: attache %s: %v", page, l[1], err)
				}
			}
		}
	}
	if found == 0 {
		t.Error("the pages have no command")
	}
}
