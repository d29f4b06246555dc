package policy

import (
	"bytes"
	"net/textproto"
	"slices"
)

// knownCredentialHeaders are headers in which clients send credentials to one
// service or another, beyond what connections name.
var knownCredentialHeaders = []string{
	"Access-Token", "Api-Key", "Api-Token", "Apikey", "Auth-Token", "Authentication", "Authorization",
	"Cf-Access-Client-Id", "Cf-Access-Client-Secret", "Circle-Token", "Client-Secret", "Dd-Api-Key",
	"Dd-Application-Key", "Deploy-Token", "Job-Token", "Ocp-Apim-Subscription-Key", "Private-Token",
	"Proxy-Authorization", "X-Access-Key", "X-Access-Token", "X-Algolia-Api-Key", "X-Amz-Security-Token",
	"X-Api-Key", "X-Api-Secret", "X-Api-Token", "X-Apikey", "X-Auth", "X-Auth-Key", "X-Auth-Token",
	"X-Authentication-Token", "X-Authorization", "X-Cisco-Meraki-Api-Key", "X-Client-Secret",
	"X-Consul-Token", "X-Figma-Token", "X-Functions-Key", "X-Gitlab-Token", "X-Goog-Api-Key",
	"X-Goog-Iam-Authorization-Token", "X-Honeycomb-Team", "X-Mbx-Apikey", "X-Nuget-Apikey",
	"X-Octopus-Apikey", "X-Postmark-Account-Token", "X-Postmark-Server-Token", "X-Rapidapi-Key",
	"X-Redmine-Api-Key", "X-Secret-Key", "X-Sentry-Auth", "X-Session-Token", "X-Shopify-Access-Token",
	"X-Subscription-Token", "X-Tableau-Auth", "X-Token", "X-Vault-Token",
}

// known holds them as [StripSet.Has] looks them up.
var known = func() map[folded]struct{} {
	set := make(map[folded]struct{}, len(knownCredentialHeaders))
	for _, h := range knownCredentialHeaders {
		f, _ := fold(h)
		set[f] = struct{}{}
	}
	return set
}()

// KnownCredentialHeaders lists the headers that are always taken out of a
// request that gets a credential, sorted.
func KnownCredentialHeaders() []string { return slices.Clone(knownCredentialHeaders) }

// StripSet is what has to go from a client's request before it gets a credential
// of the integration: the known headers, and each that any of the integration's
// connections uses, so that a client cannot add a second identity to the one that
// it was given. It is immutable; the zero StripSet holds the known headers.
type StripSet struct {
	uses trie[folded, int] // how many connections use a header that is not known
}

// Has reports whether the header has to go. Case does not matter, and '_' is
// '-', because many servers (CGI and its heirs) cannot tell them apart.
func (s *StripSet) Has(header string) bool { return s.has(fold(header)) }

// HasName is [StripSet.Has] for a name that is still in the buffer it came in.
func (s *StripSet) HasName(header []byte) bool { return s.has(fold(header)) }

func (s *StripSet) has(f folded, ok bool) bool {
	if !ok {
		return false
	}
	if _, ok := known[f]; ok {
		return true
	}
	_, ok = s.uses.get(f)
	return ok
}

// Headers lists the set in canonical spelling, sorted.
func (s *StripSet) Headers() []string {
	headers := KnownCredentialHeaders()
	for f := range s.uses.all() {
		headers = append(headers, f.String())
	}
	slices.Sort(headers)
	return headers
}

// counting is s with a connection's header counted by more times.
func (s StripSet) counting(b *batch, header string, by int) StripSet {
	f, ok := fold(header)
	if _, isKnown := known[f]; !ok || isKnown || f == (folded{}) {
		return s
	}
	n, _ := s.uses.get(f)
	if n += by; n == 0 {
		return StripSet{s.uses.without(b, f)}
	}
	return StripSet{s.uses.with(b, f, n)}
}

// folded is a header name without what servers do not distinguish. It is an
// array, so that to look one up takes no memory.
type folded [maxHeader]byte

// String is a canonical spelling of the name.
func (f folded) String() string {
	return textproto.CanonicalMIMEHeaderKey(string(bytes.TrimRight(f[:], "\x00")))
}

// fold reports false for a name that is longer than any that is looked for.
func fold[T string | []byte](header T) (folded, bool) {
	var f folded
	if len(header) > len(f) {
		return f, false
	}
	for i := range len(header) {
		switch c := header[i]; {
		case 'A' <= c && c <= 'Z':
			f[i] = c + 'a' - 'A'
		case c == '_':
			f[i] = '-'
		default:
			f[i] = c
		}
	}
	return f, true
}
