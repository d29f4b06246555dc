package policy

import (
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"attache"
)

const (
	maxPorts      = 16
	maxCredential = 16 << 10 // bytes of one field; servers take heads of 8 to 64 KiB

	// reservedName is for the connection that the help desk's own sign-in makes.
	reservedName   = "zendesk"
	reservedDomain = attache.AllowedDomain("*.zendesk.com")
)

// CheckConnection is the one validator of a connection that is about to be
// created, and brings it to canonical form in place. That the integration and its
// OAuth client exist and the name is free, only the store can know; what an oauth
// connection has to have for its client, [CheckSubdomain].
//
// The error joins one [attache.FieldError] for each thing that is wrong.
func CheckConnection(c *attache.Connection) error {
	var errs faults
	_, err := ParseName("name", c.Name)
	errs.note(err)
	domain, err := ParseAllowedDomain(string(c.AllowedDomain))
	errs.note(err)
	if err == nil {
		c.AllowedDomain = domain
		errs.note(checkReserved(c))
	}
	errs.note(normalizePorts(c))
	errs.note(checkHeader(c))
	checkOAuth(c, &errs)
	return errors.Join(append(errs, credentialErrors(c)...)...)
}

// faults collects what is wrong with a value, to say it all at once.
type faults []error

func (f *faults) note(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

// CheckCredential is the part of [CheckConnection] that a rotation repeats: the
// credential fields are those of the connection's type, and a request can carry
// them. An oauth connection has none.
func CheckCredential(c *attache.Connection) error { return errors.Join(credentialErrors(c)...) }

func checkReserved(c *attache.Connection) error {
	base := strings.TrimPrefix(string(c.AllowedDomain), wildcard)
	if c.Name != reservedName || c.Type == attache.OAuth && Covers(reservedDomain, base) {
		return nil
	}
	return refuse("name", "is reserved for an oauth connection to zendesk.com or below it", "choose another name")
}

func normalizePorts(c *attache.Connection) error {
	if len(c.AllowedPorts) == 0 {
		c.AllowedPorts = []uint16{443}
		return nil
	}
	ports := slices.Clone(c.AllowedPorts)
	slices.Sort(ports)
	ports = slices.Compact(ports)
	if len(ports) > maxPorts {
		return refuse("allowed_ports", "has more than 16 ports", "make another connection for the others")
	}
	if ports[0] == 0 {
		return refuse("allowed_ports", "has a port that is not a number from 1 to 65535", "")
	}
	c.AllowedPorts = ports
	return nil
}

func checkHeader(c *attache.Connection) error {
	if c.Type != attache.APIKey {
		if c.HeaderName != "" {
			return refuse("header_name", "is only for connections of type api_key", "leave it out")
		}
		return nil
	}
	h, err := ParseHeaderName(string(c.HeaderName))
	if err == nil {
		c.HeaderName = h
	}
	return err
}

// credentialField is one field of a credential, and what must be true of it.
type credentialField struct {
	name  string
	of    attache.ConnectionType // the type that stores it
	value func(look func(value string) error) error
	check func(field, value string) error
}

func credentialErrors(c *attache.Connection) []error {
	switch c.Type {
	case attache.APIKey, attache.BasicAuth, attache.BearerToken, attache.OAuth:
	default:
		return []error{refuse("type", "must be api_key, basic_auth, bearer_token or oauth", "")}
	}
	var errs []error
	for _, f := range []credentialField{
		{"api_key", attache.APIKey, c.Credential.APIKey.Check, checkAPIKey},
		{"username", attache.BasicAuth, c.Credential.Username.Check, checkUsername},
		{"password", attache.BasicAuth, c.Credential.Password.Check, checkPassword},
		{"token", attache.BearerToken, c.Credential.Token.Check, checkToken},
	} {
		if err := f.errorIn(c.Type); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Type == attache.BasicAuth && c.Credential.Username.IsZero() && c.Credential.Password.IsZero() {
		errs = append(errs, refuse("username", "is empty, and so is password", "give one of them or both"))
	}
	return errs
}

// errorIn says what is wrong with the field in a connection of type t.
func (f credentialField) errorIn(t attache.ConnectionType) error {
	return f.value(func(v string) error {
		switch {
		case f.of == t && len(v) > maxCredential:
			return refuse(f.name, "is longer than 16 KiB", "")
		case f.of == t:
			return f.check(f.name, v)
		case v != "":
			return refuse(f.name, "is not stored by connections of type "+string(t), "leave it out")
		}
		return nil
	})
}

func checkAPIKey(field, v string) error {
	switch {
	case v == "":
		return refuse(field, "is empty", "")
	case strings.Trim(v, " \t") != v:
		return refuse(field, "has white space at its beginning or end, which no header can carry", "")
	case !httpguts.ValidHeaderFieldValue(v):
		return refuse(field, "has a control character, such as a line break, which no header can carry", "")
	}
	return nil
}

// checkUsername follows RFC 7617, section 2: the first colon ends the user name.
func checkUsername(field, v string) error {
	if strings.Contains(v, ":") {
		return refuse(field, "has a colon, which ends the user name in basic authentication", "")
	}
	return checkPassword(field, v)
}

func checkPassword(field, v string) error {
	if !utf8.ValidString(v) {
		return refuse(field, "is not UTF-8", "")
	}
	if strings.ContainsFunc(v, unicode.IsControl) {
		return refuse(field, "has a control character, such as a line break", "")
	}
	return nil
}

func checkToken(field, v string) error {
	if v == "" {
		return refuse(field, "is empty", "")
	}
	if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || '~' < r }) {
		return refuse(field, "has a character other than visible ASCII", "give the token alone, without the word Bearer")
	}
	return nil
}
