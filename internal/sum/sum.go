// Package sum adds up the statistics of several pools.
package sum

import (
	"cmp"
	"slices"

	"github.com/poolkeeper/poolkeeper"
)

// Add adds s to total. Counters and gauges are added, the longest hold, the latest sweep and the
// latest dial error are kept, and of Fleet the comparison that leaves the least room. DownSince and
// Members are left to the caller. All histograms of pools have the same bounds.
func Add(total, s *poolkeeper.Stats) {
	total.Max += s.Max
	total.MinIdle += s.MinIdle
	total.Open += s.Open
	total.InUse += s.InUse
	total.Idle += s.Idle
	total.Dialing += s.Dialing
	total.Waiting += s.Waiting
	total.OldestHold = max(total.OldestHold, s.OldestHold)
	total.Paused = total.Paused || s.Paused
	total.Generation += s.Generation
	total.SweepLate = max(total.SweepLate, s.SweepLate)
	total.WaitCount += s.WaitCount
	total.WaitDuration += s.WaitDuration
	total.Dials += s.Dials
	total.DialErrors += s.DialErrors
	total.Acquired += s.Acquired
	total.Reused += s.Reused
	total.AcquireTimeouts += s.AcquireTimeouts
	total.Refused += s.Refused
	total.Leaks += s.Leaks
	total.Reclaimed += s.Reclaimed
	total.Unread += s.Unread
	if s.LastDialErrorTime.After(total.LastDialErrorTime) {
		total.LastDialError, total.LastDialErrorTime = s.LastDialError, s.LastDialErrorTime
	}
	if total.Evicted == nil {
		total.Evicted = make(map[string]uint64, len(s.Evicted))
	}
	for reason, n := range s.Evicted {
		total.Evicted[reason] += n
	}
	addHistogram(&total.Wait, s.Wait)
	addHistogram(&total.Use, s.Use)
	addHistogram(&total.Dial, s.Dial)
	total.Fleet = tighter(total.Fleet, s.Fleet)
}

// tighter returns the comparison that leaves less room. One without a limit leaves the most, and
// one that was never made says nothing.
func tighter(a, b poolkeeper.FleetStats) poolkeeper.FleetStats {
	rank := func(f poolkeeper.FleetStats) int {
		switch {
		case f.Asked.IsZero():
			return 2
		case f.Limit == 0:
			return 1
		default:
			return 0
		}
	}
	if c := cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(b.Limit-b.Demand, a.Limit-a.Demand)); c < 0 {
		return b
	}
	return a
}

func addHistogram(total *poolkeeper.Histogram, h poolkeeper.Histogram) {
	total.Count += h.Count
	total.Sum += h.Sum
	if total.Buckets == nil {
		total.Buckets = slices.Clone(h.Buckets) // those of h belong to its pool
		return
	}
	for i := range min(len(total.Buckets), len(h.Buckets)) {
		total.Buckets[i].Count += h.Buckets[i].Count
	}
}
