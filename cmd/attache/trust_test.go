package main

import (
	"context"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"attache/certs"
)

func testBundle(t *testing.T) (bundle string, all []*certificate) {
	t.Helper()
	for range 2 {
		made, err := certs.NewAuthority(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		bundle += string(made.PEM())
	}
	all, err := parseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	return bundle, all
}

func TestTheTrustStoreOfASystem(t *testing.T) {
	_, all := testBundle(t)
	for sentence, c := range map[string]struct {
		goos, dir          string
		name               string   // of the store, empty where it is not known
		install, uninstall []string // in the scripts, in this order
	}{
		"Debian has a directory and a command": {"linux", "/usr/local/share/ca-certificates", "Debian, Ubuntu or Alpine",
			[]string{"set -eu", "cat >/usr/local/share/ca-certificates/" + all[0].file, all[0].pem, all[1].pem, "update-ca-certificates --fresh"},
			[]string{"rm -f /usr/local/share/ca-certificates/" + all[0].file, "update-ca-certificates --fresh"}},
		"Fedora has another": {"linux", "/etc/pki/ca-trust/source/anchors", "Fedora or RHEL",
			[]string{"cat >/etc/pki/ca-trust/source/anchors/" + all[0].file, "update-ca-trust extract"},
			[]string{"rm -f /etc/pki/ca-trust/source/anchors/" + all[1].file, "update-ca-trust extract"}},
		"Arch has a third": {"linux", "/etc/ca-certificates/trust-source/anchors", "Arch Linux",
			[]string{"cat >/etc/ca-certificates/trust-source/anchors/" + all[0].file, "update-ca-trust"},
			[]string{"rm -f /etc/ca-certificates/trust-source/anchors/" + all[0].file, "update-ca-trust"}},
		"openSUSE has a fourth": {"linux", "/etc/pki/trust/anchors", "openSUSE",
			[]string{"cat >/etc/pki/trust/anchors/" + all[0].file}, []string{"rm -f /etc/pki/trust/anchors/" + all[0].file}},
		"macOS has a keychain": {"darwin", "", "macOS",
			[]string{all[0].pem, "security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain"},
			[]string{"security delete-certificate -t -Z " + all[0].sha1 + " /Library/Keychains/System.keychain"}},
		"Windows has certutil": {"windows", "", "Windows",
			[]string{all[0].pem, "certutil -addstore -f ROOT"}, []string{"certutil -delstore ROOT " + all[1].sha1}},
		"another Linux has none that is known":  {"linux", "/etc/else", "", nil, nil},
		"another system has none that is known": {"plan9", "", "", nil, nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			store, ok := systemTrust(c.goos, func(path string) bool { return path == c.dir })
			if ok != (c.name != "") || store.name != c.name {
				t.Fatalf("the trust store is %q, %v", store.name, ok)
			}
			if !ok {
				return
			}
			for script, lines := range map[string][]string{store.install(all): c.install, store.uninstall(all): c.uninstall} {
				rest := script
				for _, line := range lines {
					var found bool
					if _, rest, found = strings.Cut(rest, line); !found {
						t.Errorf("%q is missing, or not in its place, in\n%s", line, script)
					}
				}
			}
		})
	}
}

func TestTheScriptsOfADirectoryWork(t *testing.T) {
	_, all := testBundle(t)
	dir := t.TempDir()
	refreshed := filepath.Join(dir, "refreshed")
	store := anchorDirectory("a test", dir, "touch "+refreshed)
	run := func(script string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), store.shell[0], append(store.shell[1:], script)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := os.Remove(refreshed); err != nil {
			t.Error(err)
		}
	}
	run(store.install(all))
	run(store.install(all))
	for _, c := range all {
		text, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil || string(text) != c.pem {
			t.Errorf("%s is %q, %v", c.file, text, err)
		}
	}
	run(store.uninstall(all))
	run(store.uninstall(all))
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v are left", left, err)
	}
}

// TestNothingButCertificatesReachesTheScript: the bundle comes from a server,
// and the script runs as root.
func TestNothingButCertificatesReachesTheScript(t *testing.T) {
	bundle, all := testBundle(t)
	block, _ := pem.Decode([]byte(bundle))
	with := "EOF\ntouch /tmp/owned\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})) + "$(touch /tmp/owned)\n"
	parsed, err := parseBundle(with)
	if err != nil || len(parsed) != 1 || parsed[0].pem != all[0].pem {
		t.Errorf("the certificates are %v, %v", parsed, err)
	}
	for sentence, bundle := range map[string]string{
		"nothing":                  "",
		"no PEM":                   "EOF\ntouch /tmp/owned\n",
		"PEM of no certificate":    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"a certificate cut in two": bundle[:200],
	} {
		if all, err := parseBundle(bundle); err == nil {
			t.Errorf("%s is read as %v", sentence, all)
		}
	}
}

func TestInstallingIsRootsAndSaysHow(t *testing.T) {
	var out strings.Builder
	a := &app{in: strings.NewReader(""), out: &out, err: &out, lookup: emptyEnvironment}
	code := a.execute(context.Background(), []string{"ca", "install", "--data-dir", filepath.Join(t.TempDir(), "none")})
	if code != exitFailure {
		t.Errorf("the exit code is %d", code)
	}
	if os.Geteuid() == 0 && !strings.HasPrefix(out.String(), "attache: there is no CA in root's data directory") ||
		os.Geteuid() != 0 && !strings.Contains(out.String(), "attache ca install --print | sudo") {
		t.Errorf("it says %q", out.String())
	}
}

func emptyEnvironment(string) (string, bool) { return "", false }
