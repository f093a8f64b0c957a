package measure

import (
	"slices"
	"strings"

	"github.com/poolkeeper/poolkeeper"
)

// reasons are the reasons for which pools close connections.
//
//nolint:gochecknoglobals // a constant table
var reasons = [...]string{
	poolkeeper.EvictedIdle, poolkeeper.EvictedLifetime, poolkeeper.EvictedDead, poolkeeper.EvictedFailover,
	poolkeeper.EvictedReload, poolkeeper.EvictedClosed,
}

// otherReason is the label of reasons that this library does not know: a pool of the user's own may
// have any number of them.
const otherReason = "other"

// maxMembers bounds how many members of a pool have series of their own.
const maxMembers = 100

func (r *reader) pool(name string, s *poolkeeper.Stats) {
	r.count(Count, s.Idle, name, "idle")
	r.count(Count, s.InUse, name, "used")
	if s.Max > 0 {
		r.count(Max, s.Max, name)
		r.count(IdleMax, s.Max, name) // all of them may be idle
	}
	r.count(IdleMin, s.MinIdle, name)
	r.count(Pending, s.Waiting, name)
	r.total(Timeouts, s.AcquireTimeouts, name)
	r.distribution(CreateTime, &s.Dial, name)
	r.distribution(WaitTime, &s.Wait, name)
	r.distribution(UseTime, &s.Use, name)

	r.total(Acquired, s.Acquired, name)
	r.total(Refused, s.Refused, name)
	r.total(Waits, s.WaitCount, name)
	r.duration(WaitSum, s.WaitDuration, name)
	r.count(Dialing, s.Dialing, name)
	r.total(Dials, s.Dials, name)
	r.total(DialErrors, s.DialErrors, name)
	r.moment(LastDialError, s.LastDialErrorTime, name)
	r.closed(name, s.Evicted)
	r.total(Generations, s.Generation, name)
	r.total(Leaks, s.Leaks, name)
	r.total(Reclaimed, s.Reclaimed, name)
	r.total(Reused, s.Reused, name)
	r.total(Unread, s.Unread, name)
	r.duration(OldestHold, s.OldestHold, name)
	r.truth(Down, !s.DownSince.IsZero(), name)
	r.truth(Paused, s.Paused, name)
	r.duration(SweepLate, s.SweepLate, name)
	r.fleet(name, &s.Fleet)
	r.members(name, s.Members)
}

// distribution yields a histogram, if the pool measures it.
func (r *reader) distribution(m *Metric, h *poolkeeper.Histogram, pool string) {
	if len(h.Buckets) > 0 {
		r.sample(Sample{Metric: m, Histogram: h, values: [maxLabels]string{pool}})
	}
}

func (r *reader) closed(pool string, by map[string]uint64) {
	var known uint64
	for _, reason := range reasons {
		known += by[reason]
		r.total(Closed, by[reason], pool, reason)
	}
	var all uint64
	for _, n := range by {
		all += n
	}
	if all > known {
		r.total(Closed, all-known, pool, otherReason)
	}
}

func (r *reader) fleet(pool string, f *poolkeeper.FleetStats) {
	if f.Asked.IsZero() {
		return
	}
	r.count(FleetDemand, f.Demand, pool)
	if f.Limit > 0 {
		r.count(FleetLimit, f.Limit, pool)
	}
	r.count(FleetConnections, f.OnServer, pool)
	r.count(FleetWarnings, len(f.Warnings), pool)
	r.moment(FleetAsked, f.Asked, pool)
}

func (r *reader) members(pool string, all []poolkeeper.MemberStats) {
	if len(all) == 0 {
		return
	}
	r.count(Members, len(all), pool)
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b poolkeeper.MemberStats) int { return strings.Compare(a.Name, b.Name) })
	seen := map[string]bool{}
	for i := range all {
		name := printable(all[i].Name)
		if seen[name] {
			continue
		}
		if len(seen) == maxMembers {
			return
		}
		seen[name] = true
		r.member(pool, name, &all[i])
	}
}

func (r *reader) member(pool, name string, m *poolkeeper.MemberStats) {
	r.count(MemberOpen, m.Stats.Open, pool, name)
	r.count(MemberInUse, m.Stats.InUse, pool, name)
	r.truth(MemberDown, !m.Stats.DownSince.IsZero(), pool, name)
	r.truth(MemberPrimary, m.Primary, pool, name)
	r.truth(MemberInRotation, m.InRotation, pool, name)
	if m.HasLag {
		r.duration(MemberLag, m.Lag, pool, name)
	}
	if m.HasScore {
		r.count(MemberScore, m.Score, pool, name)
	}
	r.truth(MemberIsolated, m.Isolated, pool, name)
	if m.State != "" {
		r.truth(MemberState, true, pool, name, printable(m.State))
	}
}
