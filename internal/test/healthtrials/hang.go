package healthtrials

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// HangFromTheStart wants a check that never returns to be not ready, and the probe to answer all
// the while.
func HangFromTheStart(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var other gauge
	err := b.start(ctx, Check{Name: "hangs", Probe: b.hang}, Check{Name: "works", Probe: other.probe})
	if err != nil {
		return err
	}
	for range 10 {
		if err := b.mustBe(ctx, false, "a check hangs from the start"); err != nil {
			return err
		}
		pause(interval)
	}
	return keepsRunning(&other)
}

// HangLater wants a check that begins to hang to be not ready soon, and the others to go on.
func HangLater(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var sick, other gauge
	err := b.start(ctx, Check{Name: "sick", Probe: sick.probe}, Check{Name: "works", Probe: other.probe})
	if err != nil {
		return err
	}
	if err := b.mustBecome(ctx, true, soon, "both work"); err != nil {
		return err
	}
	sick.become(b.hang)
	if err := b.mustBecome(ctx, false, soon, "a check hangs"); err != nil {
		return err
	}
	return keepsRunning(&other)
}

// keepsRunning wants the check to have gone on at its pace.
func keepsRunning(g *gauge) error {
	before := g.runs.Load()
	pause(10 * interval)
	if n := g.runs.Load() - before; n < 5 {
		return fmt.Errorf("another check ran %d times in 10 intervals", n)
	}
	return nil
}

// HangCostsOneGoroutine wants no goroutine to pile up behind a check that hangs, neither of runs
// nor of requests.
func HangCostsOneGoroutine(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var sick gauge
	if err := b.start(ctx, Check{Name: "sick", Probe: sick.probe}); err != nil {
		return err
	}
	if err := b.mustBecome(ctx, true, soon, "it works"); err != nil {
		return err
	}
	before := runtime.NumGoroutine()
	sick.become(b.hang)
	for range 20 {
		pause(interval)
		_, _ = b.ready(ctx) // what it answers is another trial
	}
	// One for the probe, and room for one that is just coming or going.
	if n := runtime.NumGoroutine() - before; n > 2 {
		return fmt.Errorf("%d goroutines more after 20 intervals and 20 requests", n)
	}
	return nil
}

// TimeoutLeaksNothing wants probes that end with their context to leave no goroutine.
func TimeoutLeaksNothing(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	before := runtime.NumGoroutine()
	slow := func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.released:
			return nil
		}
	}
	if err := b.start(ctx, Check{Name: "slow", Probe: slow}); err != nil {
		return err
	}
	pause(20 * interval)
	if err := b.mustBe(ctx, false, "a check times out"); err != nil {
		return err
	}
	if n := runtime.NumGoroutine() - before; n > 5 { // a library may keep a few for itself
		return fmt.Errorf("%d goroutines more after 20 timeouts", n)
	}
	return nil
}

// ProbeContextHasDeadline wants the context given to a probe to end at the check's timeout.
func ProbeContextHasDeadline(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	left := make(chan time.Duration, 1)
	look := func(ctx context.Context) error {
		d, ok := ctx.Deadline()
		if !ok {
			d = time.Time{}
		}
		select {
		case left <- time.Until(d):
		default:
		}
		return nil
	}
	if err := b.start(ctx, Check{Name: "look", Probe: look}); err != nil {
		return err
	}
	select {
	case d := <-left:
		if d <= 0 || d > timeout {
			return fmt.Errorf("the probe's context ends in %v, the timeout is %v", d, timeout)
		}
		return nil
	case <-time.After(patience):
		return errors.New("the check was never run")
	}
}

// TimeoutPerCheck wants a short timeout of one check not to end another that takes longer.
func TimeoutPerCheck(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	slow := func(ctx context.Context) error {
		select {
		case <-time.After(3 * timeout):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := b.start(ctx,
		Check{Name: "slow", Probe: slow, Timeout: 10 * timeout, Interval: 10 * interval},
		Check{Name: "quick", Probe: func(context.Context) error { return nil }})
	if err != nil {
		return err
	}
	return b.mustBecome(ctx, true, soon, "a slow check with a long timeout")
}

// StopReturnsWhileHung wants Stop to return by its context's end.
func StopReturnsWhileHung(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	if err := b.start(ctx, Check{Name: "hangs", Probe: b.hang}); err != nil {
		return err
	}
	pause(3 * interval)
	stop, cancel := context.WithTimeout(ctx, interval)
	defer cancel()
	if !returns(func() { _ = b.Stop(stop) }) {
		return errors.New("the call of Stop does not return")
	}
	return nil
}

// RemoveHungTwice wants a check that hangs to be removable, and a second removal to return too.
func RemoveHungTwice(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var other gauge
	err := b.start(ctx, Check{Name: "hangs", Probe: b.hang}, Check{Name: "works", Probe: other.probe})
	if err != nil {
		return err
	}
	pause(3 * interval)
	for _, which := range []string{"first", "second"} {
		remove, cancel := context.WithTimeout(ctx, interval)
		var err error
		ok := returns(func() { err = b.Remove(remove, "hangs") })
		cancel()
		if !ok {
			return fmt.Errorf("the %s removal does not return", which)
		}
		if errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return b.mustBecome(ctx, true, soon, "the check that hung is gone")
}
