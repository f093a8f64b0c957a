package sqlpool

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// component is what all pools have in common, adopted handles too.
type component struct{ m *manager }

// Abort is a Stop that does not wait for callers. It also ends a Stop under way.
func (b *component) Abort() error { return b.m.abort() }

// Stats returns one moment of the pool. It does no I/O and does not block. Open and InUse leave out
// the connection of checks. LastDialError includes the dials of checks. Fleet is as of the last
// Limits that succeeded: at Start, after a Reload that concerns it, or by a caller. An adopted handle
// tells less: of its dials, holders and the fleet nothing is known.
func (b *component) Stats() poolkeeper.Stats { return b.m.stats() }

// SetName gives the pool the name it has in logs, errors and metrics. An empty name changes
// nothing.
func (b *component) SetName(name string) { b.m.state.SetName(name) }

// Subscribe calls fn for every event of the pool from now on, until cancel is called. Events begin
// to come with Start. fn runs on goroutines of the pool and of its callers, may be called
// concurrently, and must not block. A panic in it is logged.
func (b *component) Subscribe(fn func(poolkeeper.Event)) (cancel func()) {
	return b.m.events.Subscribe(fn)
}

// pool is what [Postgres], [MySQL] and [DB] have in common.
type pool struct{ component }

// Start reaches the server as the configuration's Start says, then keeps MinIdle connections open,
// evicts idle ones and reports leaks. It blocks until the server has answered once or the policy
// gives up, at most until ctx ends. A failed Start may be repeated.
func (p *pool) Start(ctx context.Context) error { return p.m.start(ctx) }

// Drain refuses new work with [poolkeeper.ErrDraining] from now on and waits until callers have
// returned their connections: open transactions, rows and acquired connections are finished, as are
// callers already waiting in the queue. It blocks at most until ctx ends. Its error then says how
// many connections are held, and Holders lists them.
func (p *pool) Drain(ctx context.Context) error { return p.m.drain(ctx) }

// Stop drains and closes the pool. It blocks until every connection is closed, and then returns
// nil. If ctx ends before, it cuts off the callers that still hold a connection, as far as the
// driver allows, and returns a [*poolkeeper.HeldError]. It may be called without Start, more than
// once and concurrently: all calls return the outcome of the first.
func (p *pool) Stop(ctx context.Context) error { return p.m.stop(ctx) }

// Reset closes every connection opened so far: idle ones now, those in use when they are returned.
// Call it when a password has changed, or the server behind the name. It does not block.
func (p *pool) Reset() { p.m.resetOnRequest() }

// Pause makes callers wait instead of failing, for a planned failover. From now on callers that ask
// for a connection queue, within AcquireTimeout. Pause blocks until every connection has been
// returned and closed, so that Resume connects anew. If ctx ends before, the pause is undone, and
// the error names the callers that hold a connection. Code that asks for a second connection while
// it holds one waits until ctx ends. Pausing a paused pool does nothing. Drain and Stop end a
// pause.
func (p *pool) Pause(ctx context.Context) error { return p.m.pauseFor(ctx) }

// Resume ends a Pause. Waiting callers go on, first in, first out. It does not block.
func (p *pool) Resume() { p.m.resume(nil) }

// Check probes the server on a connection of its own, which it dials at the first call. So a pool
// whose callers hold every connection counts as busy, not broken. If the server is too full for
// that connection, Check uses an idle one of the pool. If none is idle, it returns a reservation
// (health.Degraded). An answer that refuses CheckQuery for lack of a privilege is healthy. It
// blocks at most until ctx ends. Errors answer health.Classify.
func (p *pool) Check(ctx context.Context) error { return p.m.check(ctx) }

// Limits asks the server for its connection limits and its idle time-out. It compares them with the
// demand of this configuration on all its Instances. Start does the same and logs the warnings. It
// blocks at most until ctx ends. Where nothing is known of the driver, the error is
// errors.ErrUnsupported.
func (p *pool) Limits(ctx context.Context) (Limits, error) { return p.m.limits(ctx) }

// Holders returns the callers that hold a connection now, the oldest first. It does not block.
func (p *pool) Holders() []poolkeeper.Holder { return p.m.held.List() }

