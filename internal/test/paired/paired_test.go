package paired_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/paired"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMedianAndItsBound(t *testing.T) {
	for _, c := range []struct {
		values        []float64
		median, upper float64
	}{
		{[]float64{3}, 3, 3},
		{[]float64{5, 1}, 3, 5},
		{[]float64{2, 9, 1}, 2, 9},
	} {
		if m, u := paired.Median(slices.Clone(c.values)); m != c.median || u != c.upper {
			t.Errorf("%v: %v, %v; want %v, %v", c.values, m, u, c.median, c.upper)
		}
	}
}

// The bound must be above the true median in at least 97.5 of 100 experiments.
func TestBoundHolds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{20, 21, 40, 100} {
		const experiments = 4000
		missed := 0
		for range experiments {
			values := make([]float64, n)
			for i := range values {
				values[i] = random.ExpFloat64() // skewed, as times are
			}
			if _, upper := paired.Median(values); upper < 0.6931471805599453 { // its median is ln 2
				missed++
			}
		}
		if share := float64(missed) / experiments; share > 0.03 { // 0.025 and what chance adds
			t.Errorf("%d values: the bound was too low in %.1f %% of experiments", n, 100*share)
		}
	}
}

func TestBothSidesGetTheSameShare(t *testing.T) {
	var raw, managed atomic.Int64
	result := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		paired.Run(b, 16,
			func() error { raw.Add(1); return nil },
			func() error { managed.Add(1); return nil })
	})
	if raw.Load() == 0 || raw.Load() != managed.Load() {
		t.Errorf("raw ran %d operations, managed %d", raw.Load(), managed.Load())
	}
	if r, u := result.Extra["ratio"], result.Extra["ratio95"]; r <= 0 || u < r {
		t.Errorf("ratio %v with upper bound %v", r, u)
	}
}

func TestAnErrorFailsTheBenchmark(t *testing.T) {
	result := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		paired.Run(b, 1, func() error { return nil }, func() error { return errors.New("broken") })
	})
	if result.N != 0 {
		t.Errorf("a benchmark of a broken operation reported %v", result)
	}
}
