package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"attache/configs"
)

// maxBypassed bounds how many connections a warning names.
const maxBypassed = 3

// warnOfBypass says in a line which connections are of no use to clients, because
// they reach those hosts without the proxy: NO_PROXY was set before, and what it
// excepts stays excepted. What keeps it from being found out keeps nobody from
// going on.
func (a *app) warnOfBypass(ctx context.Context, cfg configs.Config, who identity) {
	excepted := a.exceptedNames()
	if len(excepted) == 0 {
		return
	}
	c, err := a.runningAPI(ctx, cfg)
	if err != nil {
		return
	}
	defer c.Close()
	var because, of []string
	for one, err := range c.Connections(ctx, who.integration) {
		if err != nil {
			return
		}
		at := slices.IndexFunc(excepted, func(name string) bool { return excepts(name, string(one.AllowedDomain)) })
		if at < 0 || who.connection != "" && who.connection != one.Name {
			continue
		}
		if !slices.Contains(because, excepted[at]) {
			because = append(because, excepted[at])
		}
		if of = append(of, fmt.Sprintf("%s (%s)", one.Name, one.AllowedDomain)); len(of) > maxBypassed {
			of[maxBypassed] = "others"
			break
		}
	}
	if len(of) > 0 {
		a.warn("NO_PROXY has %s, so that clients go past the proxy, and get no credential, where these connections are for: %s; take it out of NO_PROXY to change that",
			strings.Join(because, ", "), strings.Join(of, ", "))
	}
}

// exceptedNames are the names, each with all below it, that a NO_PROXY which was
// set before excepts from the proxy, beside this machine's.
func (a *app) exceptedNames() []string {
	var names []string
	for name := range strings.SplitSeq(a.noProxy(), ",") {
		if below, ok := strings.CutPrefix(name, "."); ok { // as noProxy writes each name a second time
			names = append(names, below)
		}
	}
	return names
}

// excepts tells whether a name in NO_PROXY is, or has below it, a host that an
// allowed domain covers.
func excepts(name, domain string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	domain, wild := strings.CutPrefix(domain, "*.")
	below := func(host, of string) bool { return host == of || strings.HasSuffix(host, "."+of) }
	return below(domain, name) || wild && below(name, domain)
}
