package statuspage_test

import (
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

func TestSamplingBeginsWithStartAndEndsWithStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, pool := lifecycle.New(quiet()), &fakePool{}
		page := statuspage.New(reg, open())
		reg.Add("pool", pool)
		testkit.Advance(time.Minute)
		if n := pool.timesAsked(); n != 0 {
			t.Errorf("%d times asked before Start", n)
		}
		for range 2 { // it can be started again
			before := pool.timesAsked()
			if err := page.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			testkit.Advance(20*time.Second + time.Millisecond)
			if n := pool.timesAsked() - before; n != 11 {
				t.Errorf("asked %d times in 20 s, want 11", n)
			}
			if err := page.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			before = pool.timesAsked()
			testkit.Advance(time.Minute)
			if n := pool.timesAsked() - before; n != 0 {
				t.Errorf("asked %d times after Stop", n)
			}
		}
	})
}

func TestNoGoroutineWaitsBetweenSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		page := statuspage.New(reg, open())
		reg.Add("pool", &fakePool{})
		if err := page.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Minute)
		all := make([]byte, 1<<20)
		all = all[:runtime.Stack(all, true)]
		for g := range strings.SplitSeq(string(all), "\n\n") {
			if strings.Contains(g, "/statuspage.") {
				t.Errorf("a goroutine of the page while idle:\n%s", g)
			}
		}
		if !strings.Contains(string(all), "TestNoGoroutineWaits") {
			t.Error("the stacks are not those of all goroutines")
		}
		if err := page.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStartTwiceIsAnError(t *testing.T) {
	page := statuspage.New(lifecycle.New(quiet()), open())
	if err := page.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := page.Start(t.Context()); err == nil {
		t.Error("the second Start succeeded")
	}
	for range 2 {
		if err := page.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestFaultsOfAConfigurationAreReportedAtOnceAndByStart(t *testing.T) {
	cfg := statuspage.Config{Interval: time.Millisecond, Events: -1, MaxViewers: -1}
	err := statuspage.New(nil, cfg).Start(t.Context())
	for _, want := range []string{"Interval", "Events", "MaxViewers", "registry is nil"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if err := (statuspage.Config{Interval: time.Second, Window: 9 * time.Second}).Validate(); err == nil {
		t.Error("a Window of nine samples is no fault")
	}
	if err := (statuspage.Config{Interval: time.Minute}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestRecentSaysWhatCallersSawInTheLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, pool := lifecycle.New(quiet()), &fakePool{}
		page := statuspage.New(reg, open())
		reg.Add("pool", pool)
		pool.stats = poolkeeper.Stats{Max: 10, Wait: waits(1000, time.Second), DialErrors: 7}
		if err := page.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(5 * time.Minute)
		r := document(t, page).Pools[0].Recent
		if r.Measured != 0 || r.DialErrors != 0 || r.Over < 58 || r.Over > 62 {
			t.Errorf("what was before the last minute is in it: %+v", r)
		}
		pool.set(func(s *poolkeeper.Stats) {
			s.InUse, s.Waiting, s.DialErrors = 10, 3, 9
			s.Wait = sum(s.Wait, waits(100, 3*time.Millisecond))
		})
		testkit.Advance(10 * time.Second)
		pool.set(func(s *poolkeeper.Stats) { s.InUse, s.Waiting = 1, 0 })
		testkit.Advance(10 * time.Second)
		r = document(t, page).Pools[0].Recent
		if r.Measured != 100 || r.AcquireP50 < 1e-3 || r.AcquireP99 > 5e-3 {
			t.Errorf("want 100 acquisitions between 1 and 5 ms: %+v", r)
		}
		if r.DialErrors != 2 || r.MaxInUse != 10 || r.MaxWaiting != 3 {
			t.Errorf("%+v", r)
		}
		if err := page.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestASampleSeesTheAcquisitionsSinceTheOneBefore(t *testing.T) {
	n, p50, p99 := statuspage.Waits(sum(waits(1000, time.Second), waits(100, 3*time.Millisecond)), waits(1000, time.Second))
	if n != 100 || p50 < 1e-3 || p99 > 5e-3 || p50 > p99 {
		t.Errorf("%d acquisitions, p50 %g, p99 %g; want 100 between 1 and 5 ms", n, p50, p99)
	}
	if n, _, _ := statuspage.Waits(waits(5, time.Second), waits(1000, time.Second)); n != 0 {
		t.Errorf("%d acquisitions although the counters began anew", n)
	}
}

func sum(a, b poolkeeper.Histogram) poolkeeper.Histogram {
	out := poolkeeper.Histogram{Count: a.Count + b.Count, Sum: a.Sum + b.Sum}
	for i := range a.Buckets {
		out.Buckets = append(out.Buckets, poolkeeper.Bucket{UpperBound: a.Buckets[i].UpperBound, Count: a.Buckets[i].Count + b.Buckets[i].Count})
	}
	return out
}

// A quantile lies in the bucket of the observation with that rank.
func TestQuantileLiesInTheBucketOfItsRank(t *testing.T) {
	rapid.Check(t, quantileLiesInItsBucket)
}

func FuzzQuantileLiesInTheBucketOfItsRank(f *testing.F) { fuzzing.Property(f, quantileLiesInItsBucket) }

func quantileLiesInItsBucket(t *rapid.T) {
	ds := rapid.SliceOfN(rapid.Int64Range(0, int64(9*time.Second)), 1, 200).Draw(t, "durations")
	var h poolkeeper.Histogram
	for i, d := range ds {
		if one := waits(1, time.Duration(d)); i == 0 {
			h = one
		} else {
			h = sum(h, one)
		}
	}
	q := rapid.Float64Range(0.01, 1).Draw(t, "q")
	got := statuspage.Quantile(h, q)
	rank := int(math.Ceil(q * float64(len(ds))))
	lower := 0.0
	for _, b := range h.Buckets {
		if int(b.Count) >= rank {
			if got < lower || got > b.UpperBound+1e-12 {
				t.Fatalf("%g is not in (%g, %g]", got, lower, b.UpperBound)
			}
			return
		}
		lower = b.UpperBound
	}
}

func TestDurationsReadWell(t *testing.T) {
	for d, want := range map[float64]string{
		0: "0 s", 1e-6: "≤ 10 µs", 15e-6: "15 µs", 0.0012: "1.2 ms", 0.25: "250 ms", 0.9999: "1 s", 41: "41 s", 59.7: "1 min",
		180: "3 min", 2*3600 + 300: "2 h 5 min", 12 * 86400: "12 d", 4e8: "4\u202f629 d", math.NaN(): "0 s", -1: "0 s",
	} {
		if got := statuspage.Seconds(d); got != want {
			t.Errorf("%g: %q, want %q", d, got, want)
		}
	}
}

func TestALineLeavesOutWhatIsLevelAndBreaksAtGaps(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		heights []float64
		want    string
	}{
		{[]float64{1, 1, 1, 1}, "M0 1L3 1"},
		{[]float64{1, 1, 0, 1}, "M0 1L1 1L2 0L3 1"},
		{[]float64{1, nan, 0, 0, nan, 1}, "M0 1h1M2 0L3 0M5 1h1"},
		{nil, ""},
	} {
		if got := statuspage.Line(c.heights); got != c.want {
			t.Errorf("%v: %q, want %q", c.heights, got, c.want)
		}
	}
}
