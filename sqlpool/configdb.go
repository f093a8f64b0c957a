package sqlpool

import (
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// DBConfig configures [NewDB]. It is passed by value; the zero value of each field means its
// default. Off ([poolkeeper.Off]) is accepted where a comment says so.
//
// No duration may be longer than 100 years. MaxIdleTime, MaxLifetime, KeepAlive, LeakThreshold
// and ReclaimAfter may not be shorter than 1 ms, because a bare 300 is 300 ns: write
// 300*time.Second.
type DBConfig struct {
	// Name is the pool's name in logs, errors and metrics until SetName gives another; a Registry
	// does. Default: "db".
	Name string

	// MaxOpen is the most connections open at once, in use and idle. The health check has one more
	// of its own. Default: DefaultMaxOpen. Bounds: not negative, not above 65,535.
	MaxOpen int

	// MinIdle is how many idle connections are kept ready beside those in use, within MaxOpen.
	// Default: 0, none. Bounds: 0 to MaxOpen.
	MinIdle int

	// MaxIdleTime is how long the pool may hold more connections than its traffic needs before the
	// surplus is closed. Default: DefaultMaxIdleTime, below the 350 s after which AWS' network load
	// balancers forget a connection. Off: never.
	MaxIdleTime time.Duration

	// MaxLifetime is how long a connection may live; one in use is closed when it comes back.
	// Choose it below the server's own limits (wait_timeout, a proxy's). Default:
	// DefaultMaxLifetime. Off: no limit.
	MaxLifetime time.Duration

	// LifetimeJitter is the part of MaxLifetime, from 0 to 1, by which lifetimes differ at random,
	// so that connections opened together do not expire together: each lives between MaxLifetime ×
	// (1 − LifetimeJitter) and MaxLifetime. Default: DefaultLifetimeJitter; poolkeeper.NoJitter for
	// none.
	LifetimeJitter float64

	// KeepAlive is the silence after which an idle connection is pinged, so that neither server nor
	// network forget it. Default: DefaultKeepAlive, or half of the server's own limit if that is
	// known and shorter (wait_timeout, idle_session_timeout). Off: never. A driver without Ping
	// is never pinged.
	KeepAlive time.Duration

	// EvictionInterval is how often demand is sampled and idle connections are looked through; none
	// is pinged more often. Default: a tenth of MaxIdleTime or a quarter of KeepAlive, whichever is
	// less, at least 10 ms and at most 30 s.
	EvictionInterval time.Duration

	// AcquireTimeout bounds a caller's wait for a connection, however long its own context lasts.
	// The error then names the oldest holders (see AcquireError). A caller whose
	// context ends sooner gives up after half of that time if nearly all uses of a connection take
	// longer than it has left: its statement would be cut off, and its connection closed with it.
	// Default: DefaultAcquireTimeout. Off: the caller's context alone decides.
	AcquireTimeout time.Duration

	// QueryTimeout bounds each statement whose context has no deadline: Exec, Query, Prepare,
	// Begin, Commit and Rollback, to the end of the rows. So a network that loses packets cannot
	// block a caller for ever. Past it the connection is closed, and the error matches
	// context.DeadlineExceeded; the server may have run the statement, or may still run it. What
	// goes to the driver's own connection (sql.Conn.Raw) is not bounded. A result set that is not
	// closed is cut off too. Begin, Commit and Rollback are bounded only where the pool knows the
	// driver's sockets, which are those of pgx. Default: 0, no bound. Bounds: positive.
	QueryTimeout time.Duration

	// MaxWaiting is how many callers may wait for a connection beyond the MaxOpen that have one or
	// are about to: one more is refused at once, with an AcquireError that matches
	// poolkeeper.ErrTooManyWaiting. Choose it when an answer that comes late is worth nothing, so
	// that an overload ends in errors and not in queues. Default: 0, no limit;
	// poolkeeper.NoWaiting: no caller waits. Bounds: NoWaiting or not negative.
	MaxWaiting int

	// DialTimeout bounds opening one connection, authentication included. Default:
	// DefaultDialTimeout. It cannot be turned off.
	DialTimeout time.Duration

	// FailFastAfter is how long every dial must have failed before callers fail at once. Their
	// error is a poolkeeper.DownError (errors.Is(err, poolkeeper.ErrDown)). Callers that wait
	// already fail too, so that they can fall back. A trial, a connection of the pool's own, must
	// have failed as well. A pool that started without its server (StartDegraded) is down from the
	// start. Then only trials dial, at most ten a second, and the first that is answered lets all
	// callers in. Any answer of a running server counts: callers get the errors of a wrong password
	// or a full server unchanged. A slow statement is no failure, and callers that have a connection
	// keep it. Default: DefaultFailFastAfter. Off: every caller tries by itself.
	FailFastAfter time.Duration

	// MaxDials is the most connections being dialled at once. So neither a burst nor the end of an
	// outage causes a storm of logins. A pool begins with one dial at a time. Each dial that
	// succeeds allows one more. A dial that fails or is slow sets it back to one. Callers do not
	// wait for a dial of their own: the first connection that is ready, new or returned, goes to
	// the first in the queue. Default: DefaultMaxDials. Bounds: 1 to MaxOpen; larger values mean
	// MaxOpen.
	MaxDials int

	// LeakThreshold is how long a connection may be held before its holder is reported, once, with
	// where it was taken. Default: DefaultLeakThreshold. Off: never.
	LeakThreshold time.Duration

	// ReclaimAfter is how long a caller may hold a connection at all. Past it the pool closes the
	// socket under its holder and frees its place. The holder's next use fails. Where the driver's
	// sockets are out of reach, which are those of all drivers but pgx, it is only logged. Default:
	// never. Bounds: positive.
	ReclaimAfter time.Duration

	// DisableLeakStacks says not to record the caller's stack for each connection in use, which
	// costs 2 to 3 µs per acquisition. Holders are then listed with kind and age only.
	DisableLeakStacks bool

	// SuspectPing is how long a suspect connection may take to answer a ping before its next use.
	// When a connection dies in use, every one that has been silent since before is suspect; when
	// one of them does not answer, all of them are closed, so that callers do not each wait for a
	// network that is gone. Default: it follows the link. It is four times the longest recent round
	// trip, from 250 ms to 2 s, and doubles when it had to close connections in the last 30 s. Off:
	// no suspicion.
	SuspectPing time.Duration

	// DisableResetOnReadOnly keeps connections after the server has refused a write as read-only. By
	// default the pool then replaces every connection, at most once a second: after a failover
	// behind the same name the old ones lead to the wrong server for ever. While new ones do too,
	// refused writes have the pool ask one connection of its own whether the server takes writes, at
	// most ten times a second; as soon as it does, every connection is replaced once more. The pool
	// does not see writes that are refused in the later result sets of a Query of several
	// statements, whose rows are the driver's own. It sees all those of an Exec. Set it on a pool
	// that reads from a replica on purpose.
	DisableResetOnReadOnly bool

	// Start says what Start does while the server cannot be reached. Default:
	// poolkeeper.StartFailFast.
	Start poolkeeper.StartPolicy

	// Instances is how many processes run with this configuration at once. Limits multiplies by it.
	// After a start or an outage, all of them together open 4 % of their connections per second, or
	// 100 if that is more. Each pool then opens its connections one after the other. A pool that has
	// run for half a minute grows without a wait. Default: 1, a single process, whose dials only
	// MaxDials bounds. Bounds: not negative.
	Instances int

	// CheckQuery is what Check runs on its connection. Default: empty, a ping, or for a driver
	// without Ping only that a connection can be opened.
	CheckQuery string

	// Logger gets leaks, failed dials in the background, and what Stop had to force. Default:
	// slog.Default().
	Logger *slog.Logger
}

// Validate returns every fault of c, joined, or nil. It changes nothing. [NewDB] calls it.
func (c DBConfig) Validate() error { return c.config().validate() }

// config returns c among the fields of all kinds of pools.
func (c DBConfig) config() config {
	return config{
		Name: c.Name, MaxOpen: c.MaxOpen, MinIdle: c.MinIdle, MaxIdleTime: c.MaxIdleTime,
		MaxLifetime: c.MaxLifetime, LifetimeJitter: c.LifetimeJitter, KeepAlive: c.KeepAlive,
		EvictionInterval: c.EvictionInterval, AcquireTimeout: c.AcquireTimeout, QueryTimeout: c.QueryTimeout,
		MaxWaiting: c.MaxWaiting, DialTimeout: c.DialTimeout, FailFastAfter: c.FailFastAfter,
		MaxDials: c.MaxDials, LeakThreshold: c.LeakThreshold, ReclaimAfter: c.ReclaimAfter,
		DisableLeakStacks: c.DisableLeakStacks, SuspectPing: c.SuspectPing,
		DisableResetOnReadOnly: c.DisableResetOnReadOnly, Start: c.Start, Instances: c.Instances,
		CheckQuery: c.CheckQuery, Logger: c.Logger,
	}
}

// AdoptConfig configures [Adopt] and [AdoptPgxPool]. It is passed by value; the zero value of
// each field means its default. Sizes and times are the handle's own: set them on the handle.
type AdoptConfig struct {
	// Name is the pool's name in logs, errors and metrics until SetName gives another; a Registry
	// does. Default: "db" for a *sql.DB, "postgres" for a *pgxpool.Pool.
	Name string

	// Start says what Start does while the server cannot be reached. Default:
	// poolkeeper.StartFailFast.
	Start poolkeeper.StartPolicy

	// CheckQuery is what Check runs, on one of the handle's connections. Default: empty, a ping.
	CheckQuery string

	// Logger gets failed starts, and what Stop could not force. Default: slog.Default().
	Logger *slog.Logger
}

// config returns c among the fields of all kinds of pools.
func (c AdoptConfig) config() config {
	return config{
		Name: c.Name, Start: c.Start, CheckQuery: c.CheckQuery, Logger: c.Logger,
	}
}
