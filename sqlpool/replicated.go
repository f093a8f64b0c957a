package sqlpool

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/observer"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/internal/turn"
)

// ErrNoReplica is the error of acquiring from [Replicated.Reader] while no replica is fit. It
// occurs only if [ReplicatedConfig].Fallback is [FallbackNone].
var ErrNoReplica = errors.New("sqlpool: no replica is fit to be read from")

// replication is what [Replicated] and [ReplicatedMySQL] have in common: all but the kind of the
// pools, and of the questions.
type replication struct {
	kind    *dialect
	conf    atomic.Pointer[ReplicatedConfig] // with defaults
	members []*member                        // the primary first

	readers  atomic.Pointer[[]watched] // what Reader hands out in turn; never empty
	turn     atomic.Uint32
	observer observer.Slot
	changing turn.Turn // to Reload

	mu        sync.Mutex // guards the following, and state and since of every member; no I/O and no log call under it
	name      string
	phase     life.Phase
	positions positions
	nowhere   watched // refuses with ErrNoReplica; nil until FallbackNone is configured
}

// dialect is what differs between the kinds of servers.
type dialect struct {
	scheme   func(url string) error            // says what is wrong with a URL that is another's
	pool     func(cfg Config) (watched, error) // makes a member's pool
	nowhere  func(cfg Config) (watched, error) // makes one that refuses with ErrNoReplica before it dials
	demoted  roleError                         // of a primary that takes no writes
	promoted roleError                         // of a replica that takes writes
}

// watched is a pool of a member: a [*Postgres] or a [*Pool].
type watched interface {
	Start(ctx context.Context) error
	Drain(ctx context.Context) error
	Stop(ctx context.Context) error
	Abort() error
	Pause(ctx context.Context) error
	Resume()
	Reset()
	Reload(ctx context.Context, cfg Config) error
	Limits(ctx context.Context) (Limits, error)
	Stats() poolkeeper.Stats
	Holders() []poolkeeper.Holder
	Settings() []slog.Attr
	ObserveWith(o poolkeeper.Observer)
	SetName(name string)

	// look asks the server what it is and, as far as ask wants it, how far it has come, on the
	// connection of its checks.
	look(ctx context.Context, ask question) *sight
	// failedOver throws away the connections of callers: the server is not what it was taken for.
	failedOver()
	// forgetCheck hangs up the connection of the checks, so that the next look dials anew.
	forgetCheck(ctx context.Context)
}

// member is one server of a replication.
type member struct {
	name    string // below the component's
	pool    watched
	rounds  *rounds
	looking turn.Turn             // to look, until its consequences are drawn: a Check looks too
	seen    atomic.Pointer[sight] // nil: not looked at yet
	events  *event.Log            // of its place in the component; those of its pool are the pool's

	// guarded by the replication's mutex
	state   MemberState
	since   time.Time
	suspect bool // its traffic has met an error since the last look
}

