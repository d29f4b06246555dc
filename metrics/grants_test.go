package metrics_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/metrics"
)

// granted is the change that puts the grant of the connection "crm" in a state.
func granted(s attache.GrantState) attache.Change {
	return attache.Change{Connection: &attache.Connection{
		Integration: "default", Name: "crm", Type: attache.OAuth,
		Grant: &attache.Grant{State: s, ExpiresAt: time.Unix(2_000_000_000, 0)},
	}}
}

func TestHowGrantsStand(t *testing.T) {
	const expiry = `attache_oauth_token_expiry_timestamp_seconds{connection="crm",integration="default"} 2e+09`
	call := func(code attache.Code, took float64) attache.Event {
		return attache.Event{Kind: attache.GrantEvent, Integration: "default", Connection: "crm", Code: code, Duration: took}
	}
	for name, c := range map[string]struct {
		changes []attache.Change
		events  []attache.Event
		want    []string
	}{
		"a connection without a grant is pending": {
			[]attache.Change{{Connection: &attache.Connection{Integration: "default", Name: "crm", Type: attache.OAuth}}}, nil,
			[]string{`attache_oauth_connection_state{connection="crm",integration="default",state="pending"} 1`},
		},
		"the last state is the one that counts": {
			[]attache.Change{granted(attache.GrantActive), granted(attache.GrantRefreshing), granted(attache.GrantRetrying)}, nil,
			[]string{`attache_oauth_connection_state{connection="crm",integration="default",state="retrying"} 1`, expiry},
		},
		"calls count by what became of them, and changes without a call do not": {
			nil, []attache.Event{call("", 0.1), call("", 0.1), call("invalid_grant", 0.1), call("", 0)},
			[]string{
				`attache_oauth_refreshes_total{connection="crm",integration="default",result="failure"} 1`,
				`attache_oauth_refreshes_total{connection="crm",integration="default",result="success"} 2`,
			},
		},
		"nothing is left of a connection that was deleted": {
			[]attache.Change{granted(attache.GrantActive), {Deleted: true, Connection: &attache.Connection{Integration: "default", Name: "crm"}}}, nil, nil,
		},
		"nor of one whose integration was": {
			[]attache.Change{granted(attache.GrantActive), {Deleted: true, Integration: &attache.Integration{Name: "default"}}}, nil, nil,
		},
		"other types have no grant": {
			[]attache.Change{{Connection: &attache.Connection{Integration: "default", Name: "key", Type: attache.APIKey}}}, nil, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := observing(metrics.Options{})
			for _, e := range c.events {
				m.Record(&e)
			}
			for _, ch := range c.changes {
				m.Changed(ch)
			}
			got := series(t, m, "attache_oauth_connection_state", "attache_oauth_token_expiry", "attache_oauth_refreshes_total")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
		})
	}
}
