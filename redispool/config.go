package redispool

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Defaults of Config.
const (
	// DefaultMaxOpenPerCPU times GOMAXPROCS is the default of MaxOpen, as in go-redis. A service
	// needs as many connections as commands are under way at once, which is their rate times their
	// round trip (Little's law): at 10,000 a second and 1 ms, 10.
	DefaultMaxOpenPerCPU  = 10
	DefaultMaxIdleTime    = 5 * time.Minute
	DefaultLifetimeJitter = 0.1
	DefaultKeepAlive      = 2 * time.Minute
	DefaultAcquireTimeout = 5 * time.Second
	DefaultDialTimeout    = 5 * time.Second
	DefaultFailFastAfter  = 3 * time.Second
	DefaultReadTimeout    = 3 * time.Second
	DefaultLeakThreshold  = 5 * time.Minute
	DefaultFileInterval   = 10 * time.Second
)

// Config configures a pool. It is passed by value; the zero value of each field means its default.
// Off (a constant) is accepted where a comment says so. On a Cluster, MaxOpen, MinIdle and all
// times but AcquireTimeout are for each node.
//
// No duration may be longer than 100 years. MaxIdleTime, MaxLifetime, KeepAlive, LeakThreshold and
// FileInterval may not be shorter than 1 ms, because a bare 300 is 300 ns: write 300*time.Second.
type Config struct {
	// Name is the pool's name in logs, errors and metrics until SetName gives another; a Registry
	// does. Default: "redis".
	Name string

	// URL says where the server is; it is never printed. Exactly one of URL and Options is
	// required.
	//
	//	redis://user:password@host:6379/0      one node; rediss:// with TLS
	//	unix://user:password@/path/to.sock?db=0
	//	redis+sentinel://user:password@host:26379/0?master_name=m&addr=host2:26379&username=u&password=p
	//	                                       Sentinel; user and password are the sentinels', the parameters the server's
	//	redis+cluster://user:password@host:6379?addr=host2:6379
	//	                                       Cluster, from any of its nodes
	//
	// redis:// with master_name is Sentinel too, and with addr a Cluster. Further parameters are
	// go-redis' own (client_name, max_retries, protocol, skip_verify …); those that size the pool
	// or set a time stand in for fields of Config that are zero.
	//
	// A Config prints without it. fmt cannot call methods of unexported fields, though: a struct of
	// yours with an unexported field of type Config shows its URL when fmt prints that struct. Give
	// such a struct a String method.
	URL string

	// Options is an alternative to URL, for settings that a URL cannot express. The kind of client
	// (one node, Sentinel, Cluster) follows from it as in redis.NewUniversalClient. It is copied.
	// Fields that size the pool or set a time stand in for fields of Config that are zero; fields
	// that the pool cannot honour are faults. Maintenance notifications are off unless
	// MaintNotificationsConfig asks for them.
	Options *redis.UniversalOptions

	// MaxOpen is the most connections open at once, in use and idle. Each subscription has one more
	// of its own, and so has the health check. Default: DefaultMaxOpenPerCPU × GOMAXPROCS. Bounds:
	// not negative, not above 65,535.
	MaxOpen int

	// MaxOpenCeiling is how far Reload may raise MaxOpen later: go-redis reserves its places when
	// it is made. A MaxOpen below it costs nothing. Default: MaxOpen. Bounds: MaxOpen to 65,535.
	MaxOpenCeiling int

	// MinIdle is how many idle connections are kept ready beside those in use, within MaxOpen.
	// Default: 0, none. Bounds: 0 to MaxOpen.
	MinIdle int

	// MaxIdleTime is how long the pool may hold more connections than its traffic needs before the
	// surplus is closed. Default: DefaultMaxIdleTime, below the 350 s after which AWS' network load
	// balancers forget a connection. Off: never.
	MaxIdleTime time.Duration

	// MaxLifetime is how long a connection may live. One in use is closed when it comes back:
	// within milliseconds, that of a Conn within a second after its Close. Default: no limit, for
	// Redis gains nothing by it; set it where a proxy or load balancer in between wants connections
	// spread anew.
	MaxLifetime time.Duration

	// LifetimeJitter is the part of MaxLifetime, from 0 to 1, by which lifetimes differ at random,
	// so that connections opened together do not expire together: each lives between MaxLifetime ×
	// (1 − LifetimeJitter) and MaxLifetime. Default: DefaultLifetimeJitter; NoJitter for none.
	LifetimeJitter float64

	// KeepAlive is the silence after which an idle connection is pinged, so that neither server nor
	// network forget it. Default: DefaultKeepAlive. Off: never.
	KeepAlive time.Duration

	// EvictionInterval is how often demand is sampled and idle connections are looked through.
	// Default: a tenth of MaxIdleTime, at least 10 ms and at most 30 s.
	EvictionInterval time.Duration

	// AcquireTimeout is the most a caller waits for a connection, however long its own context
	// lasts. The queue, pauses of the pool, dials, logins and the time between attempts count, on
	// all attempts together; answers of the server do not. The error then names the holders of the
	// connections (see AcquireError). On a Cluster it is one time for all nodes that a command or a
	// pipeline is redirected to, or tried again on. Commands that go-redis splits over several
	// nodes, and Watch, begin anew with each attempt there. Default: DefaultAcquireTimeout. Off:
	// the caller's context alone decides.
	AcquireTimeout time.Duration

	// MaxWaiting is how many callers may wait for a connection beyond the MaxOpen that have one or
	// are about to: one more is refused at once, with an AcquireError that matches
	// poolkeeper.ErrTooManyWaiting. Choose it when an answer that comes late is worth nothing, so
	// that an overload ends in errors and not in queues. Callers held up by a pause of a Cluster do
	// not count. Default: 0, no limit; NoWaiting: no caller waits. Bounds: NoWaiting or not
	// negative.
	MaxWaiting int

	// DialTimeout bounds opening one connection. Default: DefaultDialTimeout. It cannot be turned
	// off.
	DialTimeout time.Duration

	// FailFastAfter is how long no connection could be opened before callers fail at once, with a
	// poolkeeper.DownError (errors.Is(err, poolkeeper.ErrDown)), callers that wait already
	// included, so that they can fall back. A trial, a connection of the pool's own, must have
	// failed too; a pool that started without its server (StartDegraded) is down from the start.
	// Only trials, and health checks, dial then, trials at most ten times a second, and the first
	// that is answered lets all callers in. Any answer of a running server counts: a wrong password
	// and a server that is full are returned to callers as they are; LOADING and MASTERDOWN do not
	// count. Commands do not count, however slow, and callers that have a connection (Conn, Watch)
	// keep it. On a Cluster each node is judged by itself. Default: DefaultFailFastAfter. Off:
	// every caller tries by itself.
	FailFastAfter time.Duration

	// SuspectPing is how long the server may be silent on a connection while it answers on another.
	// When a command waits in vain, or its connection breaks, the server is asked on a new
	// connection. If it answers there, connections that stay silent for longer than SuspectPing are
	// closed, and so are idle ones of the same age, so that callers do not each wait for a network
	// that is gone. Default: it follows the link. It is four times the longest recent round trip,
	// from 250 ms to 2 s, and doubles when it had to close connections in the last 30 s. Off: no
	// suspicion.
	SuspectPing time.Duration

	// ReadTimeout bounds waiting for one reply, within what the caller's context allows; a blocking
	// command (BLPOP) has its own timeout added. Default: DefaultReadTimeout. Off: the caller's
	// context alone decides.
	ReadTimeout time.Duration

	// WriteTimeout bounds sending one command, within what the caller's context allows. Default:
	// ReadTimeout. Off: the caller's context alone decides.
	WriteTimeout time.Duration

	// Isolation takes replicas of a Cluster that serve worse than others of their shard out of
	// rotation: go-redis sends them no reads. It needs replica reads, so one of ReadOnly,
	// RouteByLatency and RouteRandomly in Options or in the URL. It scores the time to each answer,
	// failed commands and connections in use. A primary is never isolated, because writes need it.
	// With ReadOnly alone the replicas of a shard are compared with each other, and one of them
	// always serves. With the other two, go-redis reads from the primary as well: then it is one of
	// the servers that are compared, and may be the only one left. Default: off.
	Isolation poolkeeper.Isolation

	// LeakThreshold is how long a connection may be held (Conn, Watch) or a subscription be open
	// before its holder is reported, once, with where it was taken. Default: DefaultLeakThreshold.
	// Off: never.
	LeakThreshold time.Duration

	// DisableLeakStacks says not to record the caller's stack for each connection held. Holders are
	// then listed with kind and age only. Plain commands hold none and cost nothing either way.
	DisableLeakStacks bool

	// CheckCommand is the command that Check sends, for example "GET health:key": words separated
	// by white space, without quotes. An error among its answers fails the check; that there is no
	// such key does not. On a Cluster each node gets it besides CLUSTER INFO, and may answer that
	// another one has the key. It must leave the connection as it is. Default: empty, PING, which
	// passes also for a user that may not run it.
	CheckCommand string

	// Start says what Start does while the server cannot be reached. Default: StartFailFast.
	Start poolkeeper.StartPolicy

	// TLS is used for every connection, the sentinels' included, in place of what URL or Options
	// say about TLS. An empty ServerName is taken from the address. Default: nil, what they say. It
	// is cloned.
	TLS *tls.Config

	// Credentials is asked for user and password as each connection is opened, in place of what URL
	// or Options say. An empty user keeps theirs, or is Redis' default user. When the answer has
	// changed, and is the same two seconds later, connections opened by the old one are replaced as
	// they become idle; tokens that differ at every call leave them alone. See also Reset. It
	// must be safe for concurrent use. Default: nil.
	Credentials func(ctx context.Context) (user, password string, err error)

	// TLSFiles names certificates on disk that TLS is completed with; any of them turns TLS on. New
	// reads them, and while the pool runs it reads them again every FileInterval: when they have
	// changed, and the server accepts what they hold, connections opened by the old ones are
	// replaced as they become idle. Default: none.
	TLSFiles poolkeeper.TLSFiles

	// CredentialsFile holds "user:password", or a password alone (the user is then that of URL or
	// Options, or else Redis' default user); white space around it is ignored. It is read again as
	// TLSFiles are, so that a secret may be rotated on disk without a failed command, as long as
	// the server accepts the old one until the new one is in use. In place of Credentials. It must be a
	// regular file of at most 1 MiB. Default: none.
	CredentialsFile string

	// FileInterval is how often TLSFiles and CredentialsFile are read; a login that fails brings it
	// forward. Default: DefaultFileInterval. Off: only Reload reads them.
	FileInterval time.Duration

	// Instances is how many processes run with this configuration at once. Limits multiplies by it.
	// While a server is down, it spreads the trials of all instances over time. All of them together
	// then dial 4 % of their connections per second, or 100 if that is more. Other dials are not
	// bounded by it. Default: 1. Bounds: not negative.
	Instances int

	// Logger gets leaks, what Stop had to force, and the state of the server at Start. Default:
	// slog.Default().
	Logger *slog.Logger
}