// prepare fills in r, which is new. If it returns an error nothing of it is left.
func (r *replication) prepare(kind *dialect, cfg ReplicatedConfig) error {
	err := errors.Join(cfg.validateOwn(), cfg.validateMembers(), cfg.foreign(kind.scheme))
	r.kind, r.changing = kind, turn.New()
	full := cfg.withDefaults()
	r.name = full.Name
	r.observer.OnPanic = func(err error) { r.members[0].events.Emit(event.OfPanic("the Observer", err)) }
	for _, c := range cfg.members() {
		m := &member{name: c.Name, looking: turn.New(), state: MemberUnknown, since: time.Now()}
		c.Name = r.name + "/" + m.name
		pool, poolErr := kind.pool(c)
		if poolErr != nil {
			err = errors.Join(err, within(m.name, poolErr))
			continue
		}
		m.pool = pool
		m.events = r.newEvents(m.name)
		m.rounds = newRounds(func(ctx context.Context) {
			_ = m.events.Guarded("a hook, in a look,", func() error { _ = r.look(ctx, m); return nil })
		}, func() time.Duration { return r.conf.Load().LookInterval })
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
		return settings.Named("sqlpool", cfg.Name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chooseLocked(time.Now())
	return nil
}

// reader returns the pool to read from now.
func (r *replication) reader() watched {
	readers := *r.readers.Load()
	if len(readers) == 1 {
		return readers[0]
	}
	return readers[r.turn.Add(1)%uint32(len(readers))] //nolint:gosec // a handful
}

// prepareFallback makes the pool that refuses, once the configuration needs it. The caller must
// have the turn to change r.
func (r *replication) prepareFallback(cfg *ReplicatedConfig) error {
	if cfg.Fallback != FallbackNone || r.refuser() != nil {
		return nil
	}
	p, err := r.kind.nowhere(Config{Name: r.name + "/none", URL: cfg.Primary.URL, LeakThreshold: poolkeeper.Off})
	if err != nil {
		return err
	}
	if !r.adoptRefuser(p) {
		return p.Abort() // a Stop has come meanwhile
	}
	return nil
}

func (r *replication) adoptRefuser(p watched) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase >= life.Draining {
		return false
	}
	r.nowhere = p
	return true
}

// note takes a sight into account.
func (r *replication) note(ctx context.Context, m *member, s *sight) {
	cfg := r.conf.Load()
	primary := m == r.members[0]
	r.mu.Lock()
	if primary {
		r.placeLocked(s, cfg.MaxLag)
	} else {
		s.measure(&r.positions, r.members[0].seen.Load())
	}
	before := m.seen.Swap(s)
	m.suspect = false
	changed := r.chooseLocked(time.Now())
	r.mu.Unlock()

	if s.err == nil && s.standby == primary { // not what it was taken for: perhaps the address leads to another by now
		if before == nil || before.err != nil || before.standby != s.standby { // once
			m.pool.failedOver()
		}
		m.pool.forgetCheck(ctx)
	}
	for _, c := range changed {
		c.member.events.Emit(c.event())
	}
	if primary := r.members[0].seen.Load(); primary != nil && primary.err == nil {
		r.settle()
	}
}

// placeLocked takes the primary's position into account.
func (r *replication) placeLocked(s *sight, maxLag time.Duration) {
	switch {
	case s.err != nil || s.standby:
	case s.place != nil:
		r.positions.saw(s.at, s.place, maxLag)
	default: // what was known gets no newer, and would make every replica look fresh
		r.positions.forget()
	}
}

// settle has the replicas looked at soon whose lag one more look may tell.
func (r *replication) settle() {
	for _, m := range r.members[1:] {
		if r.unsettled(m) {
			m.rounds.hurry()
		}
	}
}

// unsettled says whether one more look at a replica may tell its lag.
func (r *replication) unsettled(m *member) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	cfg := r.conf.Load()
	return cfg.MaxLag > 0 && m.seen.Load().unsettled(&r.positions, cfg.LookInterval)
}

// change is a member's step from one state to another.
type change struct {
	member *member
	from   MemberState
	to     MemberState
	reason error
}

// event says what the step means for reads and writes.
func (c change) event() event.Event {
	e := event.Event{
		Kind: event.MemberLost, Level: slog.LevelWarn, Text: "this server is out of use", Err: c.reason,
		Attrs: []slog.Attr{slog.String("from", string(c.from)), slog.String("to", string(c.to))},
	}
	if c.to == MemberReady {
		e.Kind, e.Level, e.Text, e.Err = event.MemberBack, slog.LevelInfo, "this server is in use", nil
	}
	return e
}

// chooseLocked judges every member and sets what Reader hands out. It returns the members whose
// state has changed.
func (r *replication) chooseLocked(now time.Time) []change {
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
			changed = append(changed, change{m, m.state, states[i], s.reason(states[i], r.kind, cfg.MaxLag)})
			m.state, m.since = states[i], now
		}
	}
	readers := r.readersLocked(states, cfg.Fallback)
	if old := r.readers.Load(); old == nil || !slices.Equal(*old, readers) {
		r.readers.Store(&readers)
	}
	return changed
}

// readersLocked picks the pools to read from. What is suspect is avoided as long as there is
// another.
func (r *replication) readersLocked(states []MemberState, fallback Fallback) []watched {
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
	readers := make([]watched, 0, len(r.members))
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

// distrust keeps new reads away from a replica until it has been looked at, which is a matter of
// milliseconds: a server that has died would fail many of them meanwhile. Its state is what the
// looks say.
func (r *replication) distrust(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !m.suspect && r.phase == life.Running {
		m.suspect = true
		_ = r.chooseLocked(time.Now()) // no state changes by it
	}
}

// memberObserver hears how one pool's traffic goes: an error has the server looked at. Success of a
// replica says nothing about the component, whose check is the primary's.
type memberObserver struct {
	r *replication
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
	default:
		w.r.observer.Succeeded()
		return
	}
	w.r.observer.Observe(err)
}

// broken says whether an error leaves no doubt that a connection was lost or refused. A deadline
// may be the caller's own.
func broken(err error) bool {
	switch Classify(err).Kind { //nolint:exhaustive // the rest leaves doubt
	case health.KindRefused, health.KindReset, health.KindUnreachable, health.KindShuttingDown, health.KindStarting:
		return true
	default:
		return false
	}
}
