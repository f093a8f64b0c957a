package quality_test

import (
	"context"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/health/quality"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

func TestScoreWeighsLatencySaturationAndErrors(t *testing.T) {
	const half = quality.DefaultSlowLatency / 2
	for _, c := range []struct {
		policy     quality.Policy
		latency    time.Duration
		saturation float64
		errors     float64
		want       int
	}{
		{quality.Policy{}, 0, 0, 0, 100},
		{quality.Policy{}, quality.DefaultSlowLatency, 0, 0, 60},
		{quality.Policy{}, 0, 1, 0, 70},
		{quality.Policy{}, 0, 0, 1, 70},
		{quality.Policy{}, half, 0.5, 0.5, 50},
		{quality.Policy{}, time.Hour, 7, 7, 0},
		{quality.Policy{}, -1, -1, math.NaN(), 70},
		{quality.Policy{ErrorWeight: 1}, time.Hour, 1, 0, 100},
		{quality.Policy{LatencyWeight: 3, SaturationWeight: 1, SlowLatency: time.Second}, time.Second, 0, 1, 25},
	} {
		if got := quality.Score(c.policy, c.latency, c.saturation, c.errors); got != c.want {
			t.Errorf("%+v of %v, %v, %v: %d, want %d", c.policy, c.latency, c.saturation, c.errors, got, c.want)
		}
	}
}

func TestScoreIsBoundedAndNeverBetterForWorse(t *testing.T) {
	rapid.Check(t, scoreIsBounded)
}

func FuzzScoreIsBoundedAndNeverBetterForWorse(f *testing.F) { fuzzing.Property(f, scoreIsBounded) }

func scoreIsBounded(t *rapid.T) {
	p := quality.Policy{
		LatencyWeight: rapid.IntRange(0, 100).Draw(t, "wl"), SaturationWeight: rapid.IntRange(0, 100).Draw(t, "ws"),
		ErrorWeight: rapid.IntRange(0, 100).Draw(t, "we"),
	}
	latency := time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "latency"))
	sat, bad := rapid.Float64Range(0, 1).Draw(t, "saturation"), rapid.Float64Range(0, 1).Draw(t, "errors")
	more := time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "more"))
	score := quality.Score(p, latency, sat, bad)
	if score < 0 || score > 100 {
		t.Fatalf("score %d", score)
	}
	if quality.Score(p, latency+more, sat, bad) > score || quality.Score(p, latency, min(1, sat+0.1), bad) > score || quality.Score(p, latency, sat, min(1, bad+0.1)) > score {
		t.Fatalf("something got worse and the score of %d better", score)
	}
}

var errDown = errors.New("down on purpose")

// pool is a pool's statistics that a test can change.
type pool struct{ stats poolkeeper.Stats }

func (p *pool) Stats() poolkeeper.Stats { return p.stats }

func TestMeterDegradesWhereALimitIsPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{poolkeeper.Stats{Max: 10}}
		latency := time.Millisecond
		meter, err := quality.NewMeter(func(context.Context) error {
			time.Sleep(latency)
			return nil
		}, p.Stats, quality.Policy{
			MaxLatency: 100 * time.Millisecond, MaxWorstLatency: 250 * time.Millisecond, MaxSaturation: 0.8, MaxErrorRatio: 0.1,
			MinScore: 40, Window: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		run := func(kind health.Kind, want ...string) {
			t.Helper()
			err := meter.Probe(t.Context())
			if kind == health.KindNone {
				if err != nil {
					t.Errorf("%v, want none", err)
				}
				return
			}
			q, ok := errors.AsType[*quality.LimitError](err)
			if !ok || health.Classify(err).Kind != kind || q.Reading != meter.Reading() {
				t.Fatalf("%v of kind %s, want %s", err, health.Classify(err).Kind, kind)
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("nothing about %q in %q", w, err)
				}
			}
		}
		if q := meter.Reading(); q != (quality.Reading{}) {
			t.Errorf("before the first run: %+v", q)
		}
		run(health.KindNone)
		if q := meter.Reading(); q.Latency != time.Millisecond || q.WorstLatency != time.Millisecond || q.Saturation != 0 || q.Score != 100 {
			t.Errorf("%+v", q)
		}
		latency = 300 * time.Millisecond
		run(quality.KindSlow, "latency 300ms (limit 100ms)", "worst latency 300ms (limit 250ms)")
		latency = time.Millisecond
		p.stats.InUse = 9
		run(health.KindPoolExhausted, "saturation 90% (limit 80%)")
		p.stats.InUse, p.stats.Waiting = 0, 1
		run(health.KindPoolExhausted, "saturation 100%")
		p.stats.Waiting = 0
		p.stats.Use.Count += 80
		p.stats.AcquireTimeouts += 15
		p.stats.DialErrors += 5
		run(quality.KindFlaky, "errors 20.0% (limit 10.0%)")
		run(health.KindNone) // nothing more has failed since
		p.stats = poolkeeper.Stats{Max: 10}
		run(health.KindNone) // counters that begin anew are no errors
		latency = time.Second
		p.stats.InUse = 10
		run(health.KindPoolExhausted, "score 30 (limit 40)")
	})
}

func TestMeterAveragesAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		latency := 100 * time.Millisecond
		var fail error
		meter, err := quality.NewMeter(func(context.Context) error {
			time.Sleep(latency)
			return fail
		}, (&pool{}).Stats, quality.Policy{Window: 3})
		if err != nil {
			t.Fatal(err)
		}
		probe := func() quality.Reading {
			if err := meter.Probe(t.Context()); !errors.Is(err, fail) {
				t.Errorf("the probe's own result is lost: %v", err)
			}
			return meter.Reading()
		}
		probe()
		latency = 300 * time.Millisecond
		if q := probe(); q.Latency != 200*time.Millisecond || q.WorstLatency != latency { // half of each, with a window of 3
			t.Errorf("%+v", q)
		}
		fail, latency = errDown, time.Hour
		if q := probe(); q.Latency != 200*time.Millisecond || q.WorstLatency != 300*time.Millisecond {
			t.Errorf("a failed run counts: %+v", q)
		}
		fail, latency = nil, 0
		probe()
		probe()
		if q := probe(); q.WorstLatency != 0 || q.Latency != 25*time.Millisecond {
			t.Errorf("the worst of before is not forgotten: %+v", q)
		}
	})
}

func TestMeterRefusesAPolicyThatCannotBe(t *testing.T) {
	ok := func(context.Context) error { return nil }
	_, err := quality.NewMeter(ok, (&pool{}).Stats, quality.Policy{
		MaxLatency: -1, MaxWorstLatency: -1, MaxSaturation: 1.1, MaxErrorRatio: math.NaN(), MinScore: 101, SlowLatency: -1,
		LatencyWeight: -1, Window: -1,
	})
	for _, want := range []string{
		"MaxLatency", "MaxWorstLatency", "MaxSaturation", "MaxErrorRatio", "MinScore", "SlowLatency", "weight", "Window",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in: %v", want, err)
		}
	}
	if _, err := quality.NewMeter(nil, nil, quality.Policy{}); err == nil {
		t.Error("no probe and no statistics is no fault")
	}
}

// extremes are the values that a duration is tried with: the ends, and both sides of zero.
var extremes = []time.Duration{0, 1, poolkeeper.Off, -2 * time.Second, math.MaxInt64, math.MaxInt64 - 1}

func TestEveryDurationOfQualityIsJudgedOrRefused(t *testing.T) {
	for f := range reflect.TypeFor[quality.Policy]().Fields() {
		if f.Type != reflect.TypeFor[time.Duration]() {
			continue
		}
		for _, d := range extremes {
			var p quality.Policy
			reflect.ValueOf(&p).Elem().FieldByIndex(f.Index).SetInt(int64(d))
			meter, err := quality.NewMeter(func(context.Context) error {
				time.Sleep(10 * time.Microsecond)
				return nil
			}, func() poolkeeper.Stats { return poolkeeper.Stats{} }, p)
			if (err == nil) != (d >= 0) {
				t.Errorf("%s %d: %v", f.Name, d, err)
			}
			if err != nil {
				continue
			}
			slow := meter.Probe(t.Context()) != nil
			if want := d == 1 && f.Name != "SlowLatency"; slow != want {
				t.Errorf("%s %d: degraded %v, want %v", f.Name, d, slow, want)
			}
			if s := meter.Reading().Score; s < 0 || s > 100 {
				t.Errorf("%s %d: score %d", f.Name, d, s)
			}
		}
	}
}
