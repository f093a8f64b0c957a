package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/ctxmutex"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/observer"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/probe"
)

// set is a primary and its replicas: all of [Postgres] and [MySQL] but the type of the pools and
// the questions that a server is asked.
type set struct {
	kind    *kind
	conf    atomic.Pointer[config] // with defaults
	members []*member              // the primary first

	rotation  atomic.Pointer[[]pool] // what Replica returns in turn; never empty
	taken     atomic.Uint32          // from rotation so far
	events    *event.Log             // of the set; those of a place in it are the member's
	observer  observer.Slot
	reloading ctxmutex.Mutex

	// mu guards the following, and state, since and suspect of every member. No I/O and no log call
	// under it.
	mu      sync.Mutex
	name    string
	phase   life.Phase
	primary history                   // of the primary's positions
	scores  *isolation.Group[*member] // of the replicas
	refuser pool                      // refuses with ErrNoReplica; nil until FallbackNone is configured
}

// kind is what differs between kinds of servers.
type kind struct {
	typeName string // of the exported type

	// check refuses a URL that is of another kind.
	check func(url string) error
	// refuser makes a pool that refuses with ErrNoReplica before it dials.
	refuser func(name, url string) (pool, error)
	// poll fills in o with what the server answers.
	poll func(ctx context.Context, o *observation, c probe.Conn, ask question) error

	demoted  roleError // of a primary that takes no writes
	promoted roleError // of a replica that takes writes
}

// pool is the pool of one server: a [*sqlpool.Postgres] or a [*sqlpool.MySQL].
type pool interface {
	Start(ctx context.Context) error
	Drain(ctx context.Context) error
	Stop(ctx context.Context) error
	Abort() error
	Pause(ctx context.Context) error
	Resume()
	Reset()
	Limits(ctx context.Context) (sqlpool.Limits, error)
	Stats() poolkeeper.Stats
	Holders() []poolkeeper.Holder
	Settings() []slog.Attr
	Expiries() []poolkeeper.Expiry
	ObserveWith(o poolkeeper.Observer)
	SetName(name string)
	Subscribe(fn func(poolkeeper.Event)) (cancel func())
}

// member is one server of a set.
type member struct {
	name     string // below the set's
	pool     pool
	server   probe.Server
	poller   *poller
	polling  ctxmutex.Mutex              // from the question until its consequences are drawn: a Check polls too
	observed atomic.Pointer[observation] // nil: not polled yet
	errors   atomic.Uint64               // that its traffic has met
	events   *event.Log                  // of its place in the set; those of its pool are the pool's

	before       poolkeeper.Stats // of the pool, at the last poll; guarded by polling
	errorsBefore uint64           // the same

	// guarded by the set's mutex
	state   State
	since   time.Time
	suspect bool // its traffic has met an error since the last poll
}

// newSet returns a set of the servers of cfg. If it returns an error, it has closed what it made.
func newSet(cfg config) (*set, error) {
	err := errors.Join(cfg.validateOwn(), cfg.validateNames(), cfg.validateURLs())
	full := cfg.withDefaults()
	s := &set{kind: cfg.kind, name: full.Name, reloading: ctxmutex.New()}
	s.events = s.newEvents("")
	s.observer.OnPanic = func(err error) { s.events.Emit(event.OfPanic("the Observer", err)) }
	for _, c := range cfg.servers {
		m, memberErr := s.newMember(c)
		if memberErr != nil {
			err = errors.Join(err, faultsOf(c.name, memberErr))
			continue
		}
		s.members = append(s.members, m)
	}
	s.conf.Store(&full)
	s.scores = isolation.New[*member](full.Isolation, full.PollInterval)
	if err == nil {
		err = s.prepareFallback(&full)
	}
	if err != nil {
		for _, m := range s.members {
			m.poller.stop()
			_ = m.pool.Abort() // nothing has been opened
		}
		return nil, settings.Named("replica", cfg.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chooseLocked(time.Now())
	return s, nil
}

func (s *set) newMember(cfg server) (*member, error) {
	m := &member{name: cfg.name, polling: ctxmutex.New(), state: StateUnknown, since: time.Now()}
	p, err := cfg.make()
	if err != nil {
		return nil, err
	}
	p.SetName(s.name + "/" + m.name)
	p.ObserveWith(&memberObserver{s, m})
	m.pool, m.server, m.events = p, probe.Of(p), s.newEvents(m.name)
	m.poller = newPoller(func(ctx context.Context) {
		_ = m.events.Guarded("a hook, in a poll,", func() error { _ = s.poll(ctx, m); return nil })
	}, func() time.Duration { return s.conf.Load().PollInterval })
	return m, nil
}

// newEvents returns the log of what happens to a member, or to the set if member is empty.
func (s *set) newEvents(member string) *event.Log {
	name := func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if member == "" {
			return s.name
		}
		return s.name + "/" + member
	}
	explain := func(err error) (cause, advice string) {
		f := sqlpool.Classify(err)
		return string(f.Kind), f.Advice
	}
	return event.NewLog("replica", name, func() *slog.Logger { return s.conf.Load().Logger }, explain)
}

// next returns the pool to read from now.
func (s *set) next() pool {
	rotation := *s.rotation.Load()
	if len(rotation) == 1 {
		return rotation[0]
	}
	return rotation[s.taken.Add(1)%uint32(len(rotation))] //nolint:gosec // a handful
}

// prepareFallback makes the pool that refuses, once the configuration needs it. The caller must be
// alone in changing s.
func (s *set) prepareFallback(cfg *config) error {
	if cfg.Fallback != FallbackNone || s.currentRefuser() != nil {
		return nil
	}
	p, err := s.kind.refuser(s.name+"/none", cfg.servers[0].url)
	if err != nil {
		return err
	}
	if !s.adoptRefuser(p) {
		return p.Abort() // a Stop has come meanwhile
	}
	return nil
}

func (s *set) adoptRefuser(p pool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase >= life.Draining {
		return false
	}
	s.refuser = p
	return true
}

func (s *set) currentRefuser() pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuser
}

// String returns the number of servers. A Postgres or a MySQL prints no more, because fmt and
// encoding/json do not follow its pointer to a set.
func (s *set) String() string {
	return fmt.Sprintf("replica.%s{members: %d}", s.kind.typeName, len(s.members))
}
