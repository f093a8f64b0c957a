package health_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
)

var _ poolkeeper.Observer = (*health.Registration)(nil)

// What traffic sees brings the next run forward, once per RetryInterval, and flips nothing by
// itself.
func TestErrorOfTrafficBringsTheRunForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Jitter: poolkeeper.NoJitter})
		var db script
		r := register(t, m, health.Check{Name: "db", Probe: db.probe, Interval: rarely})
		r.Observe(errDown) // before Start: nothing to bring forward
		start(t, m)
		settle()
		advance(10 * time.Second)
		n := db.runs()
		begin := time.Now()
		for range 1000 { // a burst of errors, while the server is up again
			r.Observe(errDown)
		}
		wantReady(t, m, true, "errors alone change nothing")
		settle()
		if got := db.runs() - n; got != 1 {
			t.Errorf("%d runs after a burst of errors", got)
		}
		for range 50 { // errors all the time
			r.Observe(errDown)
			advance(100 * time.Millisecond)
		}
		if got := db.runs() - n; got != 6 {
			t.Errorf("%d runs in 5 s of errors, RetryInterval is 1 s: %v", got, db.since(begin))
		}
		wantReady(t, m, true, "the server answers the check")

		db.say(errDown)
		r.Observe(errDown)
		begin = time.Now()
		for m.Report().Ready() {
			advance(10 * time.Millisecond)
		}
		if took := time.Since(begin); took > 3100*time.Millisecond { // up to one RetryInterval of limit, then two retries
			t.Errorf("not ready %v after traffic met the failure; the next run was an hour away", took)
		}
	})
}

// Errors of traffic are no news to a check that fails: they do not undo its back-off.
func TestErrorsOfTrafficDoNotHurryAFailedCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: time.Minute, Jitter: poolkeeper.NoJitter})
		var db script
		db.say(errDown)
		r := register(t, m, health.Check{Name: "db", Probe: db.probe})
		start(t, m)
		for range 600 {
			r.Observe(errDown)
			advance(100 * time.Millisecond)
		}
		if n := db.runs(); n != 6 { // at 0, 1, 3, 7, 15 and 31 s
			t.Errorf("%d runs in a minute of errors", n)
		}
	})
}

func TestSuccessOfTrafficBringsTheRunOfAFailedCheckForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: rarely, Jitter: poolkeeper.NoJitter})
		var db script
		db.say(errDown)
		r := register(t, m, health.Check{Name: "db", Probe: db.probe})
		start(t, m)
		advance(62 * time.Second) // deep in the back-off: runs at 0, 1, 3, 7, 15, 31 and 61 s
		db.say(nil)
		r.Observe(nil)
		settle()
		wantReady(t, m, true, "traffic succeeded, so the check was asked at once")
		n := db.runs()
		for range 1000 {
			r.Observe(nil)
			advance(10 * time.Millisecond)
		}
		if got := db.runs(); got != n {
			t.Errorf("successes of a healthy check caused %d runs", got-n)
		}
	})
}

// An error that arrives while a run is under way may be younger than what the run sees: it is asked
// again.
func TestErrorDuringARunIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: rarely})
		release := make(chan struct{})
		var db script
		db.do(hangUntil(release))
		r := register(t, m, health.Check{Name: "db", Probe: db.probe})
		start(t, m)
		settle()
		r.Observe(errDown)
		close(release)
		db.say(nil)
		advance(1100 * time.Millisecond)
		if got := db.runs(); got != 2 {
			t.Errorf("%d runs", got)
		}
	})
}

func TestTrafficStandsInForRunsButNotForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: 10 * time.Second, Jitter: poolkeeper.NoJitter})
		var counts, ignores script
		busy := register(t, m, health.Check{Name: "counts", Probe: counts.probe, TrafficCounts: true})
		plain := register(t, m, health.Check{Name: "ignores", Probe: ignores.probe})
		start(t, m)
		const rounds = 101
		for range rounds {
			busy.Observe(nil)
			plain.Observe(nil)
			advance(10 * time.Second)
			wantReady(t, m, true, "traffic flows")
		}
		if n := ignores.runs(); n < rounds-1 || n > rounds+1 {
			t.Errorf("%d runs in %d intervals where traffic does not count", n, rounds)
		}
		if n := counts.runs(); n < rounds/5 || n > rounds/5+2 {
			t.Errorf("%d runs in %d intervals where traffic counts, every fifth has to be one", n, rounds)
		}
		n := counts.runs()
		advance(100 * time.Second) // silence
		if got := counts.runs() - n; got < 9 {
			t.Errorf("%d runs in 10 intervals without traffic", got)
		}
		counts.say(errDown)
		for range 5 { // an error ends the standing in
			busy.Observe(nil)
			busy.Observe(errDown)
			advance(time.Second)
		}
		wantReady(t, m, false, "traffic sees both, the check is down")
	})
}

// A stand-in is only as young as the traffic can have been: a MaxAge that leaves no room for it
// allows none.
func TestTrafficDoesNotStandInWhereTheVerdictWouldExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{Interval: 10 * time.Second, Timeout: time.Second, Jitter: poolkeeper.NoJitter})
		var db script
		r := register(t, m, health.Check{Name: "db", Probe: db.probe, TrafficCounts: true, MaxAge: 12 * time.Second})
		start(t, m)
		settle()
		for range 1000 {
			r.Observe(nil)
			advance(100 * time.Millisecond)
			wantReady(t, m, true, "traffic flows")
		}
		if n := db.runs(); n < 10 {
			t.Errorf("%d runs in 10 intervals", n)
		}
	})
}

func TestObservingSuccessAllocatesNothing(t *testing.T) {
	m := health.New(health.Config{})
	var db script
	r := register(t, m, health.Check{Name: "db", Probe: db.probe})
	if n := testing.AllocsPerRun(1000, func() { r.Observe(nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Observe may be called from everywhere while checks come and go.
func TestObserveIsRaceFree(t *testing.T) {
	m := health.New(health.Config{Interval: time.Millisecond})
	var db script
	r := register(t, m, health.Check{Name: "db", Probe: db.probe})
	start(t, m)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 2000 {
				if (n+i)%3 == 0 {
					r.Observe(errDown)
				}
				r.Observe(nil)
			}
		})
	}
	wg.Wait()
	if err := r.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	r.Observe(errDown)
}

func BenchmarkObserveSuccess(b *testing.B) {
	m := health.New(health.Config{})
	r, err := m.Register(health.Check{Name: "db", Probe: (&script{}).probe})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Observe(nil)
		}
	})
}

func BenchmarkBeat(b *testing.B) {
	h, err := health.New(health.Config{}).Heartbeat("loop", time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		h.Beat()
	}
}
