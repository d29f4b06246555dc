package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
)

// squidHelper makes certificates for squid. Debian has a squid without it, which cannot
// intercept.
const squidHelper = "/usr/lib/squid/security_file_certgen"

// startSquid starts squid that intercepts everything. It keeps no copy of an
// answer and writes no access log.
func startSquid(ctx context.Context, b *bed) (*proxy, error) {
	dir, err := os.MkdirTemp(b.dir, "squid-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	certificates := filepath.Join(dir, "certificates")
	if out, err := exec.CommandContext(ctx, squidHelper, "-c", "-s", certificates, "-M", "16MB").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", squidHelper, err, out)
	}
	config := fmt.Sprintf(`
http_port 127.0.0.1:%d ssl-bump tls-cert=%s generate-host-certificates=on dynamic_cert_mem_cache_size=16MB
sslcrtd_program %s -s %s -M 16MB
ssl_bump bump all
tls_outgoing_options cafile=%s
hosts_file %s
acl others dstdomain .bench.test
request_header_access Authorization deny all
request_header_add Authorization "%s" others
http_access allow localhost
cache deny all
access_log none
cache_log %s
pid_filename %s
coredump_dir %s
cache_effective_user proxy
shutdown_lifetime 1 second
`, port, filepath.Join(dir, "ca.pem"), squidHelper, certificates, b.caFile(), filepath.Join(dir, "hosts"), credential,
		filepath.Join(dir, "log"), filepath.Join(dir, "pid"), dir)
	if err := writeFiles(dir, map[string]string{
		"squid.conf": config, "ca.pem": b.authority.Certificate + b.authority.Key, "hosts": "127.0.0.1 " + host + "\n",
	}); err != nil {
		return nil, err
	}
	if err := giveToSquid(b, dir); err != nil {
		return nil, err
	}
	// Its shared memory is called after the service, and another squid may run here.
	service := fmt.Sprintf("bench%d", port)
	return b.foreign(program{
		Path: find("squid"), Args: []string{"-N", "-d1", "-n", service, "-f", filepath.Join(dir, "squid.conf")}, Dir: dir, Log: filepath.Join(dir, "printed"),
	}, port)
}

// giveToSquid lets squid write to its directory, also where root starts it, when
// it becomes another user.
func giveToSquid(b *bed, dir string) error {
	if os.Getuid() != 0 {
		return nil
	}
	proxy, err := user.Lookup("proxy")
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(proxy.Uid)
	if err != nil {
		return err
	}
	return errors.Join(os.Chmod(b.dir, 0o711), filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(name, uid, -1))
	}))
}

// mitmproxyAddon sets the field, and finds the origin on loopback.
const mitmproxyAddon = `
from mitmproxy import http

def server_connect(data):
    data.server.address = ("127.0.0.1", data.server.address[1])

def requestheaders(flow: http.HTTPFlow):
    flow.request.headers["Authorization"] = %q
`

func startMitmproxy(_ context.Context, b *bed) (*proxy, error) {
	dir, err := os.MkdirTemp(b.dir, "mitmproxy-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	if err := writeFiles(dir, map[string]string{
		"addon.py": fmt.Sprintf(mitmproxyAddon, credential), "mitmproxy-ca.pem": b.authority.Key + b.authority.Certificate,
	}); err != nil {
		return nil, err
	}
	return b.foreign(program{
		Path: find("mitmdump"),
		Args: []string{
			"--quiet", "--listen-host", "127.0.0.1", "--listen-port", fmt.Sprint(port),
			"--set", "confdir=" + dir, "--set", "ssl_verify_upstream_trusted_ca=" + b.caFile(),
			"--scripts", filepath.Join(dir, "addon.py"),
		},
		Env: []string{"HOME=" + dir}, Dir: dir, Log: filepath.Join(dir, "log"),
	}, port)
}

// foreign starts somebody else's forward proxy, which listens on a port and signs
// with the bench's CA.
func (b *bed) foreign(p program, port int) (*proxy, error) {
	c, pid, err := keep(p, func() error { return listens(port) })
	if err != nil {
		return nil, err
	}
	r := b.route()
	r.Proxy = fmt.Sprintf("127.0.0.1:%d", port)
	return &proxy{route: r, pid: pid, stop: c.end}, nil
}
