package isolation

import (
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// Sample holds the measurements of a server since its previous sample.
type Sample struct {
	Poll       time.Duration // round trip of the pool's own request; 0: no answer
	Latency    time.Duration // typical latency of the traffic; 0: not known
	Requests   uint64        // requests of the traffic and of the pool
	Failures   uint64        // the Requests that failed because of the server
	Saturation float64       // the part of the pool in use, 0 to 1; 1 while callers wait
}

// Between returns the sample for the time between two readings of one pool. A counter that was reset
// counts as unchanged.
func Between(before, after poolkeeper.Stats) Sample {
	grown := func(a, b uint64) uint64 { return b - min(a, b) }
	bad := grown(before.DialErrors, after.DialErrors) + grown(before.AcquireTimeouts, after.AcquireTimeouts)
	good := grown(before.Use.Count, after.Use.Count)
	return Sample{
		Latency: typical(before.Use, after.Use), Requests: good + bad, Failures: bad, Saturation: Saturation(after),
	}
}

// Saturation returns the part of a pool in use, 1 while callers wait, and 0 if no limit is known.
func Saturation(s poolkeeper.Stats) float64 {
	switch {
	case s.Waiting > 0:
		return 1
	case s.Max <= 0:
		return 0
	}
	return clamp(float64(s.InUse) / float64(s.Max))
}

// typical returns the typical latency between two readings of a histogram, or 0 without requests.
// It is the mean, limited to the bucket of the median. So one request of a minute does not count for
// a hundred, and the width of the buckets does not show.
func typical(before, after poolkeeper.Histogram) time.Duration {
	if after.Count <= before.Count || after.Sum < before.Sum {
		return 0
	}
	n := after.Count - before.Count
	mean := (after.Sum - before.Sum) / float64(n)
	low, seen := 0.0, uint64(0)
	for i, b := range after.Buckets {
		if i < len(before.Buckets) {
			seen = b.Count - min(b.Count, before.Buckets[i].Count)
		} else {
			seen = b.Count
		}
		if 2*seen >= n {
			return seconds(min(max(mean, low), b.UpperBound))
		}
		low = b.UpperBound
	}
	return seconds(max(mean, low))
}

func seconds(s float64) time.Duration { return max(time.Duration(s*float64(time.Second)), 1) }

// The least data that a score needs, and the most that is kept.
const (
	leastSamples  = 3   // with a request in each; or
	leastRequests = 10  // in all; a typical latency needs as many
	leastRatio    = 5   // the ratio of errors counts fewer requests as this many
	mostSamples   = 256 // kept of one server
)

// stamped is a Sample and when it was taken.
type stamped struct {
	Sample

	at time.Time
}

// window is the samples of one server since a certain time, the oldest first.
type window []stamped

// since drops the samples that are older than half of after. A slow server may have few samples in
// that time. Then older ones within after stay, back to the third with a request.
func (w window) since(now time.Time, after time.Duration) window {
	third, answers := len(w), 0
	for third > 0 && answers < leastSamples {
		if third--; w[third].Requests > 0 {
			answers++
		}
	}
	old := max(len(w)-mostSamples, 0)
	for old < len(w) {
		age := now.Sub(w[old].at)
		if age <= after/2 || old >= third && age <= after {
			break
		}
		old++
	}
	return slices.Delete(w, 0, old)
}

// reading summarizes a window. Each sample has the same weight, whatever the traffic was: a burst of
// failures within a second counts as one second.
type reading struct {
	known      bool          // there are enough samples
	last       time.Time     // of the last sample with a request; zero: there is none
	poll       time.Duration // the median; 0: not known
	latency    time.Duration // the median of the traffic; 0: not known
	errorRatio float64       // the mean
	saturation float64       // the mean
}

func (w window) read() reading {
	var r reading
	var polls, latencies []time.Duration
	var answers, requests, timed uint64
	for _, s := range w {
		r.saturation += clamp(s.Saturation) / float64(len(w))
		if s.Poll > 0 {
			polls = append(polls, s.Poll)
		}
		if s.Requests == 0 {
			continue
		}
		answers, requests, r.last = answers+1, requests+s.Requests, s.at
		r.errorRatio += clamp(float64(s.Failures) / float64(s.Requests))
		if s.Latency > 0 {
			latencies, timed = append(latencies, s.Latency), timed+s.Requests
		}
	}
	r.known = answers >= leastSamples || requests >= leastRequests
	if len(polls) >= leastSamples {
		r.poll = median(polls)
	}
	if timed >= leastRequests {
		r.latency = median(latencies)
	}
	if answers > 0 {
		r.errorRatio *= min(1, float64(requests)/leastRatio) / float64(answers)
	}
	return r
}

// median returns the median of durations. Of two in the middle it returns the shorter one.
func median(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[(len(of)-1)/2]
}
