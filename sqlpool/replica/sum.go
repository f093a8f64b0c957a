package replica

import (
	"cmp"
	"maps"
	"slices"

	"github.com/poolkeeper/poolkeeper"
)

// Stats returns one moment of all pools together: sums, and each server in Members, the primary
// first. DownSince is that of the primary, because reads go on without a replica. OldestHold and
// SweepLate are the longest, LastDialError is the latest, and Fleet is that of the server with the
// least room to spare. Paused says that any of the pools is. A member is in rotation if Replica
// returns its pool, or if it is a primary that takes writes. Stats does no I/O and does not block.
func (s *set) Stats() poolkeeper.Stats {
	out := s.standing()
	for i, m := range s.members {
		out[i].Stats = m.pool.Stats()
	}
	sum := out[0].Stats
	sum.Evicted = maps.Clone(sum.Evicted)
	for _, h := range []*poolkeeper.Histogram{&sum.Wait, &sum.Use, &sum.Dial} {
		h.Buckets = slices.Clone(h.Buckets)
	}
	for i := range out[1:] {
		add(&sum, &out[i+1].Stats)
	}
	sum.Members = out
	return sum
}

// standing returns what the last poll of each server has shown, without its statistics.
func (s *set) standing() []poolkeeper.MemberStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	rotation := *s.rotation.Load()
	out := make([]poolkeeper.MemberStats, len(s.members))
	for i, m := range s.members {
		v := &out[i]
		v.Name, v.Primary, v.State = m.name, i == 0, string(m.state)
		v.InRotation = slices.Contains(rotation, m.pool) || v.Primary && m.state == StateReady
		if o := m.observed.Load(); i > 0 && o != nil && o.lag >= 0 {
			v.Lag, v.HasLag = o.lag, true
		}
	}
	return out
}

// add adds one pool's statistics to those of others.
func add(sum, s *poolkeeper.Stats) {
	sum.Max += s.Max
	sum.MinIdle += s.MinIdle
	sum.Open += s.Open
	sum.InUse += s.InUse
	sum.Idle += s.Idle
	sum.Dialing += s.Dialing
	sum.Waiting += s.Waiting
	sum.OldestHold = max(sum.OldestHold, s.OldestHold)
	sum.Paused = sum.Paused || s.Paused
	sum.Generation += s.Generation
	sum.SweepLate = max(sum.SweepLate, s.SweepLate)
	sum.WaitCount += s.WaitCount
	sum.WaitDuration += s.WaitDuration
	sum.Dials += s.Dials
	sum.DialErrors += s.DialErrors
	sum.Acquired += s.Acquired
	sum.AcquireTimeouts += s.AcquireTimeouts
	sum.Refused += s.Refused
	sum.Leaks += s.Leaks
	sum.Reclaimed += s.Reclaimed
	if s.LastDialErrorTime.After(sum.LastDialErrorTime) {
		sum.LastDialError, sum.LastDialErrorTime = s.LastDialError, s.LastDialErrorTime
	}
	for reason, n := range s.Evicted {
		sum.Evicted[reason] += n
	}
	addHistogram(&sum.Wait, s.Wait)
	addHistogram(&sum.Use, s.Use)
	addHistogram(&sum.Dial, s.Dial)
	sum.Fleet = tighter(sum.Fleet, s.Fleet)
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

// addHistogram relies on all histograms of pools having the same bounds.
func addHistogram(sum *poolkeeper.Histogram, h poolkeeper.Histogram) {
	sum.Count += h.Count
	sum.Sum += h.Sum
	for i := range min(len(sum.Buckets), len(h.Buckets)) {
		sum.Buckets[i].Count += h.Buckets[i].Count
	}
}
