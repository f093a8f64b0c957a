package healthtrials

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// ReadyOnlyAfterFirstResult wants a check that has not answered yet to count as not ready.
func ReadyOnlyAfterFirstResult(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	slow := func(context.Context) error {
		pause(5 * interval)
		return nil
	}
	if err := b.start(ctx, Check{Name: "slow", Probe: slow, Timeout: 20 * interval, Interval: 20 * interval}); err != nil {
		return err
	}
	pause(interval)
	if err := b.mustBe(ctx, false, "before the first result"); err != nil {
		return err
	}
	return b.mustBecome(ctx, true, soon, "after the first result")
}

// PanicFailsOneCheck wants a probe that panics to fail its check, and nothing else.
func PanicFailsOneCheck(ctx context.Context, fresh func() Subject) error {
	return failsOneCheck(ctx, fresh, "a check panics", func(context.Context) error { panic("on purpose") })
}

// GoexitFailsOneCheck wants a probe that ends its goroutine to fail its check, and nothing else.
func GoexitFailsOneCheck(ctx context.Context, fresh func() Subject) error {
	return failsOneCheck(ctx, fresh, "a check calls runtime.Goexit", func(context.Context) error {
		runtime.Goexit()
		return nil
	})
}

func failsOneCheck(ctx context.Context, fresh func() Subject, when string, mode func(context.Context) error) error {
	b, end := begin(ctx, fresh)
	defer end()
	var sick, other gauge
	sick.become(mode)
	err := b.start(ctx, Check{Name: "sick", Probe: sick.probe}, Check{Name: "works", Probe: other.probe})
	if err != nil {
		return err
	}
	pause(5 * interval)
	if err := b.mustBe(ctx, false, when); err != nil {
		return err
	}
	if err := keepsRunning(&other); err != nil {
		return err
	}
	sick.fail(nil)
	// A failing check may back off for a second or two before it is asked again.
	return b.mustBecome(ctx, true, 4*time.Second, "after the check was mended")
}

// FailureThreshold wants fewer failures in a row than the threshold to change nothing, and as many
// to count.
func FailureThreshold(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var g gauge
	if err := b.start(ctx, Check{Name: "flaky", Probe: g.probe, FailureThreshold: 3}); err != nil {
		return err
	}
	if err := b.mustBecome(ctx, true, soon, "it works"); err != nil {
		return err
	}
	var failures atomic.Int64
	g.become(func(context.Context) error {
		if failures.Add(1) <= 2 {
			return errBroken
		}
		return nil
	})
	for failures.Load() <= 3 {
		if err := b.mustBe(ctx, true, "after two failures of three"); err != nil {
			return err
		}
		pause(5 * time.Millisecond)
	}
	g.fail(errBroken)
	return b.mustBecome(ctx, false, soon, "after three failures")
}

// SuccessThreshold wants fewer successes in a row than the threshold to leave a failed check
// failed.
func SuccessThreshold(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var g gauge
	g.fail(errBroken)
	if err := b.start(ctx, Check{Name: "flaky", Probe: g.probe, SuccessThreshold: 3}); err != nil {
		return err
	}
	pause(3 * interval)
	var successes atomic.Int64
	g.become(func(context.Context) error {
		if successes.Add(1) == 3 { // two in a row, then a failure
			return errBroken
		}
		return nil
	})
	for successes.Load() < 3 {
		if err := b.mustBe(ctx, false, "after fewer than three successes"); err != nil {
			return err
		}
		pause(5 * time.Millisecond)
	}
	return b.mustBecome(ctx, true, 4*time.Second, "after three successes")
}

// EvenSpread wants a thousand checks every 100 ms not to run in step: at most a tenth of the runs
// in the busiest 5 ms, where 5 % would be even.
func EvenSpread(ctx context.Context, fresh func() Subject) error {
	const n, window = 1000, 5 * time.Millisecond
	b, end := begin(ctx, fresh)
	defer end()
	gauges := make([]gauge, n)
	checks := make([]Check, n)
	for i := range checks {
		checks[i] = Check{Name: fmt.Sprintf("check-%04d", i), Probe: gauges[i].probe}
	}
	if err := b.start(ctx, checks...); err != nil {
		return err
	}
	pause(2 * interval)
	from := time.Now()
	pause(interval)
	to := from.Add(interval)
	var starts []time.Time
	for i := range gauges {
		for _, at := range gauges[i].starts() {
			if !at.Before(from) && at.Before(to) {
				starts = append(starts, at)
			}
		}
	}
	if len(starts) < n/2 {
		return fmt.Errorf("%d checks ran %d times in one interval", n, len(starts))
	}
	slices.SortFunc(starts, time.Time.Compare)
	busiest, first := 0, 0
	for i, at := range starts {
		for at.Sub(starts[first]) >= window {
			first++
		}
		busiest = max(busiest, i-first+1)
	}
	if share := float64(busiest) / float64(len(starts)); share > 0.10 {
		return fmt.Errorf("%.0f %% of %d runs in the busiest %v of an interval", 100*share, len(starts), window)
	}
	return nil
}

