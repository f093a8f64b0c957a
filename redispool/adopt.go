package redispool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// AdoptConfig configures [Adopt]. It is passed by value; the zero value of each field means its
// default. Sizes and times are the client's own: they are in its options.
type AdoptConfig struct {
	// Name is the client's name in logs, errors and metrics until SetName gives another; a Registry
	// does. Default: "redis".
	Name string

	// Start says what Start does while the server cannot be reached. Default:
	// poolkeeper.StartFailFast.
	Start poolkeeper.StartPolicy

	// CheckCommand is the command that Check sends, for example "GET health:key": words separated
	// by white space, without quotes. That there is no such key is no failure. Default: empty,
	// PING, which passes also for a user that may not run it.
	CheckCommand string

	// Logger gets failed starts. Default: slog.Default().
	Logger *slog.Logger
}

// Adopted is a client that other code has made, with the life of a pool: a start that reaches the
// server, health checks, counts, a drain that waits, a bounded close. It is made by [Adopt]. All
// methods are safe for concurrent use.
//
// It offers less than a [Pool]: no refusal of new work while draining, no explained time-out, no
// list of holders, no leak report, no MinIdle, no keep-alive and no reload. Sizes and times are the
// client's own.
type Adopted struct {
	client redis.UniversalClient
	cfg    AdoptConfig
	state  *life.State
	events *event.Log

	waits, acquired, timeouts odometer // of go-redis' counters, which may be set back when a node leaves
	closing                   life.Closer
	running                   atomic.Int64 // commands and pipelines under way
	reached                   atomic.Bool  // the server has answered once: a Cluster knows its nodes
}

// Adopt makes a component of a client that other code has made: one node, Sentinel, a Cluster or a
// Ring. It does no I/O. It adds a hook that counts commands, so call it before the client is used.
// From now on Stop closes the client. Every fault of cfg is reported at once, with cfg.Name.
func Adopt(client redis.UniversalClient, cfg AdoptConfig) (*Adopted, error) {
	var errs []error
	if client == nil {
		errs = append(errs, errors.New("redispool: Adopt: client is nil"))
	}
	if cfg.Start < poolkeeper.StartFailFast || cfg.Start > poolkeeper.StartDegraded {
		errs = append(errs, fmt.Errorf(
			"redispool: Start is %s; it must be StartFailFast, StartWaitForServer or StartDegraded", cfg.Start,
		))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, settings.Named("redispool", cfg.Name, err)
	}
	if cfg.Name == "" {
		cfg.Name = "redis"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	a := &Adopted{client: client, cfg: cfg, state: life.NewState("redispool", cfg.Name)}
	a.events = event.NewLog("redispool", a.state.Name, func() *slog.Logger { return cfg.Logger },
		func(err error) (cause, advice string) {
			f := Classify(err)
			return string(f.Kind), f.Advice
		})
	client.AddHook(countingHook{&a.running})
	return a, nil
}

// startLimit bounds one attempt of Start to reach the server.
const startLimit = DefaultDialTimeout + DefaultReadTimeout

// Start reaches the server as the configuration's Start says. It blocks until the server has
// answered once or the policy gives up, at most until ctx ends. A failed Start may be repeated.
func (a *Adopted) Start(ctx context.Context) error {
	return a.state.Start(ctx, func(ctx context.Context) error {
		_, err := a.state.Reach(ctx, a.cfg.Start, a.events, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, startLimit)
			defer cancel()
			return a.Check(ctx)
		})
		return err
	}, func() {})
}

// Drain waits until no command is running and no connection is held by a Conn or a Watch. It cannot
// refuse new work: callers that go on sending commands prolong it. It does not wait for
// subscriptions. It blocks at most until ctx ends; its error then says what is under way.
func (a *Adopted) Drain(ctx context.Context) error {
	a.state.Enter(life.Draining)
	if err := a.settle(ctx); err != nil {
		return fmt.Errorf("redispool: drain %q: %w", a.state.Name(), err)
	}
	return nil
}

// Stop drains and closes the client, subscriptions included. It blocks until the client is closed,
// and then returns nil. If ctx ends before, it closes the client all the same, which cuts off what
// is under way, and returns a [*poolkeeper.HeldError] that counts it. It may be called without
// Start, more than once and concurrently: all calls return the outcome of the first.
func (a *Adopted) Stop(ctx context.Context) error { return a.state.Stop(ctx, a.shut) }

// Abort is a Stop that does not wait for callers. It also ends a Stop under way.
func (a *Adopted) Abort() error { return a.state.Abort(a.shut) }

// closeGrace is how long closing the client may take after the deadline of Stop.
const closeGrace = 100 * time.Millisecond

func (a *Adopted) shut(ctx context.Context, started <-chan struct{}) error {
	a.state.Enter(life.Draining)
	var errs []error
	if !life.Closed(ctx, started) {
		errs = append(errs, errors.New("a Start is still under way"))
	}
	settled := a.settle(ctx)
	a.state.Enter(life.Stopping)
	commands, held := a.underway()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
	defer cancel()
	if ctx.Err() == nil {
		grace = ctx
	}
	err := a.closing.Do(grace, a.client.Close)
	if errors.Is(err, redis.ErrClosed) { // the service has closed it
		err = nil
	}
	errs = append(errs, err)
	if settled != nil {
		return &poolkeeper.HeldError{
			Pool: a.state.Name(), Commands: commands, Cut: held, Time: time.Now(),
			Err: errors.Join(append(errs, context.Cause(ctx))...),
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("redispool: stop %q: %w", a.state.Name(), err)
	}
	return nil
}

// settle has nothing to wait on but counts.
func (a *Adopted) settle(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		commands, held := a.underway()
		if commands == 0 && held == 0 {
			return nil
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("commands running: %d, connections held: %d: %w", commands, held, context.Cause(ctx))
		}
	}
}

