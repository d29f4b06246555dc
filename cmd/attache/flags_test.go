package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLifetimes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "24h": day, "1d": day, "30d": 30 * day, "1h30m": 90 * time.Minute, "36500d": maxLifetime,
	} {
		var l lifetime
		if err := l.Set(text); err != nil || time.Duration(l) != want {
			t.Errorf("%q is %v, %v; want %v", text, time.Duration(l), err, want)
		}
	}
	for _, text := range []string{"", "d", "soon", "0", "0d", "0h", "-1h", "-1d", "1.5d", "36501d", "99999999d", "876001h", "1d1h", "+1d", " 1d"} {
		var l lifetime
		if err := l.Set(text); err == nil {
			t.Errorf("%q is accepted as %v", text, time.Duration(l))
		}
	}
}

func TestALifetimeEnds(t *testing.T) {
	now := time.Now()
	if end := lifetime(0).from(now); !end.IsZero() {
		t.Errorf("for ever ends at %v", end)
	}
	if end := lifetime(day).from(now); !end.Equal(now.Add(24 * time.Hour)) {
		t.Errorf("a day from %v ends at %v", now, end)
	}
}

func TestPorts(t *testing.T) {
	var p ports
	for _, text := range []string{"443", "8443,1", "65535"} {
		if err := p.Set(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	if want := (ports{443, 8443, 1, 65535}); !slices.Equal(p, want) || p.String() != "443,8443,1,65535" {
		t.Errorf("the ports are %v, want %v", p, want)
	}
	for _, text := range []string{"", "0", "65536", "-1", "https", "443,", "0x1bb", " 443"} {
		var p ports
		if err := p.Set(text); err == nil {
			t.Errorf("%q is accepted as %v", text, p)
		}
	}
}

func TestAChoiceIsOneOfItsWords(t *testing.T) {
	value := asTable
	c := choice[format]{&value, []format{asTable, asJSON, asYAML}}
	if err := c.Set("json"); err != nil || value != asJSON {
		t.Errorf("the value is %q, %v", value, err)
	}
	for _, text := range []string{"", "JSON", "xml", "json "} {
		err := c.Set(text)
		if err == nil || value != asJSON {
			t.Fatalf("%q is accepted, or the value changed to %q", text, value)
		}
		if !strings.HasSuffix(err.Error(), "table, json, yaml") {
			t.Errorf("%v does not say what is accepted", err)
		}
	}
}
