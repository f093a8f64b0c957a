package eviction_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

var advance = testkit.Advance

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start puts an evictor on the pool for the length of the test.
func start(t *testing.T, p *simPool, policy eviction.Policy) *eviction.Evictor {
	t.Helper()
	e := eviction.New(p, policy)
	p.mu.Lock()
	p.wake = e.Wake
	p.mu.Unlock()
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return e
}

// INV-7: after a burst of 100 the pool is down to what light traffic needs and MinIdle, one
// interval after MaxIdleTime.
func TestBurstIsGoneOneIntervalAfterMaxIdleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 200, dialTime: time.Millisecond}
		start(t, p, eviction.Policy{MinIdle: 2, MaxIdleTime: time.Minute, Interval: 5 * time.Second})
		p.use(100, time.Second)
		burst := time.Now()
		for time.Since(burst) < 2*time.Minute {
			p.use(5, 100*time.Millisecond)
			open := p.Open()
			switch age := time.Since(burst); {
			case age < time.Minute && open < 100:
				t.Fatalf("%s after the burst: %d open; they were needed within MaxIdleTime", age, open)
			case age > 65*time.Second+200*time.Millisecond && open != 7:
				t.Fatalf("%s after the burst: %d open, want 5 for the traffic and MinIdle 2", age, open)
			}
		}
		if dials := p.record().dials; dials != 100 {
			t.Errorf("%d dials, want those of the burst alone", dials)
		}
	})
}

// A day with a night, a morning ramp, spikes and an outage, against what a pool may do at worst.
func TestDayOfTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxIdle, interval, minIdle = 5 * time.Minute, 30 * time.Second, 3
		p := &simPool{limit: 100, dialTime: 5 * time.Millisecond, minAge: maxIdle}
		e := start(t, p, eviction.Policy{
			MinIdle: minIdle, MaxIdleTime: maxIdle, Interval: interval,
			MaxLifetime: time.Hour, LifetimeJitter: 0.2, KeepAlive: 10 * time.Minute,
		})
		level := func(d time.Duration, n int) { // n at once for d, with a short pause every second
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				p.use(n, 990*time.Millisecond)
			}
		}
		settled := func(when string, needed int) {
			t.Helper()
			if open := p.Open(); open > needed+minIdle {
				t.Errorf("%s: %d open, want at most %d in use and %d idle", when, open, needed, minIdle)
			}
		}
		advance(6 * time.Hour)
		settled("night", 0)
		for n := 1; n <= 20; n++ {
			level(3*time.Minute, n)
		}
		for range 6 { // spikes, closer together than MaxIdleTime: what one needed the next finds
			before := p.record().dials
			p.use(80, time.Second)
			level(4*time.Minute, 20)
			if dialled := p.record().dials - before; dialled > 80 {
				t.Errorf("a spike cost %d dials", dialled)
			}
		}
		level(maxIdle+2*interval, 20)
		settled("afternoon", 20)
		p.setDown(true)
		advance(2 * time.Hour)
		attempts := len(p.record().fills)
		p.setDown(false)
		advance(time.Minute)
		if idle := p.Idle(); idle != minIdle {
			t.Errorf("a minute after the outage %d are idle, want MinIdle %d", idle, minIdle)
		}
		if attempts > 500 {
			t.Errorf("%d attempts to dial by the end of a two-hour outage; retries are to back off to 30 s", attempts)
		}
		level(time.Hour, 2)
		advance(time.Hour)
		settled("evening", 0)
		if p.record().young > 0 {
			t.Errorf("%d connections were closed as idle before they had been idle for %s", p.record().young, maxIdle)
		}
		if p.record().overlap {
			t.Error("two adders at once")
		}
		if p.record().closed.Lifetime == 0 {
			t.Error("nothing was closed for its age all day")
		}
		if err := e.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPoolAtRestCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 10}
		e := start(t, p, eviction.Policy{MinIdle: 2, MaxIdleTime: time.Minute})
		p.use(5, time.Second)
		advance(10 * time.Minute)
		if !e.Asleep() || p.Open() != 2 {
			t.Fatalf("asleep = %v with %d open, want true with 2", e.Asleep(), p.Open())
		}
		before := p.record().samples
		advance(24 * time.Hour)
		if woke := p.record().samples - before; woke != 0 {
			t.Fatalf("woke %d times in a day without traffic", woke)
		}
		p.use(6, time.Second)
		advance(10 * time.Minute)
		if p.Open() != 2 || !e.Asleep() {
			t.Fatalf("after a burst from sleep: %d open, asleep = %v; want 2, true", p.Open(), e.Asleep())
		}
	})
}

