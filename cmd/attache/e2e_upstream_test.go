package main_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"attache/certs"
)

// openHost is at the upstream, too, and no connection covers it: it wants no
// credential, and its tunnels stay closed to the proxy.
const openHost = "docs.example.test"

const greeting = "welcome"

// upstream is a TLS server on loopback for all sites and openHost. It answers
// 401 to whoever does not send exactly the stored credential, and serves what
// the clients ask for: a git repository, a Python package, an npm package, a
// list of buckets, and a greeting for all others.
type upstream struct {
	port   string
	caFile string // the only CA that vouches for it
	minter *certs.Minter

	mu       sync.Mutex // guards arrivals
	arrivals []arrival
}

// arrival is a request as it reached the upstream, and what was answered.
type arrival struct {
	exchange
	header http.Header
	raw    []byte // with its body
}

// exchange is what both the upstream and the proxy know about a request.
type exchange struct {
	Host, Method, Path string
	Status             int
	BytesIn, BytesOut  int64 // of the bodies
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	ca, err := certs.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	minter := certs.NewMinter(certs.MinterOptions{})
	minter.Use(ca)
	u := &upstream{caFile: filepath.Join(t.TempDir(), "upstream-ca.pem"), minter: minter}
	if err := os.WriteFile(u.caFile, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, greeting) })
	mux.Handle("/git/", gitBackend(t))
	mux.Handle("/pip/", pythonPackage(t))
	mux.Handle("/npm/", npmPackage(t))
	mux.HandleFunc("/aws/", listBuckets)

	srv := httptest.NewUnstartedServer(u.guard(mux))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv.TLS = &tls.Config{GetCertificate: u.certificate}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	if _, u.port, err = net.SplitHostPort(srv.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *upstream) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return u.minter.Leaf(hello.Context(), hello.ServerName)
}

// hosts are the names that the upstream answers for.
func (u *upstream) hosts() []string {
	all := []string{openHost}
	for _, s := range sites {
		all = append(all, s.host)
	}
	return all
}

// authority is a host of the upstream with the port.
func (u *upstream) authority(host string) string { return net.JoinHostPort(host, u.port) }

// guard notes what arrives, and lets through what has the site's credential.
func (u *upstream) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // one that breaks off is short
		r.Body = io.NopCloser(bytes.NewReader(body))
		head, _ := httputil.DumpRequest(r, false) // fails with the body only
		host, _, _ := net.SplitHostPort(r.Host)
		a := arrival{header: r.Header.Clone(), raw: append(head, body...), exchange: exchange{
			Host: host, Method: r.Method, Path: r.URL.Path, BytesIn: int64(len(body)),
		}}
		counting := &countingWriter{ResponseWriter: w, status: http.StatusOK}
		i := slices.IndexFunc(sites, func(s site) bool { return s.host == host })
		switch {
		case i < 0 && host != openHost:
			http.Error(counting, "no such host", http.StatusMisdirectedRequest)
		case i >= 0 && !slices.Equal(r.Header[sites[i].header], []string{sites[i].value}):
			http.Error(counting, "the credential is another", http.StatusUnauthorized)
		default:
			next.ServeHTTP(counting, r)
		}
		a.Status, a.BytesOut = counting.status, counting.bytes
		u.mu.Lock()
		defer u.mu.Unlock()
		u.arrivals = append(u.arrivals, a)
	})
}

// seen are the arrivals so far, in the order in which they were answered, of
// those that satisfy is.
func (u *upstream) seen(is func(arrival) bool) []arrival {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(u.arrivals), func(a arrival) bool { return !is(a) })
}

// countingWriter notes the status and the length of an answer.
type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *countingWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// gitBackend serves a repository over smart HTTP, /git/greeting.git.
func gitBackend(t *testing.T) http.Handler {
	t.Helper()
	git := find(t, "git", "git")
	root := t.TempDir()
	run := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), git, args...)
		cmd.Dir = root
		cmd.Env = []string{"PATH=" + programs(), "HOME=" + root}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("init", "--quiet", "work")
	if err := os.WriteFile(filepath.Join(root, "work", "greeting.txt"), []byte(greeting), 0o600); err != nil {
		t.Fatal(err)
	}
	run("-C", "work", "add", "greeting.txt")
	run("-C", "work", "-c", "user.name=t", "-c", "user.email=t@example.test", "commit", "--quiet", "-m", "greet")
	run("clone", "--quiet", "--bare", "work", "greeting.git")
	return &cgi.Handler{
		Path: filepath.Join(run("--exec-path"), "git-http-backend"), Root: "/git", Dir: root,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + root},
	}
}

// pythonPackage is an index (PEP 503) with one wheel.
func pythonPackage(t *testing.T) http.Handler {
	t.Helper()
	const wheel = "greeting-1.0-py3-none-any.whl"
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for name, content := range map[string]string{
		"greeting/__init__.py":            "",
		"greeting-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
		"greeting-1.0.dist-info/WHEEL":    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"greeting-1.0.dist-info/RECORD":   "",
	} {
		f, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(f, content) // into memory
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/pip/simple/greeting/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!DOCTYPE html><a href="/pip/%[1]s">%[1]s</a>`, wheel)
	})
	mux.HandleFunc("/pip/"+wheel, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive.Bytes()) })
	return mux
}

// npmPackage is a registry with one package.
func npmPackage(t *testing.T) http.Handler {
	t.Helper()
	const manifest = `{"name":"greeting","version":"1.0.0"}`
	var archive bytes.Buffer
	z := gzip.NewWriter(&archive)
	tape := tar.NewWriter(z)
	err := tape.WriteHeader(&tar.Header{Name: "package/package.json", Mode: 0o644, Size: int64(len(manifest))})
	_, _ = io.WriteString(tape, manifest) // into memory
	for _, err := range []error{err, tape.Close(), z.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/npm/greeting", func(w http.ResponseWriter, r *http.Request) {
		type dist struct {
			Tarball string `json:"tarball"`
		}
		type version struct {
			Name    string `json:"name"`
			Version string `json:"version"`
			Dist    dist   `json:"dist"`
		}
		_ = json.NewEncoder(w).Encode(struct {
			Name     string             `json:"name"`
			Latest   map[string]string  `json:"dist-tags"`
			Versions map[string]version `json:"versions"`
		}{"greeting", map[string]string{"latest": "1.0.0"}, map[string]version{
			"1.0.0": {"greeting", "1.0.0", dist{"https://" + r.Host + "/npm/greeting.tgz"}},
		}})
	})
	mux.HandleFunc("/npm/greeting.tgz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive.Bytes()) })
	return mux
}

func listBuckets(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, `<?xml version="1.0"?><ListAllMyBucketsResult><Buckets><Bucket><Name>%s</Name></Bucket></Buckets></ListAllMyBucketsResult>`, greeting)
}
