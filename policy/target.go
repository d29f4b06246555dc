package policy

import (
	"net/netip"
	"strings"

	"attache"
)

// ParseTarget makes the target of a CONNECT, of a Host header or of a URL from
// its scheme, "https" or "http", and its authority, host or host:port. Without a
// port it takes the scheme's own.
//
// One host has one form: lower case, A-labels, no trailing dot; an IPv6 address
// as RFC 5952 writes it. What different programs read differently is refused:
// user information, zones, escapes, and numbers that some take for an IPv4
// address, such as 0x7f.1. Its errors name the field "target".
func ParseTarget(scheme, authority string) (attache.Target, error) {
	return parseTarget("target", scheme, authority)
}

func parseTarget(field, scheme, authority string) (attache.Target, error) {
	t := attache.Target{Scheme: scheme}
	switch scheme {
	case "https":
		t.Port = 443
	case "http":
		t.Port = 80
	default:
		return attache.Target{}, refuse(field, "has a scheme other than http and https", "")
	}
	host, port, hasPort := authority, "", false
	end := strings.LastIndexByte(authority, ']') + 1
	if i := strings.IndexByte(authority[end:], ':'); i >= 0 {
		host, port, hasPort = authority[:end+i], authority[end+i+1:], true
	}
	if hasPort {
		n, ok := parsePort(port)
		if !ok {
			return attache.Target{}, refuse(field, "has a port that is not a number from 1 to 65535", "write host:port")
		}
		t.Port = n
	}
	var err error
	if t.Host, err = parseTargetHost(field, host); err != nil {
		return attache.Target{}, err
	}
	return t, nil
}

func parseTargetHost(field, s string) (string, error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !ok || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", refuse(field, "has brackets around what is not an IPv6 address without a zone", "")
		}
		return addr.String(), nil
	}
	if strings.Contains(s, "@") {
		return "", refuse(field, "has user information", "leave it out")
	}
	host, err := parseHost(field, s)
	if err != nil {
		return "", err
	}
	if !endsInNumber(host) {
		return host, nil
	}
	// The text as it came, not as IDNA mapped it: １２７.0.0.1 is no address.
	addr, err := netip.ParseAddr(strings.TrimSuffix(s, "."))
	if err != nil {
		return "", refuse(field, "is a number that is not an IPv4 address in its usual form", "write four decimal numbers")
	}
	return addr.String(), nil
}

// parsePort is stricter than strconv: no sign, no leading zero.
func parsePort(s string) (uint16, bool) {
	if s == "" || len(s) > 5 || s[0] == '0' {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || '9' < s[i] {
			return 0, false
		}
		n = 10*n + int(s[i]-'0')
	}
	return uint16(n), n <= 65535
}
