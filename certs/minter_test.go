package certs_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache/certs"
)

// countingSigner counts signatures, and does before each of them whatever the
// test wants.
type countingSigner struct {
	crypto.Signer
	signed atomic.Int64
	before func(n int64) error // n counts from 1
}

func (s *countingSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := s.before(s.signed.Add(1)); err != nil {
		return nil, err
	}
	return s.Signer.Sign(rand, digest, opts)
}

// signing makes an authority that signs leaves with s.
func signing(t testing.TB, s *countingSigner) certs.Authority {
	t.Helper()
	plain := newAuthority(t)
	s.Signer = plain.Key()
	a, err := certs.ParseAuthority(plain.Certificate().Raw, s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// pass lets time go by in a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

func wantStats(t *testing.T, m *certs.Minter, want certs.Stats) {
	t.Helper()
	if diff := cmp.Diff(want, m.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

func TestLeafNeedsAnAuthority(t *testing.T) {
	for name, m := range map[string]*certs.Minter{
		"before the first Use": certs.NewMinter(certs.MinterOptions{}),
		"with the zero one":    newMinter(t, certs.Authority{}, certs.MinterOptions{}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := m.Leaf(t.Context(), "a.example"); !errors.Is(err, certs.ErrNoAuthority) {
				t.Errorf("error %v, want ErrNoAuthority", err)
			}
		})
	}
}

func TestOneMintPerHostHoweverManyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers = 50
		release := make(chan struct{})
		s := &countingSigner{before: func(int64) error { <-release; return nil }}
		m := newMinter(t, signing(t, s), certs.MinterOptions{})

		got := make([]*tls.Certificate, callers)
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() { got[i], _ = m.Leaf(t.Context(), "a.example") })
		}
		synctest.Wait()
		close(release)
		all.Wait()

		for i, c := range got {
			if c == nil || c != got[0] {
				t.Errorf("caller %d got %p, caller 0 got %p", i, c, got[0])
			}
		}
		if n := s.signed.Load(); n != 1 {
			t.Errorf("%d signatures for one host", n)
		}
		wantStats(t, m, certs.Stats{Minted: 1, Hits: callers - 1})
	})
}

func TestASlowMintDoesNotStopOtherHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &countingSigner{before: func(n int64) error {
			if n == 1 {
				<-release
			}
			return nil
		}}
		m := newMinter(t, signing(t, s), certs.MinterOptions{})

		slow := make(chan *tls.Certificate)
		go func() {
			c, _ := m.Leaf(t.Context(), "slow.example")
			slow <- c
		}()
		synctest.Wait()
		leafFor(t, m, "other.example")
		leafFor(t, m, "other.example")

		close(release)
		if <-slow == nil {
			t.Error("the slow mint failed")
		}
		wantStats(t, m, certs.Stats{Minted: 2, Hits: 1})
	})
}

func TestAWaiterThatLeavesHurtsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &countingSigner{before: func(int64) error { <-release; return nil }}
		m := newMinter(t, signing(t, s), certs.MinterOptions{})

		// The first of them signs, with a context that ends while it does.
		ctx, cancel := context.WithCancel(t.Context())
		first, stays := make(chan error, 1), make(chan error, 1)
		go func() { _, err := m.Leaf(ctx, "a.example"); first <- err }()
		synctest.Wait()
		go func() { _, err := m.Leaf(t.Context(), "a.example"); stays <- err }()
		synctest.Wait()

		leaves, done := context.WithTimeout(t.Context(), time.Second)
		defer done()
		if _, err := m.Leaf(leaves, "a.example"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the impatient waiter got error %v", err)
		}
		cancel()
		close(release)
		if err := <-stays; err != nil {
			t.Errorf("the patient waiter got error %v", err)
		}
		if err := <-first; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the signing caller got error %v", err)
		}
		if n := s.signed.Load(); n != 1 {
			t.Errorf("%d signatures", n)
		}
	})
}

func TestLeafIsRenewedBeforeItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMinter(t, newAuthority(t), certs.MinterOptions{LeafLife: 60 * time.Hour})
		first := leafFor(t, m, "a.example")

		pass(40*time.Hour - time.Minute)
		if leafFor(t, m, "a.example") != first {
			t.Error("renewed with more than a third of its life left")
		}
		pass(5*time.Hour + time.Minute)
		second := leafFor(t, m, "a.example")
		if second == first {
			t.Fatal("not renewed with a quarter of its life left")
		}
		if left := time.Until(second.Leaf.NotAfter); left < 59*time.Hour {
			t.Errorf("the renewed leaf lives for %s", left)
		}

		// Nobody asked while it expired.
		pass(100 * time.Hour)
		third := leafFor(t, m, "a.example")
		if time.Now().After(third.Leaf.NotAfter) {
			t.Error("an expired leaf was served")
		}
		wantStats(t, m, certs.Stats{Minted: 1, Hits: 1, Renewed: 2})
	})
}

func TestLeavesMintedTogetherAreNotRenewedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const leaves = 200
		m := newMinter(t, newAuthority(t), certs.MinterOptions{LeafLife: 60 * time.Hour})
		ask := func() {
			for i := range leaves {
				leafFor(t, m, fmt.Sprintf("host-%d.example", i))
			}
		}
		ask()
		pass(42*time.Hour + 30*time.Minute) // half-way between a third and a quarter
		ask()
		if n := m.Stats().Renewed; n < leaves/4 || n > leaves*3/4 {
			t.Errorf("%d of %d leaves were renewed at the same time", n, leaves)
		}
	})
}

