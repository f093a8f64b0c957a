package sqlpool

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/life"
)

// ErrNoReplica is what acquiring a connection of [Replicated.Reader] fails with while no replica is fit and
// [ReplicatedConfig].Fallback is [FallbackNone].
var ErrNoReplica = errors.New("sqlpool: no replica is fit to be read from")

// Replicated is a PostgreSQL primary with its read replicas, as one component: one pool for each, started, watched,
// drained and stopped together. All methods are safe for concurrent use.
//
//	                 ┌────────── looks, every LookInterval ──────────┐
//	                 │ answers? standby? how far has it come?        │
//	Primary() ──▶ pool ──▶ primary ── streams ─┬─▶ replica-1 ◀── pool ◀─┐
//	                 ▲                         └─▶ replica-2 ◀── pool ◀─┴── Reader(): in turn, those that answer
//	                 └──────── Fallback ────────────────────────────────────  and are at most MaxLag behind
//
// MySQL and MariaDB are not supported: how far their replicas are behind is told in other ways. Use [NewMySQL] for each.
type Replicated struct {
	conf    atomic.Pointer[ReplicatedConfig] // with defaults
	members []*member                        // the primary first

	readers  atomic.Pointer[[]*Postgres] // what Reader hands out in turn; never empty
	turn     atomic.Uint32
	observer atomic.Pointer[poolkeeper.Observer]
	changing chan struct{} // holds a token while a Reload is under way

	mu        sync.Mutex // guards the following, and state and since of every member; no I/O and no log call under it
	name      string
	phase     life.Phase
	positions positions
	nowhere   *Postgres // refuses with ErrNoReplica; nil until FallbackNone is wanted
}

// member is one server of a Replicated.
type member struct {
	name    string // below the component's
	pool    *Postgres
	rounds  *rounds
	looking chan struct{}         // holds a token during a look, until its consequences are drawn: a Check looks too
	seen    atomic.Pointer[sight] // nil: not looked at yet

	// guarded by the Replicated's mutex
	state   MemberState
	since   time.Time
	suspect bool // its traffic has met an error since the last look
}

// NewReplicated returns a primary and its replicas as one component. It does no I/O; each pool has one goroutine that Stop
// or Abort ends. Every fault of cfg is reported at once.
func NewReplicated(cfg ReplicatedConfig) (*Replicated, error) {
	err := errors.Join(cfg.validateOwn(), cfg.validateMembers())
	r := &Replicated{changing: make(chan struct{}, 1)}
	full := cfg.withDefaults()
	r.name = full.Name
	for _, c := range cfg.members() {
		m := &member{name: c.Name, looking: make(chan struct{}, 1), state: MemberUnknown, since: time.Now()}
		c.Name = r.name + "/" + m.name
		pool, poolErr := NewPostgres(c)
		if poolErr != nil {
			err = errors.Join(err, within(m.name, poolErr))
			continue
		}
		m.pool = pool
		m.rounds = newRounds(func(ctx context.Context) { _ = r.look(ctx, m) }, func() time.Duration { return r.conf.Load().LookInterval })
		pool.ObserveWith(&memberObserver{r, m})
		r.members = append(r.members, m)
	}
	r.conf.Store(&full)
	if err == nil {
		err = r.prepareFallback(&full)
	}
	if err != nil {
		for _, m := range r.members {
			m.rounds.stop()
			_ = m.pool.Abort() // nothing has been opened
		}
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chooseLocked(time.Now())
	return r, nil
}

// Primary returns the pool of the server that takes writes. It is the same one always, and so are its handles. After a failover it
// leads to the new primary if Primary.URL does: a name that moves, or several servers with target_session_attrs=read-write;
// connections to one that was demoted are replaced.
func (r *Replicated) Primary() *Postgres { return r.members[0].pool }

// Reader returns the pool to read from now: the replicas that are fit in turn, or what Fallback says. It does no I/O, takes no lock and
// does not allocate: call it for each piece of work, and do not keep what it returns. What a caller has written a moment
// ago may not be there yet, within MaxLag: read that from Primary.
//
// Before Start, and until the first look, replicas are not fit.
func (r *Replicated) Reader() *Postgres {
	readers := *r.readers.Load()
	if len(readers) == 1 {
		return readers[0]
	}
	return readers[r.turn.Add(1)%uint32(len(readers))] //nolint:gosec // a handful
}

// Replicas returns the pools of the replicas in the order of their configuration, fit or not.
func (r *Replicated) Replicas() []*Postgres {
	out := make([]*Postgres, 0, len(r.members)-1)
	for _, m := range r.members[1:] {
		out = append(out, m.pool)
	}
	return out
}

// BeginReadOnly begins a read-only transaction on Reader, so that a write that has lost its way is refused everywhere
// alike, by the primary too when that stands in for a replica. The transaction reads one state of one server. It
// blocks until a connection is had, at most until ctx ends or the pool's AcquireTimeout.
func (r *Replicated) BeginReadOnly(ctx context.Context) (pgx.Tx, error) {
	return r.Reader().Pool().BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
}

// prepareFallback makes the pool that refuses, once it is wanted.
func (r *Replicated) prepareFallback(cfg *ReplicatedConfig) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cfg.Fallback != FallbackNone || r.nowhere != nil || r.phase >= life.Draining {
		return nil
	}
	p, err := NewPostgres(Config{
		Name: r.name + "/none", URL: cfg.Primary.URL, LeakThreshold: Off,
		ConfigurePostgres: func(c *pgxpool.Config) error {
			c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { return ErrNoReplica }
			return nil
		},
	})
	r.nowhere = p
	return err
}

