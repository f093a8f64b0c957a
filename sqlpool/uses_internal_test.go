package sqlpool

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestShortUseIsWhatOneInTenStaysBelow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	var u shortUse
	for _, scale := range []time.Duration{20 * time.Millisecond, 200 * time.Millisecond, time.Millisecond} { // it follows
		var all []time.Duration
		for range 5000 {
			d := time.Duration((0.5 + r.ExpFloat64()) * float64(scale))
			all = append(all, d)
			u.note(d)
		}
		slices.Sort(all)
		if low, high := all[len(all)/100], all[len(all)*3/10]; u.get() < low || u.get() > high {
			t.Errorf("%v, want something between the 1st and the 30th percentile, %v and %v", u.get(), low, high)
		}
	}
}

func TestQueuePassesByCallersThatCouldOnlyBreakAConnection(t *testing.T) {
	now := time.Now()
	var q queue
	join := func(since, by time.Duration) *waiter {
		ctx := context.Background()
		if by != 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, now.Add(by))
			t.Cleanup(cancel)
		}
		return q.push(ctx, now.Add(since), nil)
	}
	const short = time.Minute
	late := join(-time.Hour, time.Second)
	young := join(-time.Second, 30*time.Second) // it has most of its time
	late2 := join(-time.Hour, 10*time.Second)
	endless := join(-time.Hour, 0)
	enough := join(-time.Hour, time.Hour)
	early := q.pushEarly()
	for _, want := range []*waiter{early, young, endless, enough, nil} {
		if got := q.popInTime(short); got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
	for _, w := range []*waiter{late, late2} {
		if g := <-w.ready; g.err != errTooLate { //nolint:errorlint // it is never wrapped
			t.Errorf("granted %+v", g)
		}
	}
	if q.n != 0 {
		t.Errorf("%d wait", q.n)
	}
}
