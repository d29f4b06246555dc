package policy

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"attache"
)

// DNS's own limits (RFC 1035, section 2.3.4), without the trailing dot.
const maxHost, maxLabel = 253, 63

const (
	wildcard   = "*."
	acePrefix  = "xn--"
	anyHostFix = "write the host alone, such as api.example.com or *.example.com"
	isAddress  = "is an IP address"
	addressFix = "a connection is for a host name, which its certificate proves"
	tooLong    = "is longer than 253 characters"
)

// ParseAllowedDomain accepts a host name, or "*." and a host name, and brings it
// to canonical form: lower case, A-labels, no trailing dot. Two labels at the
// least, no IP address, no wildcard over a public suffix.
func ParseAllowedDomain(s string) (attache.AllowedDomain, error) {
	const field = "allowed_domain"
	if err := checkBareDomain(field, s); err != nil {
		return "", err
	}
	typed, wild := strings.CutPrefix(s, wildcard)
	if strings.Contains(typed, "*") || wild && typed == "" {
		return "", refuse(field, "has a wildcard elsewhere than in its first two characters",
			"write *. in front of a whole domain, such as *.example.com")
	}
	host, err := parseHost(field, typed)
	if err != nil {
		return "", err
	}
	if endsInNumber(host) {
		return "", refuse(field, isAddress, addressFix)
	}
	if err := checkLabels(field, host); err != nil {
		return "", err
	}
	if wild && coversSuffix(host) {
		return "", refuse(field, "is a wildcard over a public suffix, below which anybody can own a name",
			"name a domain below it, such as *.example.com")
	}
	if !strings.Contains(host, ".") {
		return "", refuse(field, "has only one label", "write a full name, with a dot, such as api.example.com")
	}
	if wild {
		return attache.AllowedDomain(wildcard + host), nil
	}
	return attache.AllowedDomain(host), nil
}

// checkBareDomain tells people who pasted a URL which part of it to leave out.
func checkBareDomain(field, s string) error {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	switch {
	case s == "":
		return refuse(field, "is empty", anyHostFix)
	case strings.Contains(s, "://"):
		return refuse(field, "has a scheme", anyHostFix)
	case strings.ContainsAny(s, "/?#"):
		return refuse(field, "has a path", anyHostFix)
	case strings.Contains(s, "@"):
		return refuse(field, "has a user name", anyHostFix)
	case err == nil:
		return refuse(field, isAddress, addressFix)
	case strings.Contains(s, ":"):
		return refuse(field, "has a port", "leave it out, and give it as an allowed port")
	}
	return nil
}

// checkLabels holds an allowed domain to the letters, digits and inner hyphens
// of a valid host name (RFC 1123, section 2.1). Targets are given more room, for
// names with other characters resolve and have to pass.
func checkLabels(field, host string) error {
	for label := range strings.SplitSeq(host, ".") {
		if strings.Contains(label, "_") || label[0] == '-' || label[len(label)-1] == '-' {
			return refuse(field, "has a label that is not letters, digits and hyphens between them", anyHostFix)
		}
	}
	return nil
}

// coversSuffix reports whether *.host stands directly above a public suffix:
// host is one, or, by a rule of the list such as *.compute.amazonaws.com, every
// name one label below host is. The probing label is one that no exception of
// the list has.
func coversSuffix(host string) bool {
	return isPublicSuffix(host) || strings.Contains(host, ".") && isPublicSuffix("0."+host)
}

func isPublicSuffix(host string) bool {
	suffix, _ := publicsuffix.PublicSuffix(host)
	return suffix == host
}

// Covers reports whether a credential for d may go to the host, which must be
// canonical as in [attache.Target]. A wildcard covers its own base and every
// name below, at any depth.
func Covers(d attache.AllowedDomain, host string) bool {
	base, wild := strings.CutPrefix(string(d), wildcard)
	if host == base {
		return base != ""
	}
	below, ok := strings.CutSuffix(host, base)
	return wild && ok && base != "" && len(below) > 1 && below[len(below)-1] == '.'
}

// parseHost brings a host name to canonical form. It does no more than look at
// a name that has it already, as almost every name of a request does.
func parseHost(field, s string) (string, error) {
	if isPlainHost(s) {
		return s, nil
	}
	if len(s) > utf8.UTFMax*(maxHost+1) { // no shorter in A-labels, and IDNA takes time by the square
		return "", refuse(field, tooLong, "")
	}
	host := strings.ToLower(s)
	if !isASCII(s) || hasALabel(host) {
		var err error
		// idna takes a byte that is not UTF-8 for U+FFFD, and encodes that.
		if host, err = idna.Lookup.ToASCII(s); err != nil || !utf8.ValidString(s) {
			return "", refuse(field, "is not a valid internationalized domain name", "")
		}
	}
	host = strings.TrimSuffix(host, ".")
	if host == "" {
		return "", refuse(field, "is empty", "")
	}
	if len(host) > maxHost {
		return "", refuse(field, tooLong, "")
	}
	for label := range strings.SplitSeq(host, ".") {
		switch {
		case label == "":
			return "", refuse(field, "has an empty label", "write one dot between two labels")
		case len(label) > maxLabel:
			return "", refuse(field, "has a label longer than 63 characters", "")
		case strings.ContainsFunc(label, notInHost):
			return "", refuse(field, "has a character that no host name has", "")
		}
	}
	return host, nil
}

// isPlainHost reports whether s is a canonical host name that IDNA has no say in.
func isPlainHost(s string) bool {
	if len(s) == 0 || len(s) > maxHost {
		return false
	}
	start := 0
	for i := range len(s) {
		if s[i] != '.' {
			if notInHost(rune(s[i])) {
				return false
			}
			continue
		}
		if !isPlainLabel(s[start:i]) {
			return false
		}
		start = i + 1
	}
	return isPlainLabel(s[start:])
}

func isPlainLabel(label string) bool {
	return label != "" && len(label) <= maxLabel && !strings.HasPrefix(label, acePrefix)
}

func notInHost(r rune) bool {
	return (r < 'a' || 'z' < r) && (r < '0' || '9' < r) && r != '-' && r != '_'
}

// hasALabel reports whether one of the labels claims to be an A-label
// (RFC 5890, section 2.3.2.1).
func hasALabel(host string) bool {
	return strings.HasPrefix(host, acePrefix) || strings.Contains(host, "."+acePrefix)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// endsInNumber reports whether resolvers may take the host for an IPv4 address
// (the "ends in a number" check of the WHATWG's URL standard): its last label is
// decimal, or hexadecimal after 0x.
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}
