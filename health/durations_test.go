package health_test

import (
	"context"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
)

// extremes are the values that a duration is tried with: the ends, and both sides of zero.
var extremes = []time.Duration{0, 1, poolkeeper.Off, -2 * time.Second, math.MaxInt64, math.MaxInt64 - 1}

// durations are the fields of a struct that are durations.
func durations(v any) []reflect.StructField {
	var fields []reflect.StructField
	for f := range reflect.TypeOf(v).Fields() {
		if f.Type == reflect.TypeFor[time.Duration]() {
			fields = append(fields, f)
		}
	}
	return fields
}

// tryCheck registers a check whose probe takes a moment and succeeds. The value is refused under
// its name, or the check passes at once, still does an hour later, and has not run more often than
// its intervals say.
func tryCheck(t *testing.T, name string, d time.Duration, cfg health.Config, c health.Check) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if err := cfg.Validate(); err != nil {
			wantRefused(t, name, d, err)
			return
		}
		m := health.New(cfg)
		runs := 0
		c.Name, c.Probe = "x", func(context.Context) error {
			runs++
			time.Sleep(time.Microsecond)
			return nil
		}
		r, err := m.Register(c)
		if err != nil {
			wantRefused(t, name, d, err)
			return
		}
		if d < 0 {
			t.Errorf("%s %d is not refused", name, d)
		}
		start(t, m)
		settle()
		passes := d != 1 || (name != "Timeout") // no probe answers within a nanosecond
		if name == "InitialDelay" && d > 1 {
			passes = false // its first run is due in 292 years
		}
		wantReady(t, m, passes, name+" "+d.String())
		if passes {
			r.Observe(errDown) // brings a run forward
			r.Observe(nil)
		}
		advance(time.Hour)
		wantReady(t, m, passes, name+" "+d.String()+" an hour later")
		if most := 3600 / 8; runs > most {
			t.Errorf("%s %d: %d runs in an hour", name, d, runs)
		}
	})
}

func wantRefused(t *testing.T, name string, d time.Duration, err error) {
	t.Helper()
	if !strings.Contains(err.Error(), name) || d > 1 {
		t.Errorf("%s %d: refused with %v", name, d, err)
	}
}

func TestEveryDurationMayBeAsLongAsItGets(t *testing.T) {
	for _, f := range durations(health.Config{}) {
		for _, d := range extremes {
			var cfg health.Config
			reflect.ValueOf(&cfg).Elem().FieldByIndex(f.Index).SetInt(int64(d))
			if f.Name == "RetryInterval" && d > 1 {
				cfg.Interval = math.MaxInt64 // it may not be longer
			}
			tryCheck(t, f.Name, d, cfg, health.Check{})
		}
	}
	for _, f := range durations(health.Check{}) {
		for _, d := range extremes {
			var c health.Check
			reflect.ValueOf(&c).Elem().FieldByIndex(f.Index).SetInt(int64(d))
			if f.Name == "RetryInterval" && d > 1 {
				c.Interval = math.MaxInt64
			}
			tryCheck(t, f.Name, d, health.Config{}, c)
		}
	}
	const forever = math.MaxInt64
	for _, jitter := range []float64{0, 1, poolkeeper.NoJitter} {
		tryCheck(t, "all", forever, health.Config{}, health.Check{
			Interval: forever, RetryInterval: forever, Timeout: forever, MaxAge: forever, Jitter: jitter, TrafficCounts: true,
		})
		tryCheck(t, "all of Config", forever, health.Config{
			Interval: forever, RetryInterval: forever, Timeout: forever, Jitter: jitter,
		}, health.Check{TrafficCounts: true})
	}
}

func TestAProbeMayHaveAllTheTimeThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		register(t, m, health.Check{Name: "x", Timeout: math.MaxInt64, Probe: func(ctx context.Context) error {
			if ctx.Err() != nil {
				t.Error("its context has ended before it was called")
			}
			return nil
		}})
		start(t, m)
		settle()
		wantReady(t, m, true, "first run")
	})
}

func TestAHeartMayBeatAsRarelyAsItLikes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := health.New(health.Config{})
		start(t, m)
		for _, d := range extremes {
			h, err := m.Heartbeat("loop", d)
			if (err == nil) != (d > 0) {
				t.Errorf("%d: %v", d, err)
			}
			if err != nil {
				continue
			}
			advance(20 * time.Second)
			if w := get(health.Handler(m), "/livez"); (w.Code == http.StatusOK) != (d > 1) {
				t.Errorf("maxAge %d: /livez answers %d", d, w.Code)
			}
			h.Stop()
		}
	})
}
