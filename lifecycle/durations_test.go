package lifecycle_test

import (
	"context"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// extremes are the values that a duration is tried with: the ends, and both sides of zero.
var extremes = []time.Duration{0, 1, poolkeeper.Off, -2 * time.Second, math.MaxInt64, math.MaxInt64 - 1}

// tryDuration starts and stops a service whose worker has something to save at the end. A value is
// refused under its name, or the service works. Only a time-out too short for anything may fail it.
func tryDuration(t *testing.T, name string, d time.Duration, cfg lifecycle.Config, opts ...lifecycle.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg.Logger = quiet().Logger
		reg := lifecycle.New(cfg)
		saved := false
		reg.Go("x", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Millisecond)
			saved = true
			return nil
		}, opts...)
		if err := reg.Validate(); err != nil {
			if d > 0 || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), d.String()) {
				t.Errorf("%s %d: refused with %v", name, d, err)
			}
			_ = reg.Shutdown(t.Context())
			return
		}
		if d < 0 {
			t.Errorf("%s %d is not refused", name, d)
		}
		start := reg.Start(context.Background())
		began := time.Now()
		stop := reg.Shutdown(context.Background())
		if d == 1 { // a nanosecond is enough for nothing, but it ends
			synctest.Wait()
			time.Sleep(time.Second)
			return
		}
		if start != nil || stop != nil || !saved || time.Since(began) > 100*365*24*time.Hour {
			t.Errorf("%s %d: start: %v; shutdown after %s, saved %v: %v", name, d, start, time.Since(began), saved, stop)
		}
	})
}

func TestEveryDurationMayBeAsLongAsItGets(t *testing.T) {
	for f := range reflect.TypeFor[lifecycle.Config]().Fields() {
		if f.Type != reflect.TypeFor[time.Duration]() {
			continue
		}
		for _, d := range extremes {
			cfg := lifecycle.Config{}
			reflect.ValueOf(&cfg).Elem().FieldByIndex(f.Index).SetInt(int64(d))
			if f.Name == "DrainDelay" && d > 1 {
				cfg.ShutdownTimeout = time.Minute // or it serves on for 146 years, as told
			}
			tryDuration(t, f.Name, d, cfg)
		}
	}
	for name, option := range map[string]func(time.Duration) lifecycle.Option{
		"StartTimeout": lifecycle.WithStartTimeout, "StopTimeout": lifecycle.WithStopTimeout,
	} {
		for _, d := range extremes {
			if d != 0 { // refused: the option says it
				tryDuration(t, name, d, lifecycle.Config{}, option(d))
			}
		}
	}
	all := lifecycle.Config{StartTimeout: math.MaxInt64, ShutdownTimeout: math.MaxInt64}
	tryDuration(t, "all", math.MaxInt64, all, lifecycle.WithStartTimeout(math.MaxInt64), lifecycle.WithStopTimeout(math.MaxInt64))
}

// The context of a component that has all the time there is does not end before the component is
// called.
func TestContextsOfTheLongestTimeoutsAreAlive(t *testing.T) {
	reg := lifecycle.New(lifecycle.Config{Logger: quiet().Logger, StartTimeout: math.MaxInt64, ShutdownTimeout: math.MaxInt64})
	alive := func(ctx context.Context) error {
		if d, ok := ctx.Deadline(); !ok || time.Until(d) < 100*365*24*time.Hour {
			t.Errorf("deadline %v", d)
		}
		select {
		case <-ctx.Done():
		default:
		}
		return ctx.Err()
	}
	reg.Add("a", lifecycle.Hooks{OnStart: alive, OnStop: alive})
	mustStart(t, reg)
	if err := reg.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}
