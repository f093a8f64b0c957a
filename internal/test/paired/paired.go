package paired

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	batch    = 960 // operations on each side of a pair; a multiple of 16
	minPairs = 20  // unless the benchmark is only to run once
	warmUp   = 1   // batches of each side that do not count
)

// Run compares managed with raw, with that many callers at once, which share a batch of operations.
// One iteration of b is one pair. It reports the metrics "ratio", the median of managed ÷ raw, and
// "ratio95", the upper bound of that median's 95 % confidence interval. Under -benchtime 1x it
// makes one pair, and else at least 20. The first error of either side fails b. Both functions must
// be safe for concurrent use.
func Run(b *testing.B, callers int, raw, managed func() error) {
	b.Helper()
	for range warmUp {
		run(b, callers, raw)
		run(b, callers, managed)
	}
	var ratios []float64
	pair := func() {
		var r, m time.Duration
		if len(ratios)%2 == 0 { // the second of a pair finds a warmer machine
			r, m = run(b, callers, raw), run(b, callers, managed)
		} else {
			m, r = run(b, callers, managed), run(b, callers, raw)
		}
		ratios = append(ratios, m.Seconds()/r.Seconds())
	}
	for b.Loop() {
		pair()
	}
	for len(ratios) > 1 && len(ratios) < minPairs && !b.Failed() {
		pair()
	}
	median, upper := Median(ratios)
	b.ReportMetric(median, "ratio")
	b.ReportMetric(upper, "ratio95")
	b.ReportMetric(0, "ns/op") // of a pair of batches: it says nothing
}

// run is the time that one side takes for a batch.
func run(b *testing.B, callers int, operation func() error) time.Duration {
	b.Helper()
	var wg sync.WaitGroup
	begun := time.Now()
	for range callers { // they end with their share of the batch, and are waited for below
		wg.Go(func() {
			for range batch / callers {
				if err := operation(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begun)
}

// Median returns the median of values and the upper bound of its two-sided 95 % confidence
// interval, by the normal approximation of the binomial distribution of ranks; with few values that
// is the largest. It sorts values, of which there must be at least one.
func Median(values []float64) (median, upper float64) {
	slices.Sort(values)
	n := len(values)
	median = (values[(n-1)/2] + values[n/2]) / 2
	rank := int(math.Ceil(float64(n)/2 + 1.96*math.Sqrt(float64(n))/2)) // of the bound, counted from 0
	return median, values[min(rank, n-1)]
}
