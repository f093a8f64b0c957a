package sqlpool

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Defaults of Config.
const (
	DefaultMaxOpen        = 10
	DefaultMaxIdleTime    = 5 * time.Minute
	DefaultMaxLifetime    = 30 * time.Minute
	DefaultLifetimeJitter = 0.1
	DefaultKeepAlive      = 2 * time.Minute
	DefaultAcquireTimeout = 5 * time.Second
	DefaultDialTimeout    = 5 * time.Second
	DefaultLeakThreshold  = 5 * time.Minute
	DefaultFailFastAfter  = 3 * time.Second
	DefaultMaxDials       = 10
	DefaultCloseGrace     = 250 * time.Millisecond
	DefaultFileInterval   = 10 * time.Second
)

// Config configures a pool. It is passed by value; the zero value of each field means its default.
// Off (a constant) is accepted where a comment says so. A field's comment names the constructors
// that accept it, where not all do. A constructor reports a field that it cannot honour as a fault,
// and never ignores it.
//
// No duration may be longer than 100 years. MaxIdleTime, MaxLifetime, KeepAlive, LeakThreshold,
// ReclaimAfter and FileInterval may not be shorter than 1 ms: such a value is a number of seconds
// without its unit.
type Config struct {
	// Name is the pool's name in logs, errors and metrics until SetName gives another; a Registry
	// does. Default: the kind of the pool, "postgres", "mysql" or "db".
	Name string

	// URL says where the server is. NewPostgres takes what pgx takes: a postgres:// URL or "host=…
	// user=…", completed by PGHOST and its kin ("dbname=orders" leaves the rest to them), .pgpass
	// and service files; pool_max_conns and the other pool_ parameters stand in for fields of
	// Config that are zero. NewMySQL takes a mysql:// URL or the DSN of go-sql-driver/mysql. NewDB
	// and Adopt refuse it: they are given the driver. It is never printed.
	//
	// A Config prints without it. fmt cannot call methods of unexported fields, though: a struct of
	// yours with an unexported field of type Config shows its URL when fmt prints that struct. Give
	// such a struct a String method.
	URL string

	// MaxOpen is the most connections open at once, in use and idle. The health check has one more
	// of its own. Default: DefaultMaxOpen. Adopt: 0 leaves the handle's own limit. Bounds: not
	// negative, not above 65,535.
	MaxOpen int

	// MaxOpenCeiling is how far Reload may raise MaxOpen later: pgxpool reserves its places when it
	// is made. Default: MaxOpen. Bounds: MaxOpen to 65,535. NewPostgres only; elsewhere any MaxOpen
	// can be reloaded.
	MaxOpenCeiling int

	// MinIdle is how many idle connections are kept ready beside those in use, within MaxOpen.
	// Default: 0, none. Bounds: 0 to MaxOpen. Adopt refuses it.
	MinIdle int

	// MaxIdleTime is how long the pool may hold more connections than its traffic needs before the
	// surplus is closed. Default: DefaultMaxIdleTime, below the 350 s after which AWS' network load
	// balancers forget a connection. Off: never. Adopt: 0 leaves the handle as it is.
	MaxIdleTime time.Duration

	// MaxLifetime is how long a connection may live; one in use is closed when it comes back.
	// Choose it below the server's own limits (wait_timeout, a proxy's). Default:
	// DefaultMaxLifetime. Off: no limit. Adopt: 0 leaves the handle as it is.
	MaxLifetime time.Duration

	// LifetimeJitter is the part of MaxLifetime, from 0 to 1, by which lifetimes differ at random,
	// so that connections opened together do not expire together: each lives between MaxLifetime ×
	// (1 − LifetimeJitter) and MaxLifetime. Default: DefaultLifetimeJitter; NoJitter for none.
	// Adopt refuses it.
	LifetimeJitter float64

	// KeepAlive is the silence after which an idle connection is pinged, so that neither server nor
	// network forget it. Default: DefaultKeepAlive, or half of what the server allows if that is
	// known to be no more (wait_timeout, idle_session_timeout). Off: never. A driver without Ping
	// is never pinged. Adopt refuses it.
	KeepAlive time.Duration

	// EvictionInterval is how often demand is sampled and idle connections are looked through; none
	// is pinged more often. Default: a tenth of MaxIdleTime or a quarter of KeepAlive, whichever is
	// less, at least 10 ms and at most 30 s. Adopt refuses it.
	EvictionInterval time.Duration

	// AcquireTimeout bounds a caller's wait for a connection, however long its own context lasts.
	// The error then names the oldest holders (see AcquireError). A caller gives up earlier if it
	// has waited for half of its time and nearly all uses of a connection take longer than it has
	// left. Its statement would be cut off, and the others would lose the connection. Default:
	// DefaultAcquireTimeout. Off: the caller's context alone decides. Adopt refuses it: only the
	// handle's own waiting is possible there.
	AcquireTimeout time.Duration

	// QueryTimeout bounds each statement whose context has no deadline: Exec, Query, Prepare, a
	// batch, Begin, Commit and Rollback, to the end of the rows. So a network that loses packets
	// cannot block a caller for ever. Past it the connection is closed, and the error matches
	// context.DeadlineExceeded; the server may have run the statement, or may still run it. COPY
	// and WaitForNotification are not bounded, nor is what goes to the driver's own connection
	// (PgConn, sql.Conn.Raw). On database/sql a result set that is not closed is cut off too,
	// Commit and Rollback are bounded whatever their transaction's context, but they and Begin only
	// where the pool knows the driver's sockets (NewMySQL, and pgx). Default: 0, no bound. Bounds:
	// positive. Adopt refuses it.
	QueryTimeout time.Duration

	// MaxWaiting is how many callers may wait for a connection beyond the MaxOpen that have one or
	// are about to: one more is refused at once, with an AcquireError that matches
	// poolkeeper.ErrTooManyWaiting. Choose it when an answer that comes late is worth nothing, so
	// that an overload ends in errors and not in queues. Default: 0, no limit; NoWaiting: no caller
	// waits. Bounds: NoWaiting or not negative. Adopt refuses it.
	MaxWaiting int

	// DialTimeout bounds opening one connection, authentication included. Of several hosts in a
	// PostgreSQL URL each has an equal share of it. Default: DefaultDialTimeout. It cannot be
	// turned off. Adopt refuses it.
	DialTimeout time.Duration

	// FailFastAfter is how long every dial must have failed before callers fail at once. Their
	// error is a poolkeeper.DownError (errors.Is(err, poolkeeper.ErrDown)). Callers that wait
	// already fail too, so that they can fall back. A trial, a connection of the pool's own, must
	// have failed as well. A pool that started without its server (StartDegraded) is down from the
	// start. Then only trials dial, at most ten a second, and the first that is answered lets all
	// callers in. Any answer of a running server counts: callers get the errors of a wrong password
	// or a full server unchanged. Statements do not count, however slow, and callers that have a
	// connection keep it. Default: DefaultFailFastAfter. Off: every caller tries by itself. Adopt
	// refuses it.
	FailFastAfter time.Duration

	// MaxDials is the most connections being dialled at once. So neither a burst nor the end of an
	// outage causes a storm of logins. Callers do not wait for a dial of their own: the first
	// connection that is ready, new or returned, goes to the first in the queue. Default:
	// DefaultMaxDials. Bounds: 1 to MaxOpen; larger values mean MaxOpen. Adopt refuses it.
	MaxDials int

	// LeakThreshold is how long a connection may be held before its holder is reported, once, with
	// where it was taken. Default: DefaultLeakThreshold. Off: never. Adopt refuses it.
	LeakThreshold time.Duration

	// ReclaimAfter is how long a caller may hold a connection at all. Past it the pool closes the
	// socket under its holder and frees its place. The holder's next use fails. On pgxpool a place
	// is free only within MaxOpenCeiling, until the holder releases it, and a connection that may
	// have been hijacked is left alone until it is known: see Postgres.Hijack. Where the driver's
	// sockets are out of reach (NewDB, but for pgx's own driver) it is only logged. Default: never.
	// Bounds: positive. Adopt refuses it.
	ReclaimAfter time.Duration

	// DisableLeakStacks says not to record the caller's stack for each connection in use, which
	// costs 2 to 3 µs per acquisition. Holders are then listed with kind and age only. Adopt refuses
	// it.
	DisableLeakStacks bool

	// SuspectPing is how long a suspect connection may take to answer a ping before its next use.
	// When a connection dies in use, every one that has been silent since before is suspect; when
	// one of them does not answer, all of them are closed, so that callers do not each wait for a
	// network that is gone. Default: it follows the link. It is four times the longest recent round
	// trip, from 250 ms to 2 s, and doubles when it had to close connections in the last 30 s. Off:
	// no suspicion. Adopt refuses it.
	SuspectPing time.Duration

	// RecycleReadOnly says whether a write that the server refuses as read-only makes the pool
	// throw away every connection dialled so far, at most once a second: after a failover behind
	// the same name the old ones lead to the wrong server for ever. On PostgreSQL the pool sees
	// every refused write. On database/sql it does not see those in the later result sets of a
	// Query of several statements, whose rows are the driver's own. It sees all those of an Exec.
	// Default: Enabled. Adopt refuses it.
	RecycleReadOnly Switch

	// Peek says whether the pool looks at a connection's socket before use, without any traffic. It
	// does so after a silence of a millisecond or more. A connection that the server has closed is
	// replaced, and costs no query. Default: Enabled. NewPostgres only; the MySQL driver does so by
	// itself.
	Peek Switch

	// CloseGrace is how long a connection whose query was given up may take to be closed. pgx asks
	// the server to cancel the query and waits for it, and the connection counts against MaxOpen
	// until then: up to 15 s if the server does not answer. Past CloseGrace the server may still be
	// running the query. Default: DefaultCloseGrace. Off: as long as pgx takes. NewPostgres only.
	CloseGrace time.Duration

	// Start says what Start does while the server cannot be reached. Default: StartFailFast.
	Start poolkeeper.StartPolicy

	// Instances is how many processes run with this configuration at once; Limits multiplies by it.
	// Default: 1. Bounds: not negative. Adopt refuses it.
	Instances int

	// TLS is used for every connection, in place of what URL says about TLS. Default: nil, what URL
	// says. It is cloned. NewPostgres and NewMySQL only.
	TLS *tls.Config

	// Credentials is asked for user and password before each connection is opened, under
	// DialTimeout, in place of what URL says. An empty user keeps that of URL. When the answer has
	// changed, and is the same two seconds later, connections opened by the old one are replaced as
	// they become idle; tokens that differ at every call leave them alone. See also Reset. It
	// must be safe for concurrent use. Default: nil. NewPostgres and NewMySQL only.
	Credentials func(ctx context.Context) (user, password string, err error)

	// TLSFiles names certificate files that complete TLS. Any of them turns TLS on, in place of
	// what URL says about it. The constructor reads them, and the pool checks them every
	// FileInterval. When they have changed, and the server accepts the new content, the pool
	// replaces connections opened with the old one as they become idle. Default: none. NewPostgres
	// and NewMySQL only.
	TLSFiles poolkeeper.TLSFiles

	// CredentialsFile holds "user:password", or a password alone (the user is then that of URL);
	// white space around it is ignored. The pool checks it as it does TLSFiles. A rotation on disk
	// fails no query if the server accepts the old secret until the new one is in use, or if no
	// connection must be opened until then. It takes the place of Credentials. Default: none.
	// NewPostgres and NewMySQL only.
	CredentialsFile string

	// FileInterval is how often TLSFiles and CredentialsFile are looked at; a login that fails
	// brings it forward. Default: DefaultFileInterval. Off: only Reload looks.
	FileInterval time.Duration

	// CheckQuery is what Check runs on its connection. Default: empty, a ping, or for a driver
	// without Ping only that a connection can be opened. Adopt, which has no connection of its own
	// to check with, runs it on one of the handle's.
	CheckQuery string

	// ConfigurePostgres changes pgx's own configuration before the pool is made: type registration
	// in AfterConnect, a tracer, fallbacks. What it sets is kept and works beside what the pool
	// adds; sizes and times are Config's and are overwritten. Default: nil. NewPostgres only.
	ConfigurePostgres func(*pgxpool.Config) error

	// ConfigureMySQL changes the driver's own configuration before the pool is made. A DialFunc it
	// sets is kept. Default: nil. NewMySQL only.
	ConfigureMySQL func(*mysql.Config) error

	// Logger gets leaks, failed dials in the background, and what Stop had to force. Default:
	// slog.Default().
	Logger *slog.Logger
}