// A deadline of a connection's own, far ahead, must not keep the evictor from seeing that demand is
// back.
func TestUseWakesAnEvictorThatWaitsForAFarDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 100}
		e := start(t, p, eviction.Policy{
			MinIdle: 2, MaxIdleTime: time.Minute, Interval: time.Second, KeepAlive: time.Hour, MaxLifetime: 10 * time.Hour,
		})
		advance(90 * time.Minute) // past one KeepAlive
		if !e.Asleep() {
			t.Fatal("not asleep")
		}
		before := p.record().sweeps
		if before == 0 {
			t.Fatal("the deadline of KeepAlive has passed without a sweep")
		}
		p.use(50, time.Second)
		advance(63 * time.Second) // MaxIdleTime, an Interval until the burst is sampled, one until it is swept, and past that
		if p.Open() != 2 {
			t.Fatalf("%d open a minute after a burst, want 2", p.Open())
		}
		advance(2 * time.Hour)
		if sweeps := p.record().sweeps - before; sweeps < 2 || sweeps > 6 {
			t.Fatalf("%d sweeps in two quiet hours with KeepAlive 1 h", sweeps)
		}
	})
}

func TestEvictorWithNothingToDoNeverTouchesThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 10}
		e := start(t, p, eviction.Policy{})
		advance(time.Hour)
		p.use(4, time.Second)
		advance(time.Hour)
		if p.record().sweeps != 0 || len(p.record().fills) != 0 || !e.Asleep() || p.Open() != 4 {
			t.Fatalf("%d sweeps, %d fills, asleep %v, %d open; want none, none, true, 4", p.record().sweeps, len(p.record().fills), e.Asleep(), p.Open())
		}
	})
}

func TestFillIsElidedWhenCallersReturnTheirs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 100, dialTime: 100 * time.Millisecond}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { p.use(1, 250*time.Millisecond) })
		}
		synctest.Wait()
		start(t, p, eviction.Policy{MinIdle: 40, Interval: time.Second})
		wg.Wait() // they dial until +100 ms and return at +350 ms; the adder has dialled since +0, one per 100 ms
		advance(10 * time.Second)
		if p.record().dials > 50+4 {
			t.Fatalf("%d dials for 50 callers; the adder is to stop when they return their connections", p.record().dials)
		}
		if p.Open() > 54 || p.Idle() < 40 {
			t.Fatalf("%d open, %d idle", p.Open(), p.Idle())
		}
	})
}

func TestFillBacksOffWhileTheServerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 10, down: true}
		start(t, p, eviction.Policy{MinIdle: 3, Interval: 10 * time.Millisecond})
		advance(5 * time.Minute)
		if n := len(p.record().fills); n < 12 || n > 20 {
			t.Fatalf("%d attempts in 5 minutes, want about 5 while doubling and one per 30 s after", n)
		}
		fills := p.record().fills
		for i := 1; i < len(fills); i++ {
			want := min(time.Second<<(i-1), 30*time.Second)
			if gap := fills[i].Sub(fills[i-1]); gap < want*3/4 || gap > want+20*time.Millisecond {
				t.Errorf("attempt %d came %s after the one before, want between 3/4 of %s and all of it", i+1, gap, want)
			}
		}
		p.setDown(false)
		advance(31 * time.Second)
		if p.Idle() != 3 {
			t.Fatalf("%d idle after the outage, want 3", p.Idle())
		}
	})
}

func TestLifetimeAndKeepAliveComeDueWithoutTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 10}
		start(t, p, eviction.Policy{MinIdle: 4, MaxLifetime: time.Hour, KeepAlive: 10 * time.Minute, Interval: time.Second})
		advance(time.Minute)
		p.mu.Lock()
		p.idle[0].dead = true
		p.mu.Unlock()
		advance(11 * time.Minute)
		if p.record().closed.Dead != 1 || p.Idle() != 4 {
			t.Fatalf("dead %d, idle %d: want the dead one closed after its silence and replaced", p.record().closed.Dead, p.Idle())
		}
		before := p.record().sweeps
		advance(50 * time.Minute)
		if p.record().closed.Lifetime != 3 || p.Idle() != 4 {
			t.Fatalf("lifetime %d, idle %d: want the three old ones closed and replaced", p.record().closed.Lifetime, p.Idle())
		}
		if sweeps := p.record().sweeps - before; sweeps > 20 {
			t.Fatalf("%d sweeps in 50 minutes; deadlines are 10 minutes apart", sweeps)
		}
	})
}

// hangingPool blocks in Sweep until its context ends, or for good.
type hangingPool struct {
	simPool

	entered chan struct{}
	release chan struct{} // nil: Sweep obeys its context
}

func (h *hangingPool) Open() int { return 5 }

func (h *hangingPool) Sweep(ctx context.Context, _ eviction.Sweep) time.Time {
	h.entered <- struct{}{}
	if h.release != nil {
		<-h.release
	} else {
		<-ctx.Done()
	}
	return time.Time{}
}

func TestStopEndsASweepUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangingPool{entered: make(chan struct{}, 1)}
		e := eviction.New(h, eviction.Policy{MaxIdleTime: time.Minute})
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-h.entered
		var wg sync.WaitGroup
		for range 4 { // twice and concurrently
			wg.Go(func() {
				if err := e.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := e.Start(t.Context()); !errors.Is(err, eviction.ErrStopped) {
			t.Errorf("Start after Stop = %v, want ErrStopped", err)
		}
		e.Tick() // a timer that fires as Stop is called
		e.Wake()
		advance(time.Hour)
		if len(h.entered) > 0 {
			t.Error("a sweep after Stop")
		}
	})
}

func TestStopIsBoundedWhenASweepHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangingPool{entered: make(chan struct{}, 1), release: make(chan struct{})}
		e := eviction.New(h, eviction.Policy{MaxIdleTime: time.Minute})
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-h.entered
		cause := errors.New("the deadline of shutdown")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		if err := e.Stop(ctx); !errors.Is(err, cause) {
			t.Fatalf("Stop = %v, want the cause of its context", err)
		}
		close(h.release)
		if err := e.Stop(t.Context()); err != nil {
			t.Fatalf("Stop after the sweep has returned = %v", err)
		}
	})
}

func TestLateIsHowLongASweepHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangingPool{entered: make(chan struct{}, 1), release: make(chan struct{})}
		e := eviction.New(h, eviction.Policy{MaxIdleTime: time.Minute})
		if got := e.Late(); got != 0 {
			t.Errorf("late by %v before Start", got)
		}
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-h.entered
		if got := e.Late(); got != 0 {
			t.Errorf("late by %v when the sweep begins", got)
		}
		advance(11 * time.Second)
		e.Wake() // neither brings a sweep that hangs back on time
		if err := e.SetPolicy(eviction.Policy{MaxIdleTime: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if got := e.Late(); got != 10*time.Second {
			t.Errorf("late by %v, want the 11s less the second that is tolerated", got)
		}
		close(h.release)
		advance(time.Second)
		if got := e.Late(); got != 0 {
			t.Errorf("late by %v after the sweep has returned", got)
		}
		if err := e.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		advance(time.Hour)
		if got := e.Late(); got != 0 {
			t.Errorf("late by %v after Stop", got)
		}
	})
}

// The timer is the only thing that can be overdue while nothing runs.
func TestLateIsHowLongTheTimerIsOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 2}
		e := start(t, p, eviction.Policy{MaxIdleTime: time.Minute, Interval: 10 * time.Second})
		p.use(1, time.Second)
		advance(5 * time.Second)
		if got := e.Late(); got != 0 {
			t.Errorf("late by %v between two rounds", got)
		}
		e.StopTimer()
		advance(time.Minute)
		if got := e.Late(); got <= 40*time.Second || got >= time.Minute {
			t.Errorf("late by %v, a minute after the timer was lost", got)
		}
		e.Tick()
		if got := e.Late(); got != 0 {
			t.Errorf("late by %v after a round", got)
		}
	})
}

func TestStopWithoutStartAndWithAnEndedContext(t *testing.T) {
	e := eviction.New(&simPool{}, eviction.Policy{})
	e.Wake() // before Start: nothing to wake
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); !errors.Is(err, eviction.ErrStopped) {
		t.Fatalf("Start after Stop = %v, want ErrStopped", err)
	}
}

func TestFaultyPolicyIsReportedAndNotUsed(t *testing.T) {
	e := eviction.New(&simPool{}, eviction.Policy{MinIdle: -1})
	if err := e.Start(t.Context()); err == nil {
		t.Fatal("started with a negative MinIdle")
	}
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 10}
		e := start(t, p, eviction.Policy{MinIdle: 2})
		if err := e.SetPolicy(eviction.Policy{MinIdle: -1}); err == nil {
			t.Fatal("took a negative MinIdle")
		}
		advance(time.Minute)
		if p.Idle() != 2 {
			t.Fatalf("%d idle, want 2 by the policy that was in force", p.Idle())
		}
	})
}

func TestSetPolicyWakesASleeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 10}
		e := start(t, p, eviction.Policy{MinIdle: 1, MaxIdleTime: time.Minute})
		advance(time.Hour)
		if !e.Asleep() {
			t.Fatal("not asleep")
		}
		if err := e.SetPolicy(eviction.Policy{MinIdle: 4, MaxIdleTime: time.Minute}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		advance(time.Second)
		if p.Idle() != 4 {
			t.Fatalf("%d idle, want 4 at once", p.Idle())
		}
	})
}

// slowPool takes its time for a Sweep.
type slowPool struct {
	*simPool

	delay atomic.Int64 // nanoseconds
}