// VerdictAges requires that readiness ends after the maximum age without a result. It must end even
// if no goroutine is left to run checks.
func VerdictAges(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var g gauge
	if err := b.start(ctx, Check{Name: "works", Probe: g.probe, MaxAge: 4 * interval}); err != nil {
		return err
	}
	if err := b.mustBecome(ctx, true, soon, "it works"); err != nil {
		return err
	}
	if err := b.Freeze(); err != nil {
		return fmt.Errorf("no deadline for a verdict: %w", err)
	}
	return b.mustBecome(ctx, false, 5*interval, "the scheduler is dead")
}

// BacksOff wants the pauses between runs of a failing check to grow.
func BacksOff(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var g gauge
	g.fail(errBroken)
	if err := b.start(ctx, Check{Name: "down", Probe: g.probe, Interval: 4 * time.Second}); err != nil {
		return err
	}
	const runs = 4
	err := eventually(20*time.Second, func() error {
		if n := g.runs.Load(); n < runs {
			return fmt.Errorf("%d runs in 20 s", n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	at := g.starts()
	first, third := at[1].Sub(at[0]), at[3].Sub(at[2])
	if third < 2*first {
		return fmt.Errorf("pauses do not grow: %v, later %v", first, third)
	}
	return nil
}

// PassiveSignal wants an error of live traffic to bring the next run forward.
func PassiveSignal(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var g gauge
	if err := b.start(ctx, Check{Name: "db", Probe: g.probe, Interval: time.Hour}); err != nil {
		return err
	}
	if err := b.mustBecome(ctx, true, soon, "it works"); err != nil {
		return err
	}
	g.fail(errBroken)
	if err := b.Observe("db", errBroken); err != nil {
		return fmt.Errorf("cannot be told what traffic saw: %w", err)
	}
	return b.mustBecome(ctx, false, soon, "traffic saw an error, the next run is an hour away")
}

// RootCause wants the failure of a check to be put down to the failed one it depends on, through
// one between.
func RootCause(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var g gauge
	g.fail(errBroken)
	err := b.start(ctx,
		Check{Name: "postgres", Probe: g.probe},
		Check{Name: "repository", Probe: g.probe, DependsOn: []string{"postgres"}},
		Check{Name: "orders API", Probe: g.probe, DependsOn: []string{"repository"}})
	if err != nil {
		return err
	}
	return eventually(soon, func() error {
		causes, err := b.Causes("orders API")
		if err != nil {
			return fmt.Errorf("cannot say what causes a failure: %w", err)
		}
		if !slices.Equal(causes, []string{"postgres"}) {
			return fmt.Errorf("the failure is put down to %q", causes)
		}
		return nil
	})
}

// ListenerMayCallBack wants a listener that asks for readiness to block nothing.
func ListenerMayCallBack(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	called := make(chan error, 1)
	err := b.Listen(func(string) {
		_, err := b.ready(ctx)
		select {
		case called <- err:
		default:
		}
	})
	if err != nil {
		return err
	}
	var g gauge
	err = b.start(ctx, Check{Name: "works", Probe: g.probe})
	if err != nil {
		return err
	}
	select {
	case err = <-called:
	case <-time.After(2 * patience):
		err = errors.New("the listener was not called")
	}
	if err != nil {
		return err
	}
	return keepsRunning(&g)
}

// ChangeNamesCheck wants listeners to be told which check changed.
func ChangeNamesCheck(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	told := make(chan string, 100)
	err := b.Listen(func(check string) {
		select {
		case told <- check:
		default:
		}
	})
	if err != nil {
		return err
	}
	var sick, other gauge
	sick.fail(errBroken)
	if err := b.start(ctx, Check{Name: "sick", Probe: sick.probe}, Check{Name: "works", Probe: other.probe}); err != nil {
		return err
	}
	late := time.After(soon)
	for {
		select {
		case name := <-told:
			if name == "sick" {
				return nil
			}
		case <-late:
			return errors.New("nobody was told the name of the check that failed")
		}
	}
}
