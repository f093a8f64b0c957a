package redispool

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// bookedConn returns a connection on the books of a pool that dials nothing.
func bookedConn(t *testing.T) *conn {
	t.Helper()
	p, err := New(Config{URL: "redis://127.0.0.1:1", Logger: testkit.Silent()})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() })
	c, err := p.allNodes()[0].adopt(near, forPool, p.endpoint.Load(), monotime.Now(), new(opening))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Abort() })
	return c
}

// go-redis computes deadlines by the wall clock. An operator that sets it back or forth by an hour
// must change no mark: not when a connection was used, nor how long it has been silent.
func TestMarksDoNotFollowTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bookedConn(t)
		last := monotime.Time(c.used.Load())
		for _, set := range []time.Duration{0, time.Hour, -time.Hour, 0} {
			time.Sleep(time.Second)
			deadline := time.Unix(0, time.Now().Add(set+DefaultReadTimeout).UnixNano()) // as go-redis does: no monotonic reading
			if err := c.SetWriteDeadline(deadline); err != nil {
				t.Fatal(err)
			}
			used := monotime.Time(c.used.Load())
			if used <= last || used > monotime.Now()+1 {
				t.Errorf("clock set by %s: used is %s ago, after %s ago", set, monotime.Since(used), monotime.Since(last))
			}
			last = used
			if silent := time.Since(c.silentSince()); silent > time.Millisecond {
				t.Errorf("clock set by %s: a connection just used has been silent for %s", set, silent)
			}
		}
		if s := (eviction.Sweep{Now: time.Now(), KeepAlive: time.Minute, MaxLifetime: time.Minute}); s.Due(c.forEviction()) || c.overdueReason() != stays {
			t.Error("a young connection is to be closed or pinged")
		}
	})
}

// The evictor asks at every tick, whatever the pool's upkeep is at.
func TestPeakDoesNotWaitForTheUpkeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := bookedConn(t).node
		if err := n.upkeep.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.lent.Store(3) // Conns, some of them closed
		begun := time.Now()
		for range 100 {
			n.Peak()
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("100 looks took %s", took)
		}
		n.lent.Store(0)
		n.upkeep.Unlock()
	})
}

// Each command has a mark of its own, however coarse the clock.
func TestEveryCommandHasItsOwnMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in a bubble the clock stands still
		c := bookedConn(t)
		for last := int64(0); last < 1000; {
			if err := c.SetWriteDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			used := c.used.Load()
			if used <= last {
				t.Fatalf("mark %d after %d", used, last)
			}
			last = used
			if last > int64(monotime.Now())+10 {
				return
			}
		}
	})
}

// What condemns a generation spares each connection whose dial began after the mark, and of those
// whose dial was under way only the one that turns out to lead to the wrong server.
func TestMarksSpareWhatWasDialledAfterThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := bookedConn(t)
		n := old.node
		book := func(born monotime.Time) *conn {
			near, far := net.Pipe()
			t.Cleanup(func() { _ = far.Close() })
			c, err := n.adopt(near, forPool, n.pool.endpoint.Load(), born, new(opening))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		before := monotime.Now()
		time.Sleep(time.Second)
		n.flushAfter(old.born, old)
		underWay, young := book(before), book(monotime.Now())
		if old.closeReason() != failover {
			t.Error("the old connection stays")
		}
		n.flushAfter(old.born, old) // news from a generation that is condemned
		n.flushAfter(underWay.born, underWay)
		if underWay.closeReason() != failover || young.closeReason() != stays {
			t.Errorf("under way: %s; young: %s", underWay.closeReason(), young.closeReason())
		}
		mark := monotime.Now()
		time.Sleep(time.Second)
		later := book(monotime.Now())
		n.flushBroken(mark+1, "a test")
		n.flushSilent(mark+1, mark+1)
		if young.closeReason() != dead || later.closeReason() != stays {
			t.Errorf("dialled before the mark: %s; after it: %s", young.closeReason(), later.closeReason())
		}
	})
}
