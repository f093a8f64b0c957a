package replica

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
	"github.com/poolkeeper/poolkeeper/internal/expiry"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// Member is the state of one server of a [Postgres] or [MySQL].
type Member struct {
	Name       string // below the component's: "primary", "replica-1"
	Primary    bool
	State      State
	Since      time.Time // of State
	InRotation bool      // Replica returns its pool now
	Lag        time.Duration
	// HasLag reports whether Lag is known. It is not if MaxLag is Off, nor for a replica that has
	// reached no known position of the primary.
	HasLag bool
	Polled time.Time // when the last poll began; zero: never
	Err    error     // why State is not StateReady
	// Score is how well a replica serves, from 0 to 100. HasScore is false while Isolation is off, and
	// until three polls, or ten requests, since the replica became ready.
	Score    int
	HasScore bool
	// NextTrial is when the next trial of an isolated replica begins. Zero: it is not isolated.
	NextTrial time.Time
}

// Members returns what the last poll of each server has shown, the primary first. It does not
// block.
func (s *set) Members() []Member {
	cfg := s.conf.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	rotation := *s.rotation.Load()
	out := make([]Member, 0, len(s.members))
	for i, m := range s.members {
		v := Member{Name: m.name, Primary: i == 0, InRotation: slices.Contains(rotation, m.pool)}
		o := m.observed.Load()
		var standing isolation.Standing
		v.State, v.Since, standing = s.shownLocked(m)
		v.Score, v.HasScore, v.NextTrial = standing.Score, standing.HasScore, standing.NextTrial
		v.Err = o.reason(m.state, s.kind, cfg.MaxLag)
		if v.State != m.state {
			v.Err = isolatedError(standing.Why)
		}
		if o != nil {
			v.Polled = o.at
		}
		if i > 0 && o != nil && o.lag >= 0 {
			v.Lag, v.HasLag = o.lag, true
		}
		out = append(out, v)
	}
	return out
}

// Check polls the primary now. It fails if the primary does not answer or takes no writes. If the last
// poll found a replica down, behind or promoted, or a replica is isolated, the error is only a
// [health.Degraded]: other replicas or Fallback serve the reads. Before Start, Check polls all servers
// at once. It names a silent server, which does not delay the others. Check blocks at most until ctx
// ends, or for PollTimeout. It waits for one server three quarters of the time that ctx leaves.
func (s *set) Check(ctx context.Context) error {
	s.mu.Lock()
	name, at := s.name, s.phase
	s.mu.Unlock()
	var silent []error // by member; nil: what is known of it is what was asked for
	switch {
	case at >= life.Stopping:
		return fmt.Errorf("replica: check %q: %w", name, poolkeeper.ErrClosed)
	case at < life.Running:
		silent = s.pollAll(ctx)
	default:
		silent = make([]error, len(s.members))
		silent[0] = s.poll(ctx, s.members[0])
	}
	members := s.Members()
	var faults []error
	for i, m := range members {
		fault := silent[i]
		if fault == nil {
			fault = m.Err
		}
		if fault != nil {
			faults = append(faults, fmt.Errorf("replica: check %q: %w", name+"/"+m.Name, fault))
		}
	}
	if members[0].State != StateReady || silent[0] != nil {
		return errors.Join(faults...)
	}
	return health.Degraded(errors.Join(faults...))
}

// Limits asks every server as the Limits of its pool does, all at once. The keys are the names of
// [Postgres.Members]; servers that cannot be reached or may not be asked are missing, and the
// error names each and says why. It waits for one server PollTimeout, or three quarters of the time
// that ctx leaves if that is less.
func (s *set) Limits(ctx context.Context) (map[string]sqlpool.Limits, error) {
	var mu sync.Mutex // guards out
	out := make(map[string]sqlpool.Limits, len(s.members))
	err := s.each(func(m *member) error {
		own, cancel := shareOf(ctx)
		defer cancel()
		own, cancelTimeout := context.WithTimeout(own, s.conf.Load().PollTimeout)
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

// Holders returns the callers that hold a connection of any pool now, the oldest first. It does not
// block.
func (s *set) Holders() []poolkeeper.Holder {
	var all []poolkeeper.Holder
	for _, m := range s.members {
		all = append(all, m.pool.Holders()...)
	}
	slices.SortStableFunc(all, func(a, b poolkeeper.Holder) int { return a.Since.Compare(b.Since) })
	return all
}

// Settings returns what is in effect, with a group for each pool, without secrets.
func (s *set) Settings() []slog.Attr {
	cfg := s.conf.Load()
	out := []slog.Attr{
		slog.String("kind", "replicated"),
		settings.Duration("max_lag", cfg.MaxLag),
		settings.Duration("poll_interval", cfg.PollInterval),
		settings.Duration("poll_timeout", cfg.PollTimeout),
		slog.String("fallback", cfg.Fallback.String()),
		isolation.Settings(cfg.Isolation, cfg.PollInterval),
	}
	for _, m := range s.members {
		out = append(out, slog.GroupAttrs(m.name, m.pool.Settings()...))
	}
	return out
}

// Expiries says when the certificates and passwords of all pools expire, as the Expiries of each
// does. An expiry that several servers share is listed once. It does no I/O and does not block.
func (s *set) Expiries() []poolkeeper.Expiry {
	var all []poolkeeper.Expiry
	for _, m := range s.members {
		all = append(all, m.pool.Expiries()...)
	}
	return expiry.Sorted(all)
}

// ObserveWith reports the outcome of traffic to o. o gets the errors of every pool, but success
// only from the primary, because its health is the component's. A nil o ends the reports. It does
// not block.
func (s *set) ObserveWith(o poolkeeper.Observer) { s.observer.Set(o) }

// Subscribe calls fn for every event of the pools and of their places in the set from now on, until
// cancel is called. Event.Pool names the server: "orders/primary"; a Reload of the set's own fields
// has the set's name. fn runs on goroutines of the
// pools and of their callers, may be called concurrently, and must not block. A panic in it is
// logged.
func (s *set) Subscribe(fn func(poolkeeper.Event)) (cancel func()) {
	cancels := []func(){s.events.Subscribe(fn)}
	for _, m := range s.members {
		cancels = append(cancels, m.pool.Subscribe(fn), m.events.Subscribe(fn))
	}
	return func() {
		for _, each := range cancels {
			each()
		}
	}
}

// SetName gives the component the name it has in logs, errors and metrics, and the pools theirs
// below it. An empty name changes nothing.
func (s *set) SetName(name string) {
	if name == "" {
		return
	}
	s.mu.Lock()
	s.name = name
	refuser := s.refuser
	s.mu.Unlock()
	for _, m := range s.members {
		m.pool.SetName(name + "/" + m.name)
	}
	if refuser != nil {
		refuser.SetName(name + "/none")
	}
}
