package store

import (
	"context"
	"fmt"
	"testing"

	"attache"
)

// BenchmarkLoad opens a database of 100,000 connections and hands all to a
// subscriber: what a start of the program waits for.
func BenchmarkLoad(b *testing.B) {
	const size = 100_000
	ctx := context.Background()
	o := Options{Dir: b.TempDir()}
	s, err := Open(ctx, o)
	if err != nil {
		b.Fatal(err)
	}
	err = s.update(ctx, func(c change) ([]attache.Change, error) {
		if err := c.save(integrations, "bot", integrationRecord{}); err != nil {
			return nil, err
		}
		for i := range size {
			name := fmt.Sprintf("connection-%d", i)
			if err := c.save(connections, ownedBy("bot")+name, newConnectionRecord(apiKey("bot", name, name))); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	if err != nil {
		b.Fatal(err)
	}
	bytes := s.Stats().Size
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Open(ctx, o)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		if _, err := s.Subscribe(ctx, func(attache.Change) { n++ }); err != nil || n != size+1 {
			b.Fatal(n, err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(bytes)/size, "file-B/connection")
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
