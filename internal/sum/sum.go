// Package sum adds up the statistics of several pools.
package sum

import "github.com/poolkeeper/poolkeeper"

// Add adds s to total. Gauges and counters are added; of the longest hold, the latest sweep, the
// first outage and the last dial error the one that counts is kept. Generation, Fleet and Members are
// left to the caller. Histograms need the same bounds.
func Add(total *poolkeeper.Stats, s poolkeeper.Stats) {
	total.Max += s.Max
	total.MinIdle += s.MinIdle
	total.Open += s.Open
	total.InUse += s.InUse
	total.Idle += s.Idle
	total.Dialing += s.Dialing
	total.Waiting += s.Waiting
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
	total.OldestHold = max(total.OldestHold, s.OldestHold)
	total.SweepLate = max(total.SweepLate, s.SweepLate)
	total.Paused = total.Paused || s.Paused
	if !s.DownSince.IsZero() && (total.DownSince.IsZero() || s.DownSince.Before(total.DownSince)) {
		total.DownSince = s.DownSince
	}
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
}

func addHistogram(total *poolkeeper.Histogram, h poolkeeper.Histogram) {
	if total.Buckets == nil {
		total.Buckets = append(total.Buckets, h.Buckets...) // not those of the pool
		total.Count, total.Sum = h.Count, h.Sum
		return
	}
	total.Count += h.Count
	total.Sum += h.Sum
	for i := range min(len(total.Buckets), len(h.Buckets)) {
		total.Buckets[i].Count += h.Buckets[i].Count
	}
}
