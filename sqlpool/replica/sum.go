package replica

import (
	"slices"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/sum"
)

// Stats returns the sums over all pools, and each server in Members, the primary first. It does no
// I/O and does not block.
//
// DownSince is the primary's, because reads go on without a replica. OldestHold and SweepLate are the
// longest, LastDialError is the latest. Fleet is that of the server with the least room to spare.
// Paused is true if any pool is paused. A member is in rotation if Replica returns its pool, or if it
// is a primary that takes writes.
func (s *set) Stats() poolkeeper.Stats {
	out := s.standing()
	for i, m := range s.members {
		out[i].Stats = m.pool.Stats()
	}
	var total poolkeeper.Stats
	for i := range out {
		sum.Add(&total, &out[i].Stats)
	}
	total.DownSince, total.Members = out[0].Stats.DownSince, out
	return total
}

// standing returns what the last poll of each server has shown, without its statistics.
func (s *set) standing() []poolkeeper.MemberStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	rotation := *s.rotation.Load()
	out := make([]poolkeeper.MemberStats, len(s.members))
	for i, m := range s.members {
		v := &out[i]
		state, _, standing := s.shownLocked(m)
		v.Name, v.Primary, v.State = m.name, i == 0, string(state)
		v.Score, v.HasScore, v.Why, v.NextTrial = standing.Score, standing.HasScore, standing.Why, standing.NextTrial
		v.Isolated = standing.State == isolation.Isolated || standing.State == isolation.Trial
		v.InRotation = slices.Contains(rotation, m.pool) || v.Primary && m.state == StateReady
		if o := m.observed.Load(); i > 0 && o != nil && o.lag >= 0 {
			v.Lag, v.HasLag = o.lag, true
		}
	}
	return out
}
