package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Member is the state of one server of a [Replicated] or [ReplicatedMySQL].
type Member struct {
	Name    string // below the component's: "primary", "replica-1"
	Primary bool
	State   MemberState
	Since   time.Time // of State
	Reads   bool      // Reader hands its pool out now
	Lag     time.Duration
	HasLag  bool      // Lag is known. It is not if MaxLag is Off, or of a replica that reached no known position of the primary
	Looked  time.Time // when it was looked at last; zero: never
	Err     error     // why State is not MemberReady
}

// Members returns what the last look at each server has shown, the primary first. It does not
// block.
func (r *replication) Members() []Member {
	cfg := r.conf.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	readers := *r.readers.Load()
	out := make([]Member, 0, len(r.members))
	for i, m := range r.members {
		v := Member{Name: m.name, Primary: i == 0, State: m.state, Since: m.since, Reads: slices.Contains(readers, m.pool)}
		s := m.seen.Load()
		v.Err = s.reason(m.state, r.kind, cfg.MaxLag)
		if s != nil {
			v.Looked = s.at
		}
		if i > 0 && s != nil && s.lag >= 0 {
			v.Lag, v.HasLag = s.lag, true
		}
		out = append(out, v)
	}
	return out
}

// Check looks at the primary now. It fails if the primary does not answer or takes no writes. A
// replica that the last look found down, behind or promoted is only a reservation
// ([health.Degraded]), because reads go on by ReplicatedConfig.Fallback. Before Start, Check looks
// at all servers at once. It names a silent server, which does not delay the others. Check blocks
// at most until ctx ends, or LookTimeout. It waits for one server three quarters of the time that
// ctx leaves.
func (r *replication) Check(ctx context.Context) error {
	r.mu.Lock()
	name, at := r.name, r.phase
	r.mu.Unlock()
	var silent []error // by member; nil: what is known of it is what was asked for
	switch {
	case at >= life.Stopping:
		return fmt.Errorf("sqlpool: check %q: %w", name, poolkeeper.ErrClosed)
	case at < life.Running:
		silent = r.lookAtAll(ctx)
	default:
		silent = make([]error, len(r.members))
		silent[0] = r.look(ctx, r.members[0])
	}
	members := r.Members()
	var faults []error
	for i, m := range members {
		fault := silent[i]
		if fault == nil {
			fault = m.Err
		}
		if fault != nil {
			faults = append(faults, fmt.Errorf("sqlpool: check %q: %w", name+"/"+m.Name, fault))
		}
	}
	if members[0].State != MemberReady || silent[0] != nil {
		return errors.Join(faults...)
	}
	return health.Degraded(errors.Join(faults...))
}

// Limits asks every server as the Limits of its pool does, all at once. The keys are the names of
// [Replicated.Members]; servers that cannot be reached or may not be asked are missing, and the
// error names each and says why. It waits for one server LookTimeout, or three quarters of the time
// that ctx leaves if that is less.
func (r *replication) Limits(ctx context.Context) (map[string]Limits, error) {
	var mu sync.Mutex // guards out
	out := make(map[string]Limits, len(r.members))
	err := r.each(func(m *member) error {
		own, cancel := ownBound(ctx)
		defer cancel()
		own, cancelTimeout := context.WithTimeout(own, r.conf.Load().LookTimeout)
		defer cancelTimeout()
		l, err := m.pool.Limits(own)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		out[m.name] = l
		return nil
	})
	return out, err
}

// Stats returns one moment of all pools together: sums. See Primary and Replicas for each. It does
// not block.
func (r *replication) Stats() poolkeeper.Stats {
	sum := r.members[0].pool.Stats()
	for _, m := range r.members[1:] {
		add(&sum, m.pool.Stats())
	}
	return sum
}

// Holders returns the callers that hold a connection of any pool now, the oldest first. It does not
// block.
func (r *replication) Holders() []poolkeeper.Holder {
	var all []poolkeeper.Holder
	for _, m := range r.members {
		all = append(all, m.pool.Holders()...)
	}
	slices.SortStableFunc(all, func(a, b poolkeeper.Holder) int { return a.Since.Compare(b.Since) })
	return all
}

// Settings returns what is in effect, with a group for each pool, without secrets.
func (r *replication) Settings() []slog.Attr {
	cfg := r.conf.Load()
	out := []slog.Attr{
		slog.String("kind", "replicated"),
		settings.Duration("max_lag", cfg.MaxLag),
		settings.Duration("look_interval", cfg.LookInterval),
		settings.Duration("look_timeout", cfg.LookTimeout),
		slog.String("fallback", cfg.Fallback.String()),
	}
	for _, m := range r.members {
		out = append(out, slog.GroupAttrs(m.name, m.pool.Settings()...))
	}
	return out
}

// ObserveWith reports the outcome of traffic to o. o gets the errors of every pool, but success
// only from the primary, because its health is the component's. A nil o ends the reports. It does
// not block.
func (r *replication) ObserveWith(o poolkeeper.Observer) { r.observer.Set(o) }

// SetName gives the component the name it has in logs, errors and metrics, and the pools theirs
// below it. An empty name changes nothing.
func (r *replication) SetName(name string) {
	if name == "" {
		return
	}
	r.mu.Lock()
	r.name = name
	nowhere := r.nowhere
	r.mu.Unlock()
	for _, m := range r.members {
		m.pool.SetName(name + "/" + m.name)
	}
	if nowhere != nil {
		nowhere.SetName(name + "/none")
	}
}

// add adds one pool's statistics to those of others.
func add(sum *poolkeeper.Stats, s poolkeeper.Stats) {
	sum.Max += s.Max
	sum.Open += s.Open
	sum.InUse += s.InUse
	sum.Idle += s.Idle
	sum.Waiting += s.Waiting
	sum.WaitCount += s.WaitCount
	sum.WaitDuration += s.WaitDuration
	sum.Dials += s.Dials
	sum.DialErrors += s.DialErrors
	sum.AcquireTimeouts += s.AcquireTimeouts
	sum.Leaks += s.Leaks
	for reason, n := range s.Evicted {
		sum.Evicted[reason] += n
	}
	addHistogram(&sum.Wait, s.Wait)
	addHistogram(&sum.Use, s.Use)
	addHistogram(&sum.Dial, s.Dial)
}

// addHistogram relies on all of this package's histograms having the same bounds.
func addHistogram(sum *poolkeeper.Histogram, h poolkeeper.Histogram) {
	sum.Count += h.Count
	sum.Sum += h.Sum
	for i := range min(len(sum.Buckets), len(h.Buckets)) {
		sum.Buckets[i].Count += h.Buckets[i].Count
	}
}
