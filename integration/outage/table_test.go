package outage_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

const (
	callLimit = 5 * time.Second // the deadline of one call: the patience of an ordinary HTTP handler
	lastCall  = 1000            // the last call whose cost is told
	callers   = 50              // of the crowd that is there while dials are counted, and when the server comes back
)

// paid is what a service has paid in one outage.
type paid struct {
	costs [3]time.Duration // of calls 1, 10 and the last
	last  int              // which that was: 1,000, or fewer where there was no time for more
	later time.Duration    // of a call once the server can be known to be down, the median
	dials float64          // a second, with a crowd of callers
	back  time.Duration    // from the end of the fault to the first success; -1: there was none
}

// String is a part of a row of the table.
func (p paid) String() string {
	last := round(p.costs[2])
	if p.last < lastCall {
		last += fmt.Sprintf(" (call %d)", p.last)
	}
	back := "never"
	if p.back >= 0 {
		back = round(p.back)
	}
	tenth := "not reached"
	if p.last >= 10 {
		tenth = round(p.costs[1])
	}
	return fmt.Sprintf("%s | %s | %s | %s | %.0f | %s", round(p.costs[0]), tenth, last, round(p.later), p.dials, back)
}

func round(d time.Duration) string {
	switch {
	case d < 10*time.Microsecond:
		return d.Round(100 * time.Nanosecond).String()
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// lengths are how long the parts of one measurement take.
type lengths struct{ calls, known, crowd, after time.Duration }

func measured() lengths {
	if testkit.Measuring() {
		return lengths{calls: 40 * time.Second, known: 5 * time.Second, crowd: 5 * time.Second, after: 20 * time.Second}
	}
	return lengths{calls: time.Second, crowd: 200 * time.Millisecond, after: 10 * time.Second}
}

// BenchmarkOutage prints what a call costs while its server is gone, raw beside managed, with
// default settings. `make bench-outage` runs it in full, some 15 minutes; otherwise it is short, to
// show that it works.
func BenchmarkOutage(b *testing.B) {
	for _, lib := range libraries() {
		for _, f := range faults() {
			if !testkit.Measuring() && f.name != "refuses" {
				continue
			}
			for way, open := range map[string]func(testing.TB, string) subject{"raw": lib.raw, "managed": lib.managed} {
				b.Run(fmt.Sprintf("%s/%s/%s", lib.name, f.name, way), func(b *testing.B) {
					for range b.N {
						row := suffer(b, newPlace(b, lib), f, open)
						fmt.Printf("| %s | %s | %s | %s |\n", lib.name, f.name, way, row)
					}
				})
			}
		}
	}
}

// suffer goes through one outage.
func suffer(tb testing.TB, p *place, f fault, open func(testing.TB, string) subject) paid {
	tb.Helper()
	if f.first {
		f.begin(tb, p)
	}
	s := open(tb, p.way.Addr())
	if !f.first {
		warm(tb, s)
		f.begin(tb, p)
	}
	l := measured()
	var out paid
	began := time.Now()
	for n := 1; n <= lastCall && time.Since(began) < l.calls; n++ {
		took := cost(tb, s)
		switch n {
		case 1:
			out.costs[0] = took
		case 10:
			out.costs[1] = took
		}
		out.last, out.costs[2] = n, took
	}
	sleep(l.known - time.Since(began)) // the default of FailFastAfter is 3 s
	out.later = later(tb, s)
	crowd := gather(tb, s)
	sleep(l.crowd / 5)
	dials, counting := s.dials.Load(), time.Now()
	sleep(l.crowd)
	out.dials = float64(s.dials.Load()-dials) / time.Since(counting).Seconds()
	f.end(tb, p)
	out.back = crowd.firstSuccess(time.Now(), l.after)
	return out
}

// later is the median cost of 100 calls, or of as many as there is time for.
func later(tb testing.TB, s subject) time.Duration {
	tb.Helper()
	var all []time.Duration
	for began := time.Now(); len(all) < 100 && (len(all) == 0 || time.Since(began) < time.Second); {
		all = append(all, cost(tb, s))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// warm has the subject open connections.
func warm(tb testing.TB, s subject) {
	tb.Helper()
	var wg sync.WaitGroup
	for range 2 * maxOpen {
		wg.Go(func() {
			for range 20 {
				if err := s.call(tb.Context()); err != nil {
					tb.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// cost is what one call takes.
func cost(tb testing.TB, s subject) time.Duration {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), callLimit)
	defer cancel()
	began := time.Now()
	if s.call(ctx) == nil {
		tb.Error("a call has succeeded on a server that is gone")
	}
	return time.Since(began)
}

// crowd are callers that call again and again.
type crowd struct {
	first chan struct{} // closed at the first success
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

func gather(tb testing.TB, s subject) *crowd {
	tb.Helper()
	ctx, stop := context.WithCancel(tb.Context())
	c := &crowd{first: make(chan struct{}), stop: stop}
	var once sync.Once
	for range callers {
		c.wg.Go(func() {
			for ctx.Err() == nil {
				call, cancel := context.WithTimeout(ctx, callLimit)
				if s.call(call) == nil {
					once.Do(func() { close(c.first) })
				}
				cancel()
				sleep(5 * time.Millisecond)
			}
		})
	}
	return c
}

// firstSuccess waits for a caller that succeeds, and sends the crowd home.
func (c *crowd) firstSuccess(since time.Time, limit time.Duration) time.Duration {
	defer c.wg.Wait()
	defer c.stop()
	select {
	case <-c.first:
		return time.Since(since)
	case <-time.After(limit):
		return -1
	}
}

// sleep is for the length of outages, which nothing can be polled for.
func sleep(d time.Duration) { <-time.After(d) }
