package main

import (
	"slices"
	"testing"
)

func TestWhatNO_PROXYExcepts(t *testing.T) {
	for sentence, c := range map[string]struct {
		name, domain string
		want         bool
	}{
		"the host itself":                      {"api.x.org", "api.x.org", true},
		"a host below":                         {"x.org", "api.x.org", true},
		"a host below, written otherwise":      {"X.org.", "api.x.org", true},
		"a host of a wildcard":                 {"api.x.org", "*.x.org", true},
		"all of a wildcard":                    {"org", "*.x.org", true},
		"what a wildcard has at its top":       {"x.org", "*.x.org", true},
		"not a host above":                     {"api.x.org", "x.org", false},
		"not a host that ends in the same way": {"x.org", "api.prefix.x.org.example", false},
		"not a name that ends in the same way": {"x.org", "not-x.org", false},
		"not another host":                     {"y.org", "*.x.org", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := excepts(c.name, c.domain); got != c.want {
				t.Errorf("NO_PROXY=%s excepts a host of %s: %v", c.name, c.domain, got)
			}
		})
	}
	a := &app{lookup: environment(map[string]string{"NO_PROXY": "localhost,10.1.2.3,*.x.org", "no_proxy": "x.org,y.org:80"})}
	if got := a.exceptedNames(); !slices.Equal(got, []string{"x.org", "y.org"}) {
		t.Errorf("the names are %q", got)
	}
}
