package health_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
)

func TestReportCountsRunsFailuresAndTheirDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		var calls atomic.Int64
		probe := func(ctx context.Context) error {
			switch calls.Add(1) {
			case 1:
				time.Sleep(3 * time.Second)
				return nil
			case 2:
				time.Sleep(time.Second)
				return errors.New("refused")
			case 3:
				<-hang
				return nil
			default:
				<-ctx.Done()
				return ctx.Err()
			}
		}
		m := health.New(health.Config{})
		register(t, m, health.Check{Name: "db", Probe: probe, Interval: time.Minute, Timeout: 10 * time.Second, FailureThreshold: 1})
		report := func() health.CheckReport { c, _ := m.Report().Check("db"); return c }
		want := func(runs, failed uint64, took time.Duration) {
			t.Helper()
			for range 1000 { // until the next change of a count
				if c := report(); c.Runs == runs && c.FailedRuns == failed && c.Duration == took {
					return
				}
				advance(100 * time.Millisecond)
			}
			c := report()
			t.Fatalf("%d runs, %d failed, %s; want %d, %d, %s", c.Runs, c.FailedRuns, c.Duration, runs, failed, took)
		}
		want(0, 0, 0)
		start(t, m)
		want(1, 0, 0) // under way
		want(1, 0, 3*time.Second)
		want(2, 1, time.Second)
		want(3, 2, 10*time.Second) // given up at its timeout
		time.Sleep(5 * time.Second)
		close(hang)
		synctest.Wait()
		if c := report(); c.FailedRuns != 2 || c.Duration < 15*time.Second {
			t.Errorf("%d failed, the last took %s; want 2, and the time until it returned", c.FailedRuns, c.Duration)
		}
	})
}