// look looks at one server and draws the consequences. It reports false if ctx has ended before the server answered:
// that tells nothing about the server.
func (r *Replicated) look(ctx context.Context, m *member) bool {
	select {
	case m.looking <- struct{}{}:
		defer func() { <-m.looking }()
	case <-ctx.Done():
		return false
	}
	cfg := r.conf.Load()
	bounded, cancel := context.WithTimeout(ctx, cfg.LookTimeout)
	defer cancel()
	s := m.pool.look(bounded, cfg.MaxLag > 0)
	if ctx.Err() != nil && s.err != nil {
		return false
	}
	r.note(ctx, m, s)
	return true
}

// note takes a sight into account.
func (r *Replicated) note(ctx context.Context, m *member, s *sight) {
	cfg := r.conf.Load()
	primary := m == r.members[0]
	r.mu.Lock()
	switch {
	case !primary:
		s.measure(&r.positions)
	case s.err == nil && !s.standby && s.lsn > 0:
		r.positions.saw(s.at, s.lsn, cfg.MaxLag)
	}
	before := m.seen.Swap(s)
	m.suspect = false
	changed := r.chooseLocked(time.Now())
	name := r.name
	r.mu.Unlock()

	if s.err == nil && s.standby == primary { // not what it was taken for: perhaps the address leads to another by now
		if before == nil || before.err != nil || before.standby != s.standby { // once
			m.pool.c.recycle(poolkeeper.EvictedFailover)
		}
		m.pool.back.probe.forget(ctx)
	}
	for _, c := range changed {
		c.log(ctx, cfg, name)
	}
}

// change is a member's step from one state to another.
type change struct {
	member string
	from   MemberState
	to     MemberState
	reason error
}

func (c change) log(ctx context.Context, cfg *ReplicatedConfig, name string) {
	level := slog.LevelWarn
	attrs := []slog.Attr{
		slog.String("pool", name+"/"+c.member), slog.String("from", string(c.from)), slog.String("to", string(c.to)),
	}
	if c.to == MemberReady {
		level = slog.LevelInfo
	} else {
		attrs = append(attrs, slog.Any("reason", c.reason))
	}
	cfg.Logger.LogAttrs(ctx, level, "sqlpool: replication", attrs...)
}

// chooseLocked judges every member and sets what Reader hands out. It returns the members whose state has changed.
func (r *Replicated) chooseLocked(now time.Time) []change {
	cfg := r.conf.Load()
	states := make([]MemberState, len(r.members))
	var changed []change
	for i, m := range r.members {
		s := m.seen.Load()
		if i == 0 {
			states[i] = judgePrimary(s)
		} else {
			states[i] = judgeReplica(s, states[0], cfg.MaxLag)
		}
		if states[i] != m.state {
			changed = append(changed, change{m.name, m.state, states[i], s.reason(states[i], cfg.MaxLag)})
			m.state, m.since = states[i], now
		}
	}
	readers := r.readersLocked(states, cfg.Fallback)
	if old := r.readers.Load(); old == nil || !slices.Equal(*old, readers) {
		r.readers.Store(&readers)
	}
	return changed
}

// readersLocked picks the pools to read from. What is suspect is avoided as long as there is another.
func (r *Replicated) readersLocked(states []MemberState, fallback Fallback) []*Postgres {
	trusted := slices.Clone(states)
	for i, m := range r.members[1:] {
		if m.suspect {
			trusted[i+1] = MemberUnknown
		}
	}
	chosen := fit(trusted, fallback)
	if len(chosen) == 0 {
		chosen = fit(states, fallback)
	}
	readers := make([]*Postgres, 0, len(r.members))
	for _, i := range chosen {
		readers = append(readers, r.members[i].pool)
	}
	switch {
	case len(readers) > 0:
	case r.nowhere != nil:
		readers = append(readers, r.nowhere)
	default: // stopped before it was made: the primary refuses too
		readers = append(readers, r.members[0].pool)
	}
	return readers
}

// distrust keeps new reads away from a replica until it has been looked at, which is a matter of milliseconds: a server
// that has died would fail many of them meanwhile. Its state is what the looks say.
func (r *Replicated) distrust(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !m.suspect && r.phase == life.Running {
		m.suspect = true
		_ = r.chooseLocked(time.Now()) // no state changes by it
	}
}

// memberObserver hears how one pool's traffic goes: an error has the server looked at. Success of a replica says
// nothing about the component, whose check is the primary's.
type memberObserver struct {
	r *Replicated
	m *member
}

// Observe implements poolkeeper.Observer.
func (w *memberObserver) Observe(err error) {
	primary := w.m == w.r.members[0]
	switch {
	case err == nil && !primary:
		return
	case err != nil:
		if !primary && broken(err) {
			w.r.distrust(w.m)
		}
		w.m.rounds.hurry()
	}
	if o := w.r.observer.Load(); o != nil {
		(*o).Observe(err)
	}
}

// broken says whether an error leaves no doubt that a connection was lost or refused. A deadline may be the caller's own.
func broken(err error) bool {
	switch Classify(err).Kind { //nolint:exhaustive // the rest leaves doubt
	case health.KindRefused, health.KindReset, health.KindUnreachable, health.KindShuttingDown, health.KindStarting:
		return true
	default:
		return false
	}
}
