package dialpace_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/dialpace"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func paceOf(l dialpace.Limits) *dialpace.Pace {
	return dialpace.New(func() dialpace.Limits { return l })
}

// taken counts the dials that p allows now.
func taken(p *dialpace.Pace) (n int) {
	for p.Take() == 0 && n < 1000 {
		n++
	}
	return n
}

func TestWindowOpensWithEachSuccessAndClosesOnceForOneBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paceOf(dialpace.Limits{MaxDials: 4, MaxOpen: 10})
		for _, want := range []int{1, 2, 3, 4, 4} {
			if got := p.Window(); got != want {
				t.Fatalf("window is %d, want %d", got, want)
			}
			p.Opened()
		}
		burst := monotime.Now()
		time.Sleep(time.Second)
		p.Slow(burst)
		if got := p.Window(); got != 1 {
			t.Errorf("after a slow dial the window is %d, want 1", got)
		}
		p.Opened()
		p.Slow(burst)
		if got := p.Window(); got != 2 {
			t.Errorf("a second slow dial of the same burst left a window of %d, want 2", got)
		}
		p.Slow(monotime.Now())
		if got := p.Window(); got != 1 {
			t.Errorf("after a later slow dial the window is %d, want 1", got)
		}
	})
}

func TestFailureClosesTheWindowAndALostConnectionDoesNot(t *testing.T) {
	p := paceOf(dialpace.Limits{MaxDials: 4, MaxOpen: 10})
	p.Opened()
	p.Spend() // the server may have ended the session, and answer
	if got := p.Window(); got != 2 {
		t.Errorf("after a lost connection the window is %d, want 2", got)
	}
	p.Failed()
	if got := p.Window(); got != 1 {
		t.Errorf("after a failure the window is %d, want 1", got)
	}
}

func TestOneInstanceNeedsNoCredit(t *testing.T) {
	for _, instances := range []int{0, 1} {
		p := paceOf(dialpace.Limits{MaxDials: 10, MaxOpen: 10, Instances: instances})
		p.Failed()
		if got := taken(p); got != 1000 {
			t.Errorf("%d instances: only %d dials were allowed", instances, got)
		}
	}
}

func TestIntervalSharesTheRateOfTheFleet(t *testing.T) {
	for _, c := range []struct {
		instances, open int
		want            time.Duration
	}{
		{1, 20, 0},
		{2, 20, 20 * time.Millisecond},      // 100 logins a second
		{100, 20, time.Second},              // the same: 4 % of 2,000 connections are less
		{1000, 20, 1250 * time.Millisecond}, // 800
		{1000, 100, 250 * time.Millisecond}, // 4,000
	} {
		if got := (dialpace.Limits{MaxDials: 10, MaxOpen: c.open, Instances: c.instances}).Interval(); got != c.want {
			t.Errorf("%d instances of %d connections: %s, want %s", c.instances, c.open, got, c.want)
		}
	}
}

var fleet = dialpace.Limits{MaxDials: 10, MaxOpen: 20, Instances: 1000}

func TestColdStartIsPacedAndGrowthIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paceOf(fleet)
		p.Spend() // the check of Start
		if got := taken(p); got != 1 {
			t.Errorf("the first caller gets %d dials, want 1", got)
		}
		began, n := time.Now(), 0
		for n < fleet.MaxOpen {
			wait := p.Take()
			if wait == 0 {
				n++
				continue
			}
			time.Sleep(wait)
		}
		least, most := 20*fleet.Interval()*3/4, 20*fleet.Interval()*5/4
		if took := time.Since(began); took < least || took > most {
			t.Errorf("%d dials took %s, want %s to %s", n, took, least, most)
		}
		time.Sleep(time.Hour)
		if got := taken(p); got < fleet.MaxOpen-1 || got > fleet.MaxOpen {
			t.Errorf("a pool that has run for long gets %d dials at once, want %d", got, fleet.MaxOpen)
		}
	})
}

func TestAwaitWaitsForCreditAndErrSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paceOf(fleet)
		if err := p.Err(); err != nil {
			t.Errorf("with credit it says %v", err)
		}
		p.Failed()
		want := "after a start or an outage one connection is opened every 1.25s, because 1000 instances share the server"
		if err := p.Err(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		began := time.Now()
		if !p.Await(t.Context()) || time.Since(began) < fleet.Interval()/2 {
			t.Errorf("it waited %s", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		p.Failed()
		if p.Await(ctx) {
			t.Error("it did not end with its context")
		}
		if one := paceOf(dialpace.Limits{MaxDials: 1, MaxOpen: 1}); !one.Await(t.Context()) || one.Err() != nil {
			t.Error("one instance waits")
		}
	})
}

func TestNothingIsEarnedInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paceOf(fleet)
		time.Sleep(time.Hour)
		for range fleet.MaxOpen {
			p.Spend() // the server was killed
		}
		if got := taken(p); got != 0 {
			t.Errorf("%d connections are dialled anew at once", got)
		}
		for range 100 { // trials
			time.Sleep(time.Second)
			p.Failed()
		}
		if got := taken(p); got != 0 {
			t.Errorf("after the outage %d are dialled at once", got)
		}
	})
}

// Whatever happens, an instance opens no more than its share: what it began with, and one for each
// interval.
func TestShareIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { shareIsNeverExceeded(t, rt) })
}

func FuzzShareIsNeverExceeded(f *testing.F) { fuzzing.Bubble(f, shareIsNeverExceeded) }

func shareIsNeverExceeded(t *testing.T, rt *rapid.T) {
	t.Helper()
	type step struct {
		what int
		gap  time.Duration
	}
	steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
		return step{rapid.IntRange(0, 4).Draw(rt, "what"), time.Duration(rapid.IntRange(0, 5000).Draw(rt, "ms")) * time.Millisecond}
	}), 0, 200).Draw(rt, "steps")
	n, took := 0, time.Duration(0)
	synctest.Test(t, func(*testing.T) {
		p, began := paceOf(fleet), time.Now()
		for _, s := range steps {
			switch s.what {
			case 0:
				p.Spend()
			case 1:
				p.Failed()
			case 2:
				time.Sleep(s.gap)
			default:
				if p.Take() == 0 {
					n++
				}
			}
		}
		took = time.Since(began)
	})
	if most := 2.5 + float64(took)/float64(fleet.Interval()); float64(n) > most {
		rt.Fatalf("%d dials in %s, want %.1f at most", n, took, most)
	}
}

// A wait that Take returns is enough.
func TestWaitIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paceOf(fleet)
		for range 1000 {
			if wait := p.Take(); wait > 0 {
				time.Sleep(wait)
				if again := p.Take(); again != 0 {
					t.Fatalf("after %s it asks for %s more", wait, again)
				}
			}
		}
	})
}