func TestAFailingRenewalServesTheOldLeafWhileItIsValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("the signer is down")
		s := &countingSigner{before: func(n int64) error {
			if n > 1 {
				return down
			}
			return nil
		}}
		m := newMinter(t, signing(t, s), certs.MinterOptions{LeafLife: 60 * time.Hour})
		first := leafFor(t, m, "a.example")

		pass(59 * time.Hour)
		if leafFor(t, m, "a.example") != first {
			t.Error("got another leaf")
		}
		wantStats(t, m, certs.Stats{Minted: 1, Hits: 1, Failed: 1})

		pass(2 * time.Hour)
		if _, err := m.Leaf(t.Context(), "a.example"); !errors.Is(err, down) {
			t.Errorf("error %v after the old leaf expired", err)
		}
	})
}

func TestARenewalUnderWayHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &countingSigner{before: func(n int64) error {
			if n > 1 {
				<-release
			}
			return nil
		}}
		m := newMinter(t, signing(t, s), certs.MinterOptions{LeafLife: 60 * time.Hour})
		first := leafFor(t, m, "a.example")

		pass(50 * time.Hour)
		renewed := make(chan *tls.Certificate)
		go func() {
			c, _ := m.Leaf(t.Context(), "a.example")
			renewed <- c
		}()
		synctest.Wait()
		if leafFor(t, m, "a.example") != first {
			t.Error("got another leaf than the valid one")
		}
		close(release)
		if second := <-renewed; second == first || leafFor(t, m, "a.example") != second {
			t.Error("the renewed leaf is not served")
		}
	})
}

func TestAPanickingSignerLetsTheWaitersGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &countingSigner{before: func(n int64) error {
			if n == 1 {
				<-release
				panic("the signer fell over")
			}
			return nil
		}}
		m := newMinter(t, signing(t, s), certs.MinterOptions{})

		go func() {
			defer func() { _ = recover() }()
			_, _ = m.Leaf(t.Context(), "a.example")
		}()
		synctest.Wait()
		waiter := make(chan error, 1)
		go func() { _, err := m.Leaf(t.Context(), "a.example"); waiter <- err }()
		synctest.Wait()
		close(release)
		if err := <-waiter; err == nil {
			t.Error("the waiter got no error")
		}
		leafFor(t, m, "a.example")
		wantStats(t, m, certs.Stats{Minted: 1, Failed: 1})
	})
}

func TestRotationRetiresTheLeavesOfTheOldAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &countingSigner{before: func(n int64) error {
			if n == 2 {
				<-release
			}
			return nil
		}}
		old, next := signing(t, s), newAuthority(t)
		m := newMinter(t, old, certs.MinterOptions{})
		leafFor(t, m, "cached.example")
		underway := make(chan *tls.Certificate)
		go func() {
			c, _ := m.Leaf(t.Context(), "underway.example")
			underway <- c
		}()
		synctest.Wait()

		m.Use(next)
		wantSignedBy(t, leafFor(t, m, "cached.example"), next)
		wantSignedBy(t, leafFor(t, m, "underway.example"), next)
		close(release)
		wantSignedBy(t, <-underway, old)
		wantSignedBy(t, leafFor(t, m, "underway.example"), next)
	})
}

func wantSignedBy(t *testing.T, c *tls.Certificate, a certs.Authority) {
	t.Helper()
	if err := c.Leaf.CheckSignatureFrom(a.Certificate()); err != nil {
		t.Errorf("the leaf of %v is not signed by %v: %v", c.Leaf.DNSNames, a, err)
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	m := newMinter(t, newAuthority(t), certs.MinterOptions{MaxLeaves: 3})
	kept := leafFor(t, m, "kept.example")
	for i := range 10 {
		leafFor(t, m, fmt.Sprintf("host-%d.example", i))
		if leafFor(t, m, "kept.example") != kept {
			t.Fatalf("the leaf in use was dropped after %d others", i+1)
		}
	}
	wantStats(t, m, certs.Stats{Minted: 11, Hits: 10, Evicted: 8})
	leafFor(t, m, "host-0.example")
	if got := m.Stats().Minted; got != 12 {
		t.Errorf("%d minted, so a dropped leaf was still there", got)
	}
}

func TestManyHostsAndRotationsAtOnce(t *testing.T) {
	authorities := []certs.Authority{newAuthority(t), newAuthority(t)}
	m := newMinter(t, authorities[0], certs.MinterOptions{MaxLeaves: 8})
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 50 {
				host := fmt.Sprintf("host-%d.example", (w+i)%16)
				c, err := m.Leaf(t.Context(), host)
				if err != nil {
					t.Error(err)
				} else if err := c.Leaf.VerifyHostname(host); err != nil {
					t.Error(err)
				}
				if w == 0 && i%10 == 0 {
					m.Use(authorities[i/10%2])
				}
			}
		})
	}
	all.Wait()
	if s := m.Stats(); s.Minted+s.Hits != 8*50 {
		t.Errorf("%+v do not add up to %d calls", s, 8*50)
	}
}

func BenchmarkLeafHit(b *testing.B) {
	m := newMinter(b, newAuthority(b), certs.MinterOptions{})
	hosts := make([]string, 64)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("host-%d.example.com", i)
		leafFor(b, m, hosts[i])
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := m.Leaf(b.Context(), hosts[i%len(hosts)]); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkLeafMint(b *testing.B) {
	m := newMinter(b, newAuthority(b), certs.MinterOptions{})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		leafFor(b, m, fmt.Sprintf("host-%d.example.com", i))
	}
}