// Switch turns something on or off.
type Switch int

// Values of Switch.
const (
	Default Switch = iota // as the field's comment says
	Enabled
	Disabled
)

// maxMaxOpen is far beyond what any server grants; it catches a typing error.
const maxMaxOpen = 65_535

func (c Config) maxOpenOrDefault() int {
	if c.MaxOpen == 0 {
		return DefaultMaxOpen
	}
	return c.MaxOpen
}

// withDefaults returns c with every zero field that has a default filled in, and Off turned into
// the zero that the rest of the package understands as off. SuspectPing stays as it is: its zero
// follows the link.
func (c Config) withDefaults(kind string) Config {
	if c.Name == "" {
		c.Name = kind
	}
	c.MaxOpen = c.maxOpenOrDefault()
	c.MaxIdleTime = settings.Or(c.MaxIdleTime, DefaultMaxIdleTime)
	c.MaxLifetime = settings.Or(c.MaxLifetime, DefaultMaxLifetime)
	c.KeepAlive = settings.Or(c.KeepAlive, DefaultKeepAlive)
	c.AcquireTimeout = settings.Or(c.AcquireTimeout, DefaultAcquireTimeout)
	c.DialTimeout = settings.Or(c.DialTimeout, DefaultDialTimeout)
	c.FailFastAfter = settings.Or(c.FailFastAfter, DefaultFailFastAfter)
	c.LeakThreshold = settings.Or(c.LeakThreshold, DefaultLeakThreshold)
	c.CloseGrace = settings.Or(c.CloseGrace, DefaultCloseGrace)
	c.FileInterval = settings.Or(c.FileInterval, DefaultFileInterval)
	if c.RecycleReadOnly == Default {
		c.RecycleReadOnly = Enabled
	}
	if c.Peek == Default {
		c.Peek = Enabled
	}
	if c.LifetimeJitter == 0 {
		c.LifetimeJitter = DefaultLifetimeJitter
	}
	if c.MaxDials == 0 {
		c.MaxDials = DefaultMaxDials
	}
	c.MaxDials = min(c.MaxDials, c.MaxOpen)
	c.Instances = max(c.Instances, 1)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}
