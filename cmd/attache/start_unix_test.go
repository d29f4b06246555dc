//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"attache"
	"attache/configs"
	"attache/secret"
	"attache/store"
)

// BenchmarkStart is a start of the server with 100,000 connections of type oauth,
// up to where it would serve: the store is verified and unsealed, and all that
// follows it knows what is in it. min-CPU-s is processor time, of all threads, of
// the start that took least: what else the machine does can only add to it.
//
// To make the database takes a transaction for each connection, which is faster
// where syncing costs nothing: TMPDIR=/dev/shm go test -bench Start.
func BenchmarkStart(b *testing.B) {
	const size = 100_000
	ctx, dir := context.Background(), b.TempDir()
	fillWithOAuth(b, dir, size)
	a := &app{out: io.Discard, err: io.Discard, lookup: environment(nil)}
	cfg := configs.Default()
	cfg.DataDir = dir
	cfg.Listen = netip.AddrPortFrom(cfg.Listen.Addr(), 0)
	cfg.Admin.Listen, cfg.Metrics.Listen = cfg.Listen, cfg.Listen
	least := time.Duration(math.MaxInt64)
	for b.Loop() {
		runtime.GC() // what the iteration before has left is not this one's
		before := processorTime()
		s, err := a.newServer(ctx, cfg, slog.New(slog.DiscardHandler))
		least = min(least, processorTime()-before)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		if n := s.data.live.Current().Connections(); n != size {
			b.Fatalf("%d connections", n)
		}
		if err := s.close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(least.Seconds(), "min-CPU-s")
}

// processorTime is what the process has used until now.
func processorTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // fails for no valid argument
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// fillWithOAuth makes connections that somebody has authorized, for a hundred
// integrations.
func fillWithOAuth(b *testing.B, dir string, size int) {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	token := strings.Repeat("t", 60)
	const owners = 100
	for i := 0; i < size && err == nil; i++ {
		bot := fmt.Sprintf("bot-%d", i%owners)
		if i < owners {
			err = errors.Join(
				s.CreateIntegration(ctx, attache.Integration{Name: bot, CreatedAt: now}),
				s.CreateOAuthClient(ctx, attache.OAuthClient{
					Integration: bot, Name: "crm", GrantType: attache.AuthorizationCode, ClientID: "id", ClientSecret: secret.New("secret"),
					AuthURL: "https://id.example.com/authorize", TokenURL: "https://id.example.com/token", CreatedAt: now, UpdatedAt: now,
				}),
			)
		}
		err = errors.Join(err, s.CreateConnection(ctx, attache.Connection{
			Integration: bot, Name: fmt.Sprintf("connection-%d", i), Type: attache.OAuth, OAuthClient: "crm",
			AllowedDomain: attache.AllowedDomain(fmt.Sprintf("api-%d.example.com", i)), AllowedPorts: []uint16{443},
			Grant: &attache.Grant{
				State: attache.GrantActive, AccessToken: secret.New(token), RefreshToken: secret.New(token), TokenType: "Bearer", Scope: "read write",
				IssuedAt: now, ExpiresAt: now.Add(time.Hour), Generation: 1,
			},
			CreatedAt: now, UpdatedAt: now,
		}))
	}
	if err := errors.Join(err, s.Close()); err != nil {
		b.Fatal(err)
	}
}