// maxMaxOpen is far beyond what any server grants; it catches a typing error.
const maxMaxOpen = 65_535

func (c Config) target() (target, error) {
	switch {
	case c.URL != "" && c.Options != nil:
		return target{}, errors.New("redispool: URL and Options are both set; give one of them")
	case c.URL != "":
		return parseURL(c.URL)
	case c.Options != nil:
		return targetOf(*c.Options), nil
	default:
		return target{}, errors.New("redispool: neither URL nor Options is set")
	}
}

func defaultMaxOpen() int { return DefaultMaxOpenPerCPU * runtime.GOMAXPROCS(0) }

// withDefaults returns c with every zero field that has a default filled in, and Off turned into
// the zero that the rest of the package understands as off. SuspectPing stays as it is: its zero
// follows the link.
func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "redis"
	}
	if c.MaxOpen == 0 {
		c.MaxOpen = defaultMaxOpen()
	}
	c.MaxOpenCeiling = max(c.MaxOpenCeiling, c.MaxOpen)
	c.MaxIdleTime = settings.Or(c.MaxIdleTime, DefaultMaxIdleTime)
	c.MaxLifetime = settings.Or(c.MaxLifetime, 0)
	c.KeepAlive = settings.Or(c.KeepAlive, DefaultKeepAlive)
	c.AcquireTimeout = settings.Or(c.AcquireTimeout, DefaultAcquireTimeout)
	c.DialTimeout = settings.Or(c.DialTimeout, DefaultDialTimeout)
	c.FailFastAfter = settings.Or(c.FailFastAfter, DefaultFailFastAfter)
	c.ReadTimeout = settings.Or(c.ReadTimeout, DefaultReadTimeout)
	c.WriteTimeout = settings.Or(c.WriteTimeout, c.ReadTimeout)
	c.LeakThreshold = settings.Or(c.LeakThreshold, DefaultLeakThreshold)
	c.FileInterval = settings.Or(c.FileInterval, DefaultFileInterval)
	if c.LifetimeJitter == 0 {
		c.LifetimeJitter = DefaultLifetimeJitter
	}
	c.Instances = max(c.Instances, 1)
	if c.TLS != nil {
		c.TLS = c.TLS.Clone()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}