func (s *slowPool) Sweep(ctx context.Context, o eviction.Sweep) time.Time {
	next := s.simPool.Sweep(ctx, o)
	time.Sleep(time.Duration(s.delay.Load()))
	return next
}

func TestSetPolicyDuringARoundBringsTheNextForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &slowPool{simPool: &simPool{limit: 10}}
		p.use(5, time.Second)
		e := eviction.New(p, eviction.Policy{KeepAlive: time.Hour})
		p.wake = e.Wake
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		advance(50 * time.Minute)
		p.delay.Store(int64(time.Minute))
		for sweeps := p.record().sweeps; p.record().sweeps == sweeps; {
			time.Sleep(time.Second)
		}
		if err := e.SetPolicy(eviction.Policy{MinIdle: 7, MaxLifetime: 10 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		p.delay.Store(0)
		advance(90 * time.Second) // the sweep under way ends; what it has found out holds no more
		if closed, n := p.record().closed, p.Idle(); closed.Lifetime < 5 || n != 7 {
			t.Errorf("closed %+v, %d idle; want the 5 that have expired by the new policy replaced by 7", closed, n)
		}
		if err := e.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSetPolicyBeforeStartIsWhatStartUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 10}
		e := eviction.New(p, eviction.Policy{})
		if err := e.SetPolicy(eviction.Policy{MinIdle: 3}); err != nil {
			t.Fatal(err)
		}
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		advance(time.Second)
		if p.Idle() != 3 {
			t.Fatalf("%d idle, want 3", p.Idle())
		}
		if err := e.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestARoundClosesWhatNoSampleNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &simPool{limit: 20}
		e := start(t, p, eviction.Policy{MaxIdleTime: time.Minute, Interval: time.Hour})
		p.use(8, time.Second)
		advance(70 * time.Second)
		e.Tick()
		if closed := p.record().closed; closed != (closings{}) {
			t.Fatalf("closed %+v: the burst belongs to the sample this round has just taken", closed)
		}
		advance(61 * time.Second)
		e.Tick()
		if closed := p.record().closed; closed != (closings{Idle: 8}) {
			t.Fatalf("closed %+v; want all 8", closed)
		}
		p.setDown(true)
		if err := e.SetPolicy(eviction.Policy{MinIdle: 9, Interval: time.Hour}); err != nil {
			t.Fatal(err)
		}
		advance(time.Second)
		tried := len(p.record().fills)
		advance(time.Minute)
		e.Tick()
		if tried == 0 || len(p.record().fills) == tried || p.Idle() != 0 {
			t.Fatalf("%d dials, then %d: a failure is not tried again", tried, len(p.record().fills))
		}
	})
}

// racingPool opens its connections while the evictor decides to go to sleep.
type racingPool struct {
	simPool

	open  atomic.Int64
	looks atomic.Int64
	late  func()
}

func (r *racingPool) Open() int {
	n := int(r.open.Load())
	if r.looks.Add(1) == 2 && r.late != nil { // the look that puts the evictor to sleep has this number in hand
		r.late()
	}
	return n
}

func TestConnectionOpenedWhileFallingAsleepIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &racingPool{}
		e := eviction.New(r, eviction.Policy{MaxIdleTime: time.Minute})
		r.late = func() { r.open.Store(3); e.Wake() } // Wake finds the evictor awake still
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if e.Asleep() {
			t.Fatal("asleep with three connections open")
		}
		if err := e.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestUseBegunWhileFallingAsleepIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &racingPool{}
		r.open.Store(2)
		e := eviction.New(r, eviction.Policy{MinIdle: 2, MaxIdleTime: time.Minute})
		r.late = func() { // both idle ones are taken, for good
			r.mu.Lock()
			r.inUse, r.peak = 2, 2
			r.mu.Unlock()
			e.Wake()
		}
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if e.Asleep() {
			t.Fatal("asleep, with nothing idle and MinIdle 2")
		}
		if err := e.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTickDuringARoundComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangingPool{entered: make(chan struct{}, 10), release: make(chan struct{}, 10)}
		e := eviction.New(h, eviction.Policy{MaxIdleTime: time.Minute, Interval: time.Second})
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		advance(59500 * time.Millisecond)
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Second)
			e.Tick() // as a Wake during the round would have it
		})
		advance(5 * time.Second) // ticks come and find the round under way
		for range cap(h.release) {
			h.release <- struct{}{}
		}
		wg.Wait()
		advance(3 * time.Second)
		if len(h.entered) < 2 {
			t.Fatalf("%d sweeps; the timer has not come back", len(h.entered))
		}
		if err := e.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkWakeWhileAwake(b *testing.B) {
	p := &simPool{limit: 1}
	e := eviction.New(p, eviction.Policy{MinIdle: 1, MaxIdleTime: time.Hour})
	b.ReportAllocs()
	for b.Loop() {
		e.Wake()
	}
}
