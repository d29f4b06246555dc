package main

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// variable is one of a client's environment.
type variable struct {
	name, value string
	unset       bool
}

// The variables that name a file of certificates. Most replace what a client
// trusts otherwise, so that the file needs the system's roots as well; to some
// it is an addition.
var (
	replacingCAs = []string{
		"SSL_CERT_FILE",                      // OpenSSL and what uses its defaults, Go, Python's ssl and httpx, Ruby, Perl's HTTP::Tiny
		"CURL_CA_BUNDLE",                     // curl
		"GIT_SSL_CAINFO",                     // git
		"REQUESTS_CA_BUNDLE",                 // Python's requests
		"PIP_CERT",                           // pip
		"npm_config_cafile",                  // npm
		"CARGO_HTTP_CAINFO",                  // cargo
		"AWS_CA_BUNDLE",                      // AWS command line and SDKs
		"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", // gcloud
		"PERL_LWP_SSL_CA_FILE",               // Perl's LWP
		"NIX_SSL_CERT_FILE",                  // Nix
		"BUNDLE_SSL_CA_CERT",                 // Ruby's bundler
		"HEX_CACERTS_PATH",                   // Elixir's hex
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",   // gRPC's C core
		"CODEX_CA_CERTIFICATE",               // Codex
	}
	addingCAs = []string{
		"NODE_EXTRA_CA_CERTS", // Node, Bun
		"DENO_CERT",           // Deno
	}
)

// clientVariables are the variables that make clients use the proxy and trust
// its CA, beside what they say already. It writes the files that they name.
//
// Java is left out: it takes no password for a proxy from its options, so that
// setting them would only cut it off; and it prints them.
func (a *app) clientVariables(g grant) ([]variable, error) {
	proxy, err := g.url()
	if err != nil {
		return nil, err
	}
	files, err := a.clientFiles(g)
	if err != nil {
		return nil, err
	}
	vars := []variable{
		{name: "HTTPS_PROXY", value: proxy}, {name: "https_proxy", value: proxy},
		{name: "HTTP_PROXY", value: proxy}, {name: "http_proxy", value: proxy},
	}
	exceptions := a.noProxy()
	vars = append(vars,
		variable{name: "NO_PROXY", value: exceptions}, variable{name: "no_proxy", value: exceptions},
		variable{name: "ALL_PROXY", unset: true}, variable{name: "all_proxy", unset: true},
		variable{name: "NODE_USE_ENV_PROXY", value: "1"},
		variable{name: "PERL_LWP_ENV_PROXY", value: "1"},
	)
	if runtime.GOOS == "windows" {
		// There is one case of each there.
		vars = slices.DeleteFunc(vars, func(v variable) bool { return v.name != "npm_config_cafile" && v.name == strings.ToLower(v.name) })
	}
	return append(vars, files...), nil
}

// noProxy is what does not go through the proxy: this machine, and the names
// that were excepted before. Clients read this list in different ways; what all
// of them understand is names and addresses, without ports, networks or *.
func (a *app) noProxy() string {
	list := []string{"localhost", "127.0.0.1", "::1"}
	add := func(name string) {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	for _, variable := range []string{"NO_PROXY", "no_proxy"} {
		before, _ := a.lookup(variable)
		for _, name := range strings.FieldsFunc(before, func(c rune) bool { return c == ',' || c == ' ' }) {
			if host, _, err := net.SplitHostPort(name); err == nil {
				name = host
			}
			if _, err := netip.ParseAddr(name); err == nil {
				add(name)
				continue
			}
			name = strings.TrimPrefix(strings.TrimPrefix(name, "*"), ".")
			if name == "" || strings.ContainsAny(name, "*/:") {
				continue
			}
			add(name)
			if name != "localhost" {
				add("." + name)
			}
		}
	}
	return strings.Join(list, ",")
}

// clientFiles writes the files that clients read, in <data-dir>/run, and returns
// the variables that name them.
func (a *app) clientFiles(g grant) ([]variable, error) {
	d, err := newRunDir(g.dir, g.ca)
	if err != nil {
		return nil, err
	}
	openssl, _ := a.lookup("SSL_CERT_FILE")
	var vars []variable
	for _, name := range replacingCAs {
		before, _ := a.lookup(name)
		if before == "" {
			before = openssl
		}
		path, err := d.bundle(before, true)
		if err != nil {
			return nil, err
		}
		vars = append(vars, variable{name: name, value: path})
	}
	for _, name := range addingCAs {
		before, _ := a.lookup(name)
		path, err := d.bundle(before, false)
		if err != nil {
			return nil, err
		}
		vars = append(vars, variable{name: name, value: path})
	}
	roots, err := d.bundle(openssl, true)
	if err != nil {
		return nil, err
	}
	more, err := a.clientConfigs(d, roots)
	return append(vars, more...), err
}

// clientConfigs writes configuration files for clients that no variable tells
// about certificates, each with what the user's own says.
func (a *app) clientConfigs(d *runDir, roots string) ([]variable, error) {
	wgetrc, err := d.file("wgetrc", a.userWgetrc(), "ca_certificate = "+roots+"\n")
	if err != nil {
		return nil, err
	}
	before, _ := a.lookup("APT_CONFIG")
	apt := "Acquire::https::CAInfo \"" + roots + "\";\n"
	if os.Geteuid() == 0 {
		// The user _apt could not read the certificates.
		apt += "APT::Sandbox::User \"root\";\n"
	}
	aptConf, err := d.file("apt.conf", before, apt)
	if err != nil {
		return nil, err
	}
	ini, err := d.php("curl.cainfo = \"" + roots + "\"\nopenssl.cafile = \"" + roots + "\"\n")
	if err != nil {
		return nil, err
	}
	// An empty element stands for the directory that PHP was compiled with.
	scan, _ := a.lookup("PHP_INI_SCAN_DIR")
	if !slices.Contains(filepath.SplitList(scan), ini) {
		scan += string(filepath.ListSeparator) + ini
	}
	return []variable{
		{name: "WGETRC", value: wgetrc},
		{name: "APT_CONFIG", value: aptConf},
		{name: "PHP_INI_SCAN_DIR", value: scan},
	}, nil
}

// userWgetrc is the file that wget would read of the user's.
func (a *app) userWgetrc() string {
	if path, _ := a.lookup("WGETRC"); path != "" {
		return path
	}
	if home, _ := a.lookup("HOME"); home != "" {
		return filepath.Join(home, ".wgetrc")
	}
	return ""
}