// Settings returns what is in effect, defaults filled in, without secrets.
func (p *pool) Settings() []slog.Attr { return p.m.effective() }

// ObserveWith reports the outcome of traffic to o. o gets nil for a connection that came back well,
// and the error of a connection-level failure. A nil o ends the reports. It does not block.
func (p *pool) ObserveWith(o poolkeeper.Observer) { p.m.observer.Set(o) }

// Classify says what kind of failure err is, and what to look at first: PostgreSQL by SQLSTATE,
// MySQL and MariaDB by number, the pool's own errors, and what health.Classify knows. nil is
// health.KindNone.
func Classify(err error) health.Fault { return fault.Classify(err) }

// effective lists what is in effect, of the fields that this kind of pool has. It names no server
// and no user: those are part of URL, and URL is not printed.
func (m *manager) effective() []slog.Attr {
	cfg := m.cfg()
	out := []slog.Attr{
		slog.String("kind", m.kind),
		slog.Int("max_open", cfg.MaxOpen),
		slog.Int("min_idle", cfg.MinIdle),
		settings.Duration("max_idle_time", cfg.MaxIdleTime),
		settings.Duration("max_lifetime", cfg.MaxLifetime),
		slog.Float64("lifetime_jitter", cfg.LifetimeJitter),
		settings.Duration("keep_alive", cfg.KeepAlive),
		settings.Duration("eviction_interval", cfg.EvictionInterval),
		settings.Duration("acquire_timeout", cfg.AcquireTimeout),
		settings.Duration("query_timeout", cfg.QueryTimeout),
		slog.Int("max_waiting", cfg.MaxWaiting),
		settings.Duration("dial_timeout", cfg.DialTimeout),
		settings.Duration("fail_fast_after", cfg.FailFastAfter),
		slog.Int("max_dials", cfg.MaxDials),
		settings.Adaptive("suspect_ping", cfg.SuspectPing),
		slog.Bool("disable_reset_on_read_only", cfg.DisableResetOnReadOnly),
		settings.Duration("leak_threshold", cfg.LeakThreshold),
		settings.Duration("reclaim_after", cfg.ReclaimAfter),
		slog.Bool("disable_leak_stacks", cfg.DisableLeakStacks),
		slog.String("start", cfg.Start.String()),
		slog.Int("instances", cfg.Instances),
		slog.Bool("cuts_sockets", m.kind != "db"),
	}
	if m.kind == "postgres" {
		out = append(out,
			slog.Int("max_open_ceiling", cfg.MaxOpenCeiling),
			slog.Bool("disable_peek", cfg.DisablePeek),
			settings.Duration("close_grace", cfg.CloseGrace))
	}
	if m.kind == "postgres" || m.kind == "mysql" {
		out = append(out,
			slog.Bool("tls_given", cfg.TLS != nil),
			slog.Bool("credentials_given", cfg.Credentials != nil),
			slog.Bool("tls_files", cfg.TLSFiles != poolkeeper.TLSFiles{}),
			slog.Bool("credentials_file", cfg.CredentialsFile != ""),
			settings.Duration("file_interval", cfg.FileInterval))
	}
	return out
}

// A pool holds passwords, and changes while it is printed. So pools print a line about themselves,
// whatever the verb.

// printed is what a pool prints.
func (m *manager) printed() string {
	kind := map[string]string{"postgres": "Postgres", "mysql": "MySQL", "db": "DB", "adopted": "Adopted"}[m.kind]
	s := m.stats()
	return fmt.Sprintf("sqlpool.%s{%q, in use: %d of %d}", kind, m.poolName(), s.InUse, s.Max)
}

// String returns the pool's name, and how many of its connections are in use.
func (b *component) String() string { return b.m.printed() }

// Format prints String, whatever the verb.
func (b *component) Format(f fmt.State, _ rune) { printing.Format(f, b) }

// LogValue is String, for slog.
func (b *component) LogValue() slog.Value { return printing.LogValue(b) }

// MarshalJSON returns String as a JSON string.
func (b *component) MarshalJSON() ([]byte, error) { return printing.JSON(b) }
