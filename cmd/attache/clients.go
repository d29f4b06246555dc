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

// caVariable names a file of certificates to a client, in place of what it trusts
// otherwise.
type caVariable struct {
	name string
	// instead are the variables that the client goes by where this one is not set;
	// the first that is counts.
	instead []string
	// besides are variables that count for it, beside the system's roots, where none
	// of these is set, and that would not count any more once this one is.
	besides []string
}

var (
	openSSL = []string{"SSL_CERT_FILE"}

	caVariables = []caVariable{
		{name: "SSL_CERT_FILE"}, // OpenSSL and what uses its defaults, Go, Python's ssl and httpx, Ruby, Perl's HTTP::Tiny
		{name: "CURL_CA_BUNDLE", instead: openSSL},
		{name: "GIT_SSL_CAINFO"},
		// It counts for more with pip than pip's own.
		{name: "REQUESTS_CA_BUNDLE", instead: []string{"CURL_CA_BUNDLE"}, besides: []string{"PIP_CERT"}},
		{name: "PIP_CERT", instead: []string{"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}},
		{name: "npm_config_cafile", besides: []string{"NODE_EXTRA_CA_CERTS"}},
		{name: "CARGO_HTTP_CAINFO", instead: openSSL},
		{name: "AWS_CA_BUNDLE", instead: []string{"REQUESTS_CA_BUNDLE"}},
		{name: "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE"},     // gcloud
		{name: "PERL_LWP_SSL_CA_FILE", instead: openSSL}, // Perl's LWP
		{name: "NIX_SSL_CERT_FILE", instead: openSSL},    // Nix
		{name: "BUNDLE_SSL_CA_CERT", instead: openSSL},   // Ruby's bundler
		{name: "HEX_CACERTS_PATH"},                       // Elixir's hex
		{name: "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"},       // gRPC's C core
		{name: "CODEX_CA_CERTIFICATE", instead: openSSL}, // Codex
	}

	// These name what a client trusts in addition.
	addingCAs = []string{
		"NODE_EXTRA_CA_CERTS", // Node, Bun
		"DENO_CERT",           // Deno
	}
)

// clientVariables are the variables that make clients use the proxy and trust
// its CA, beside what they say already; files are those of [app.clientFiles].
//
// Java is left out: it takes no password for a proxy from its options, so that
// setting them would only cut it off; and it prints them.
func (a *app) clientVariables(g grant, files *runDir) ([]variable, error) {
	proxy, err := g.url()
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
	return append(vars, files.vars...), nil
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

// clientFiles writes the files that clients read. It needs no access token.
func (a *app) clientFiles(g grant) (*runDir, error) {
	d, err := newRunDir(g)
	if err != nil {
		return nil, err
	}
	for _, v := range caVariables {
		path, err := a.rootsFor(v, d)
		if err != nil {
			return nil, err
		}
		d.vars = append(d.vars, variable{name: v.name, value: path})
	}
	for _, name := range addingCAs {
		path, err := d.bundle(false, a.named(name)...)
		if err != nil {
			return nil, err
		}
		d.vars = append(d.vars, variable{name: name, value: path})
	}
	// Whether the clients without a variable go by OpenSSL's depends on how they
	// were built.
	roots, err := d.bundle(true, a.named(openSSL...)...)
	if err != nil {
		return nil, err
	}
	more, err := a.clientConfigs(d, roots)
	d.vars = append(d.vars, more...)
	return d, err
}

// rootsFor is a bundle of what a client trusts without us, and our CA.
func (a *app) rootsFor(v caVariable, d *runDir) (string, error) {
	if files := a.named(append([]string{v.name}, v.instead...)...); len(files) > 0 {
		return d.bundle(false, files[0])
	}
	return d.bundle(true, a.named(v.besides...)...)
}

// named are the files that variables name, of those that are set.
func (a *app) named(variables ...string) []namedFile {
	var files []namedFile
	for _, v := range variables {
		if file, _ := a.lookup(v); file != "" {
			files = append(files, namedFile{file, v})
		}
	}
	return files
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
