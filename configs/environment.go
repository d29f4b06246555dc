package configs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"attache"
)

const (
	variablePrefix = "ATTACHE_"
	fileSuffix     = "_FILE"
	maxSecretBytes = 64 << 10
)

// ApplyEnvironment sets every key whose variable has a value; one that is set
// to nothing counts as not set. lookup is os.LookupEnv, or stands in for it.
// Errors name the variable and are joined.
func (c *Config) ApplyEnvironment(lookup func(string) (string, bool)) error {
	var errs []error
	for _, k := range Keys() {
		if err := k.fromEnvironment(c, lookup); err != nil {
			errs = append(errs, fmt.Errorf("environment: %s: %w", k.Variable(), err))
		}
	}
	return errors.Join(errs...)
}

func (k Key) fromEnvironment(c *Config, lookup func(string) (string, bool)) error {
	text, _ := lookup(k.Variable())
	if k.Secret {
		path, _ := lookup(k.Variable() + fileSuffix)
		switch {
		case path != "" && text != "":
			return &attache.FieldError{Field: k.Name, Rule: "is given twice, also by " + k.Variable() + fileSuffix, Remedy: "unset one of the two"}
		case path != "":
			return k.setFromFile(c, path)
		}
	}
	if text == "" {
		return nil
	}
	return k.Set(c, text)
}

// setFromFile sets the key from what a file holds, less one line ending.
func (k Key) setFromFile(c *Config, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", k.Name, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return fmt.Errorf("%s: %w", k.Name, err)
	}
	if len(text) > maxSecretBytes {
		return &attache.FieldError{Field: k.Name, Rule: "comes from a file of over 64 KiB", Remedy: "name a file that holds the secret alone"}
	}
	return k.Set(c, strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"))
}

// serviceLink is a variable that Kubernetes sets for a service named attache or
// attache-something.
var serviceLink = regexp.MustCompile(`_SERVICE_(HOST|PORT.*)$|_PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?$`)

// UnknownVariables warns, a sentence each, of variables that look like they were
// meant to set a key and set none. environ is os.Environ(); known are ATTACHE_
// variables that are not keys and have a reader elsewhere.
func UnknownVariables(environ []string, known ...string) []string {
	var names, sections []string
	variables := map[string]string{} // by key
	known = slices.Clone(known)
	for _, k := range Keys() {
		names = append(names, k.Name)
		variables[k.Name] = k.Variable()
		known = append(known, k.Variable())
		if k.Secret {
			known = append(known, k.Variable()+fileSuffix)
		}
		if section, _, nested := strings.Cut(k.Name, "."); nested {
			sections = append(sections, section+"_")
		}
	}
	var warnings []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		bare, ours := strings.CutPrefix(name, variablePrefix)
		if !ours || slices.Contains(known, name) || serviceLink.MatchString(name) {
			continue
		}
		near, ok := nearest(bare, names)
		inSection := func(section string) bool { return strings.HasPrefix(strings.ToLower(bare), section) }
		switch {
		case slices.Contains(known, strings.TrimSuffix(name, fileSuffix)):
			warnings = append(warnings, fmt.Sprintf("%q sets nothing: only secrets are read from files", name))
		case ok:
			warnings = append(warnings, fmt.Sprintf("%q sets nothing: did you mean %s?", name, variables[near]))
		case slices.ContainsFunc(sections, inSection):
			warnings = append(warnings, fmt.Sprintf("%q sets nothing: no key has this variable", name))
		}
	}
	return warnings
}
