package sqlpool

import (
	"context"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/peer"
)

// backend is a pool of one driver, as a manager works on it. Its methods are safe for concurrent
// use.
type backend interface {
	// check asks the server for a sign of life on a connection that no caller uses.
	check(ctx context.Context) error
	// stats fills in the gauges, and what only the backend counts.
	stats(s *poolkeeper.Stats)
	// settle waits until no caller holds a connection or waits for one. The gate is closed before.
	settle(ctx context.Context) error
	// close closes the handle, the idle connections and the check's own, and waits until they are
	// closed or ctx ends. It may be called more than once.
	close(ctx context.Context) error
	// resolve returns how connections are to be opened under cfg and what its files hold, and cfg
	// with its defaults and what URL adds. It reports every fault of cfg and does no I/O.
	resolve(cfg config, on secretFiles) (target, config, error)
	// try opens a connection by to, checks it and closes it.
	try(ctx context.Context, to target, cfg *config) error
	// takesWrites opens a connection by the target in use, and closes it. It reports how the server
	// answers query, which is writableQuery's.
	takesWrites(ctx context.Context, query string) (bool, error)
	// current returns the target in use, and use sets another, with the sizes of cfg. elsewhere
	// says that the target has changed.
	current() target
	use(ctx context.Context, to target, cfg *config, elsewhere bool)
	// pause makes new callers queue, and reports false if they do already; resume lets them go on.
	// opening reports whether the pool itself is opening a connection, or has not yet decided to.
	pause() bool
	resume()
	opening() bool
	// reclaim takes away connections that have been held for longer than limit. It returns their
	// holders, and how many connections are out of reach.
	reclaim(now time.Time, limit time.Duration) (taken []poolkeeper.Holder, out int)
	// reach returns how to open a socket to the server of to, below TLS, or nil if only the driver
	// can, and whether connections use TLS.
	reach(to target) (dial peer.Dial, secure bool)
	// limits asks the server what it grants.
	limits(ctx context.Context) (Limits, error)
	// refuseAll ends the waits of all callers with err; those that have a connection keep it.
	refuseAll(err error)
	// answeredSince reports whether the server has given a sign of life on an open connection since
	// then.
	answeredSince(then monotime.Time) bool
	// flush closes the idle connections that are stale, in the background.
	flush()
	// cut closes the sockets of the connections that callers hold, or of all, at once, and says how
	// many it could not reach.
	cut(idleToo bool) (cut, left int)
}

// target says how connections are opened: what URL, TLS, Credentials and Configure come
// down to. Each backend has its own.
type target any
