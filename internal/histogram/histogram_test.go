package histogram_test

import (
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/histogram"
)

func TestBucketsAreCumulativeAndInclusive(t *testing.T) {
	var r histogram.Recorder
	for _, d := range []time.Duration{-time.Second, time.Millisecond, 2 * time.Millisecond, time.Minute} {
		r.Record(d)
	}
	h := r.Snapshot()
	if h.Count != 4 {
		t.Errorf("Count = %d, want 4", h.Count)
	}
	if want := (time.Minute + 3*time.Millisecond).Seconds(); h.Sum != want {
		t.Errorf("Sum = %v s, want %v", h.Sum, want)
	}
	want := map[float64]uint64{0.00001: 1, 0.001: 2, 0.005: 3, 10: 3}
	for _, b := range h.Buckets {
		if w, ok := want[b.UpperBound]; ok && b.Count != w {
			t.Errorf("bucket ≤ %v s holds %d, want %d", b.UpperBound, b.Count, w)
		}
	}
}

func TestRecordDoesNotAllocate(t *testing.T) {
	var r histogram.Recorder
	if n := testing.AllocsPerRun(100, func() { r.Record(time.Millisecond) }); n != 0 {
		t.Fatalf("%v allocations, want 0", n)
	}
}
