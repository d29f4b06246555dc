package oauth

import (
	"encoding/binary"
	"hash/fnv"
	"time"

	"attache"
)

const (
	minLead          = time.Minute
	minPause         = 5 * time.Second // from a token to its refresh, when nobody waits for it
	defaultKeepalive = 7 * 24 * time.Hour
	// spread is over how long what is overdue is begun, when nobody waits for it:
	// after a start that may be everything.
	spread = time.Minute
)

// lead is how long before its expiry a token is due: 10 to 20 % of its life, at
// least a minute, at most half of it. fraction, from 0 to 1, says where between.
// Where there is hardly any life it is negative, and requests wait for their tokens.
func lead(life time.Duration, fraction float64) time.Duration {
	l := time.Duration(float64(life) * (0.1 + 0.1*fraction))
	return min(max(l, minLead), life/2, life-minPause)
}

// margin is how much of its life a token must still have to be sent: it has to
// arrive, too.
func margin(life time.Duration) time.Duration { return min(5*time.Second, life/20) }

// fraction spreads connections, and the generations of one, evenly from 0 to 1.
// It is always the same for the same generation, so a restart moves nothing.
func fraction(c *attache.Connection) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.Integration + "\x00" + c.Name + "\x00"))
	if c.Grant != nil {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], c.Grant.Generation)
		_, _ = h.Write(b[:])
	}
	x := h.Sum64()
	// The high bits of FNV hardly change with the last bytes.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// at converts a time on the wall clock.
func at(t time.Time, now instant, wall time.Time) instant { return now.add(t.Sub(wall)) }

// ahead tells whether a grant was issued when the clock was ahead: it was set back
// since, and how far is not known.
func ahead(g *attache.Grant, wall time.Time) bool { return g.IssuedAt.Sub(wall) > time.Minute }

// retry is when a grant is tried again that could not be refreshed. What no backoff
// plans comes from a clock that was ahead.
func retry(g *attache.Grant, now instant, wall time.Time) instant {
	if g.RetryAt.Sub(wall) > maxBackoff {
		return now
	}
	return at(g.RetryAt, now, wall)
}

// expiry is when an access token can no longer be sent.
func expiry(g *attache.Grant, now instant, wall time.Time) instant {
	switch {
	case g.ExpiresAt.IsZero():
		return never
	case ahead(g, wall):
		return now
	}
	return at(g.ExpiresAt, now, wall).add(-margin(g.ExpiresAt.Sub(g.IssuedAt)))
}

// due is when a connection's flight is to begin, or never. expires is its
// token's on this clock, which knows better than the record.
func due(c *attache.Connection, r registration, expires, now instant, wall time.Time) instant {
	g := c.Grant
	renewable := r.grantType == attache.ClientCredentials
	if g == nil || g.State == attache.GrantPending {
		if renewable {
			return now
		}
		return never
	}
	switch g.State {
	case attache.GrantNeedsReauth, attache.GrantConfigError, attache.GrantMoved:
		return never
	case attache.GrantRetrying:
		return retry(g, now, wall)
	case attache.GrantRefreshing: // by a process that is gone
		return now
	}
	share := fraction(c)
	when := never
	if expires != never {
		life := g.ExpiresAt.Sub(g.IssuedAt)
		when = expires.add(margin(life))
		if renewable || !g.RefreshToken.IsZero() {
			when = when.add(-lead(life, share))
		}
	}
	if !g.RefreshToken.IsZero() && !renewable && r.keepalive > 0 {
		idle := r.keepalive - time.Duration(float64(r.keepalive)*0.1*share)
		if when = min(when, at(g.IssuedAt.Add(idle), now, wall)); ahead(g, wall) {
			when = now
		}
	}
	return when
}
