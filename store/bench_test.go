package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"attache"
)

// BenchmarkLoad opens a database of 100,000 connections and hands all to a
// subscriber: what a start of the program waits for.
func BenchmarkLoad(b *testing.B) {
	const size = 100_000
	for name, connection := range map[string]func(integration, name string) attache.Connection{
		"api_key": func(i, n string) attache.Connection { return apiKey(i, n, n) },
		"oauth":   func(i, n string) attache.Connection { return authorized(i, n, 1) },
	} {
		b.Run(name, func(b *testing.B) {
			ctx := context.Background()
			o := Options{Dir: b.TempDir()}
			bytes := fill(b, o, size, connection)
			for b.Loop() {
				s, err := Open(ctx, o)
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				_, err = s.Subscribe(ctx, func(c attache.Change) {
					if c.Connection != nil {
						n++
					}
				})
				if err != nil || n != size {
					b.Fatal(n, err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(bytes)/size, "file-B/connection")
		})
	}
}

// fill makes a database of so many connections, and returns its size in bytes.
func fill(b *testing.B, o Options, size int, connection func(integration, name string) attache.Connection) int64 {
	ctx := context.Background()
	s, err := Open(ctx, o)
	if err != nil {
		b.Fatal(err)
	}
	err = s.update(ctx, func(c change) ([]attache.Change, error) {
		err := errors.Join(
			c.save(integrations, "bot", integrationRecord{}),
			c.save(oauthClients, ownedBy("bot")+"client", newOAuthClientRecord(oauthClient("bot", "client"))),
		)
		for i := 0; i < size && err == nil; i++ {
			x := connection("bot", fmt.Sprintf("connection-%d", i))
			key := ownedBy(x.Integration) + x.Name
			err = c.save(connections, key, newConnectionRecord(x))
			if x.Grant != nil {
				err = errors.Join(err, c.save(grants, key, newGrantRecord(*x.Grant)))
			}
		}
		return nil, err
	})
	bytes := s.Stats().Size
	if err := errors.Join(err, s.Close()); err != nil {
		b.Fatal(err)
	}
	return bytes
}

// BenchmarkUpdateGrant is one write of one grant among 100,000, synced.
func BenchmarkUpdateGrant(b *testing.B) {
	const size = 100_000
	ctx := context.Background()
	o := Options{Dir: b.TempDir()}
	fill(b, o, size, func(i, n string) attache.Connection { return authorized(i, n, 1) })
	s, err := Open(ctx, o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for i := 0; b.Loop(); i++ {
		if _, err := refresh(ctx, s, fmt.Sprintf("connection-%d", i*7919%size)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCreateConnection is one write, synced.
func BenchmarkCreateConnection(b *testing.B) {
	ctx := context.Background()
	s, err := Open(ctx, Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.CreateIntegration(ctx, attache.Integration{Name: "bot"}); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if err := s.CreateConnection(ctx, apiKey("bot", fmt.Sprint(i), "key")); err != nil {
			b.Fatal(err)
		}
	}
}
