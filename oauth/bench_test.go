package oauth_test

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"time"

	"attache"
	"attache/oauth"
	"attache/secret"
)

const many = 100_000

// records are connections as a store reports them.
func records(n int) []*attache.Connection {
	all := make([]*attache.Connection, n)
	now := time.Now()
	for i := range all {
		issued := now.Add(-time.Duration(i%60) * time.Minute)
		all[i] = &attache.Connection{
			Integration: "integration" + strconv.Itoa(i%100), Name: "connection" + strconv.Itoa(i), Type: attache.OAuth, OAuthClient: "example",
			Grant: &attache.Grant{
				State: attache.GrantActive, AccessToken: secret.New("a"), RefreshToken: secret.New("r"),
				IssuedAt: issued, ExpiresAt: issued.Add(2 * time.Hour), Generation: 1,
			},
		}
	}
	return all
}

func learned(all []*attache.Connection) *oauth.Keeper {
	k := oauth.NewKeeper(oauth.NewEndpoint(oauth.EndpointOptions{}), newDisk(), oauth.KeeperOptions{})
	for i := range 100 {
		c := client()
		c.Integration = "integration" + strconv.Itoa(i)
		k.Changed(attache.Change{OAuthClient: &c})
	}
	for _, c := range all {
		k.Changed(attache.Change{Connection: c})
	}
	return k
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// perConnection is the memory that a keeper takes beyond the records.
func perConnection(all []*attache.Connection) float64 {
	before := heap()
	k := learned(all)
	after := heap()
	runtime.KeepAlive(k)
	return float64(after-before) / float64(len(all))
}

func TestAConnectionTakesUnder200Bytes(t *testing.T) {
	all := records(many)
	if got := perConnection(all); got > 200 {
		t.Errorf("%.0f bytes for each connection", got)
	}
	runtime.KeepAlive(all)
}

// BenchmarkStart is a start with 100,000 connections.
func BenchmarkStart(b *testing.B) {
	all := records(many)
	for b.Loop() {
		learned(all)
	}
	b.ReportMetric(perConnection(all), "B/connection")
}

// BenchmarkFresh is a request with a valid token among 100,000 connections.
func BenchmarkFresh(b *testing.B) {
	all := records(many)
	k := learned(all)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := k.Fresh(context.Background(), all[i%many], 0); err != nil {
				b.Error(err)
			}
		}
	})
}