// underway returns how many commands are running, and how many connections are held beside theirs.
func (a *Adopted) underway() (commands, held int) {
	commands = int(a.running.Load())
	s := a.Stats()
	return commands, max(s.InUse-commands, 0)
}

// Check sends PING, or CheckCommand, on one of the client's connections; a Cluster and a Ring choose
// the node. If the client has no connection free in time, Check returns a reservation
// (health.Degraded): that is not the server's fault. It blocks at most until ctx ends. Errors
// answer health.Classify.
func (a *Adopted) Check(ctx context.Context) error {
	if a.state.At() >= life.Stopping {
		return fmt.Errorf("redispool: check %q: %w", a.state.Name(), poolkeeper.ErrClosed)
	}
	err := a.ask(ctx)
	if err == nil {
		a.reached.Store(true)
		return nil
	}
	s := a.Stats()
	if busy := s.Max > 0 && s.InUse >= s.Max; errors.Is(err, redis.ErrPoolTimeout) || ctx.Err() != nil && busy {
		return health.Degraded(fmt.Errorf(
			"redispool: check %q: all %d connections are in use, and an adopted client has none to check with: %w",
			a.state.Name(), s.InUse, asFault(err),
		))
	}
	return fmt.Errorf("redispool: check %q: %w", a.state.Name(), asFault(err))
}

func (a *Adopted) ask(ctx context.Context) error {
	words := strings.Fields(a.cfg.CheckCommand)
	if len(words) == 0 {
		err := a.client.Ping(ctx).Err()
		if Classify(err).Kind == health.KindAuthorization { // the server has answered
			return nil
		}
		return err
	}
	args := make([]any, len(words))
	for i, w := range words {
		args[i] = w
	}
	err := a.client.Do(ctx, args...).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// Subscribe calls fn for every event of the client from now on, until cancel is called. fn runs on
// goroutines of the caller of Start, may be called concurrently, and must not block. A panic in it
// is logged.
func (a *Adopted) Subscribe(fn func(poolkeeper.Event)) (cancel func()) { return a.events.Subscribe(fn) }

// Stats returns one moment of the client: connections, waits and time-outs, as go-redis counts
// them. Max and MinIdle are known of one node and of Sentinel only. Of dials, holders and the fleet
// nothing is known, nor why connections were closed. It does no I/O and does not block.
func (a *Adopted) Stats() poolkeeper.Stats {
	out := poolkeeper.Stats{Evicted: map[string]uint64{}}
	for r := stays + 1; r < reasons; r++ {
		out.Evicted[r.String()] = 0
	}
	if c, ok := a.client.(*redis.Client); ok {
		out.Max, out.MinIdle = c.Options().PoolSize, c.Options().MinIdleConns
	} else if !a.reached.Load() {
		return out // a Cluster that knows no nodes would dial to find out
	}
	s := a.client.PoolStats()
	out.Open, out.Idle = int(s.TotalConns), int(s.IdleConns)
	if p := s.PipelineStats; p != nil {
		out.Open, out.Idle = out.Open+int(p.TotalConns), out.Idle+int(p.IdleConns)
	}
	out.InUse = max(out.Open-out.Idle, 0)
	out.WaitCount, out.WaitDuration = a.waits.total(s.WaitCount), time.Duration(s.WaitDurationNs)
	out.Acquired, out.AcquireTimeouts = a.acquired.total(s.Hits+s.Misses), a.timeouts.total(s.Timeouts)
	return out
}

// Settings returns what is in effect.
func (a *Adopted) Settings() []slog.Attr {
	return []slog.Attr{
		slog.String("kind", "adopted"),
		slog.Int("max_open", a.Stats().Max),
		slog.String("start", a.cfg.Start.String()),
		slog.Bool("cuts_sockets", true),
	}
}

// SetName gives the client the name it has in logs, errors and metrics. An empty name changes
// nothing.
func (a *Adopted) SetName(name string) { a.state.SetName(name) }

// String returns the client's name, and how many of its connections are in use.
func (a *Adopted) String() string {
	s := a.Stats()
	return fmt.Sprintf("redispool.Adopted{%q, in use: %d of %d}", a.state.Name(), s.InUse, s.Max)
}

// Format prints String, whatever the verb.
func (a *Adopted) Format(f fmt.State, _ rune) { printing.Format(f, a) }

// LogValue is String, for slog.
func (a *Adopted) LogValue() slog.Value { return printing.LogValue(a) }

// MarshalJSON returns String as a JSON string.
func (a *Adopted) MarshalJSON() ([]byte, error) { return printing.JSON(a) }

// countingHook counts what is under way: commands and pipelines, the time that they wait for a
// connection included.
type countingHook struct{ running *atomic.Int64 }

// DialHook implements redis.Hook.
func (h countingHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (h countingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.running.Add(1)
		defer h.running.Add(-1)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h countingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.running.Add(1)
		defer h.running.Add(-1)
		return next(ctx, cmds)
	}
}
