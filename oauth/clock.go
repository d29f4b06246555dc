package oauth

import (
	"math"
	"time"
)

// instant is a point in time on a keeper's clock, in nanoseconds.
type instant int64

const never = instant(math.MaxInt64)

func (i instant) add(d time.Duration) instant { return i + instant(d) }

func (i instant) until(later instant) time.Duration { return time.Duration(later - i) }

// jumpTolerance is by how much two clocks may differ without one having jumped.
const jumpTolerance = 2 * time.Second

// clock never goes back. It counts on the monotonic clock, so that setting the
// wall clock back lengthens no token's life; and it goes along when the wall
// clock goes ahead, since the monotonic one stands still while a machine sleeps.
type clock struct {
	wall    func() time.Time
	base    time.Time     // where instants count from
	ahead   time.Duration // how far it has gone along
	between time.Duration // from the monotonic to the wall clock, when last looked at
}

func newClock(wall func() time.Time) clock {
	c := clock{wall: wall, base: time.Now()}
	c.between = wall().Round(0).Sub(c.base.Round(0))
	return c
}

// now returns the time on this clock and on the wall.
func (c *clock) now() (instant, time.Time) {
	wall := c.wall().Round(0)
	elapsed := time.Since(c.base)
	between := wall.Sub(c.base.Round(0)) - elapsed
	switch jump := between - c.between; {
	case jump < 0:
		c.between = between
	case jump > jumpTolerance:
		c.ahead += jump
		c.between = between
	}
	return instant(elapsed + c.ahead), wall
}
