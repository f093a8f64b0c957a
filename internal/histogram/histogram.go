// Package histogram records durations into fixed buckets without a lock and without an allocation.
package histogram

import (
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// bounds are seconds. They are the ones OpenTelemetry's semantic conventions advise for
// db.client.operation.duration, with two finer steps below, because taking an idle connection takes
// microseconds.
var bounds = [...]float64{0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10} //nolint:gochecknoglobals // a constant table

// Recorder is a histogram being filled. Its zero value is ready. All methods are safe for
// concurrent use.
type Recorder struct {
	count   atomic.Uint64
	nanos   atomic.Int64
	buckets [len(bounds)]atomic.Uint64 // not cumulative
}

// Record adds one observation. Negative durations count as 0.
func (r *Recorder) Record(d time.Duration) {
	d = max(d, 0)
	s := d.Seconds()
	for i, b := range bounds {
		if s <= b {
			r.buckets[i].Add(1)
			break
		}
	}
	r.nanos.Add(int64(d))
	r.count.Add(1)
}

// Sum returns the time recorded in all.
func (r *Recorder) Sum() time.Duration { return time.Duration(r.nanos.Load()) }

// Snapshot returns the distribution so far. Under concurrent recording its parts may be one
// observation apart, but Count is never below the last bucket.
func (r *Recorder) Snapshot() poolkeeper.Histogram {
	h := poolkeeper.Histogram{Buckets: make([]poolkeeper.Bucket, len(bounds))}
	var total uint64
	for i, b := range bounds {
		total += r.buckets[i].Load()
		h.Buckets[i] = poolkeeper.Bucket{UpperBound: b, Count: total}
	}
	h.Count = max(r.count.Load(), total)
	h.Sum = r.Sum().Seconds()
	return h
}
