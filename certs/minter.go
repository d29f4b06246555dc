package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// ErrNoAuthority is returned by [Minter.Leaf] before the first [Minter.Use].
var ErrNoAuthority = errors.New("no certificate authority is in use")

// errAborted is what those who waited for a mint see if its signer panicked.
var errAborted = errors.New("minting the certificate was aborted")

const (
	// defaultMaxLeaves are kept at about 4 KB each.
	defaultMaxLeaves = 10_000
	// maxLeafLife, and the hour that leaves are dated back, make 72 hours.
	maxLeafLife = 72*time.Hour - backdate
)

// MinterOptions bound a [Minter].
type MinterOptions struct {
	// MaxLeaves is how many leaves are kept; the one unused for the longest time
	// goes first. Zero means 10,000.
	MaxLeaves int
	// LeafLife is how long a leaf is valid from when it is minted. Zero, and
	// anything longer, means 71 hours: with the hour that it is dated back, 72.
	LeafLife time.Duration
}

// Stats count what became of the calls of [Minter.Leaf] since the start.
type Stats struct {
	Minted  uint64 // signed for a host that had none
	Renewed uint64 // signed for a host whose leaf was near its end
	Hits    uint64 // served without signing
	Evicted uint64 // dropped to make room
	Failed  uint64 // not signed
}

// Minter makes and keeps leaf certificates. It is safe for concurrent use.
type Minter struct {
	maxLeaves int
	leafLife  time.Duration
	current   atomic.Pointer[generation]

	minted, renewed, hits, evicted, failed atomic.Uint64
}

// generation is an authority and the leaves that it signed. Each authority has
// its own, so that a mint which is still under way for the one before cannot put
// its leaf among the leaves of the next.
type generation struct {
	authority Authority

	// mu guards what is below, for the length of a look-up and never while
	// signing. One lock is enough: it is held for some 50 ns of a TLS handshake
	// that takes a thousand times as long.
	mu      sync.Mutex
	leaves  *simplelru.LRU[string, *leaf]
	minting map[string]*mint
}

type leaf struct {
	certificate *tls.Certificate
	renewAt     time.Time
}

// mint is one signature under way. What is beside done may be read once done is
// closed.
type mint struct {
	done chan struct{}
	leaf *leaf
	err  error
}

// NewMinter makes a minter that has no authority yet.
func NewMinter(o MinterOptions) *Minter {
	m := &Minter{maxLeaves: o.MaxLeaves, leafLife: o.LeafLife}
	if m.maxLeaves <= 0 {
		m.maxLeaves = defaultMaxLeaves
	}
	if m.leafLife <= 0 || m.leafLife > maxLeafLife {
		m.leafLife = maxLeafLife
	}
	return m
}

// Use makes a the authority that signs from now on. No leaf of the one before
// is served by a call of Leaf that begins after Use has returned.
func (m *Minter) Use(a Authority) {
	// The one error is of a size below one.
	leaves, _ := simplelru.NewLRU[string, *leaf](m.maxLeaves, nil)
	m.current.Store(&generation{authority: a, leaves: leaves, minting: make(map[string]*mint)})
}

// Leaf returns a certificate for host, which is a canonical host name or an IP
// address without brackets; anything else is [ErrHost]. The certificate is
// shared and must not be changed.
//
// However many ask for one host at the same time, the first of them signs and
// the others wait for it, each until its ctx ends. A leaf is renewed when less
// than a third of its life is left; meanwhile, and should that fail, the old one
// is served for as long as it is valid.
func (m *Minter) Leaf(ctx context.Context, host string) (*tls.Certificate, error) {
	g := m.current.Load()
	if g == nil {
		return nil, ErrNoAuthority
	}
	now := time.Now()

	g.mu.Lock()
	held, _ := g.leaves.Get(host)
	if held != nil && now.Before(held.renewAt) {
		g.mu.Unlock()
		m.hits.Add(1)
		return held.certificate, nil
	}
	underway := g.minting[host]
	first := underway == nil
	if first {
		// The host may be a piece of a request's head, which must not be kept.
		host = strings.Clone(host)
		underway = &mint{done: make(chan struct{}), err: errAborted}
		g.minting[host] = underway
	}
	g.mu.Unlock()

	if first {
		m.mint(g, host, underway, held != nil)
	}
	if held != nil && now.Before(held.certificate.Leaf.NotAfter) && (!first || underway.err != nil) {
		m.hits.Add(1)
		return held.certificate, nil
	}
	select {
	case <-underway.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if underway.err != nil {
		return nil, fmt.Errorf("certificate for %q: %w", host, underway.err)
	}
	if !first {
		m.hits.Add(1)
	}
	return underway.leaf.certificate, nil
}

// mint signs on the caller's goroutine, which no context can end half-way, and
// lets those go on who wait for it.
func (m *Minter) mint(g *generation, host string, underway *mint, renewal bool) {
	defer func() {
		g.mu.Lock()
		delete(g.minting, host)
		evicted := underway.err == nil && g.leaves.Add(host, underway.leaf)
		g.mu.Unlock()
		m.count(underway.err, renewal, evicted)
		close(underway.done)
	}()
	certificate, err := g.authority.sign(host, m.leafLife)
	if err == nil {
		underway.leaf = &leaf{certificate, renewAt(certificate.Leaf.NotAfter)}
	}
	underway.err = err
}

// renewAt is when between a third and a quarter of the life is left, at random,
// so that leaves that were minted together are not renewed together.
func renewAt(notAfter time.Time) time.Time {
	life := max(time.Until(notAfter), 0)
	return notAfter.Add(-life/3 + rand.N(life/12+1))
}

func (m *Minter) count(err error, renewal, evicted bool) {
	switch {
	case err != nil:
		m.failed.Add(1)
	case renewal:
		m.renewed.Add(1)
	default:
		m.minted.Add(1)
	}
	if evicted {
		m.evicted.Add(1)
	}
}

// Stats returns the counts so far.
func (m *Minter) Stats() Stats {
	return Stats{
		Minted:  m.minted.Load(),
		Renewed: m.renewed.Load(),
		Hits:    m.hits.Load(),
		Evicted: m.evicted.Load(),
		Failed:  m.failed.Load(),
	}
}
