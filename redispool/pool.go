package redispool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/expiry"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/latest"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/observer"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// origin is what New was given. It holds passwords, and fmt follows one pointer when a Pool is
// printed by value, with %s: so there are two (INV-12).
type origin struct {
	cfg    *Config // with defaults: what go-redis was told, and the limits of what Reload can do
	target *target
}

// Pool manages the connections of a go-redis client. All methods are safe for concurrent use.
type Pool struct {
	*origin

	live     atomic.Pointer[Config]   // what is in effect
	endpoint atomic.Pointer[endpoint] // what new connections are opened with
	made     time.Time                // by New
	epoch    monotime.Time            // made, on the clock by which connections are marked
	client   redis.UniversalClient

	permits *permits    // holds callers up while the pool is paused
	state   *life.State // its change lock is for a Reload, a Pause or a poll of the files
	events  *event.Log
	renewal string          // what was wrong with the files, said last; guarded by that lock
	gate    *inflight.Gate  // commands under way; refuses new ones while draining
	dialing *inflight.Gate  // dials under way; refuses new ones while stopping
	life    context.Context //nolint:containedctx // ends when the pool is closed, and dials with it
	endLife context.CancelFunc
	held    *holders.Table // the holders of connections
	checker *checker
	met     metrics
	fleet   latest.Fleet

	expiring expiry.Watch

	reduced  error     // why sessions are not tracked; nil: they are
	attempts attempts  // how long a Cluster's commands have waited
	isolator *isolator // nil: not a Cluster with reads from replicas
	observer observer.Slot
	recycles atomic.Int64          // calls of Reset that the one under way has yet to serve
	reread   atomic.Int64          // a monotime.Time: when a Cluster's state was asked for last, after a failed dial
	refused  atomic.Pointer[error] // what new work is told while draining and after

	closeOnce    sync.Once
	clientClosed chan struct{} // made by closeOnce, closed when closeErr is set
	closeErr     error

	mu         sync.Mutex              // guards the following
	watch      *holders.Watch          // reports leaks; nil: off
	nodes      []*node                 // in order of appearance
	goneTotals poolkeeper.Stats        // what go-redis counted of a Cluster's nodes that are gone: totals never fall
	endPause   context.CancelCauseFunc // of the Pause under way
	paused     time.Time               // when callers began to wait for Resume; zero: they do not
	nextPoll   *time.Timer             // at the files; nil: there are none, or the pool does not run
	polledAt   time.Time               // when it was set, or brought forward
}

// New returns a pool that is not started. It reports every fault of cfg at once, with Config.Name,
// and dials nothing. The client may be used before Start, and then dials as it is used. A pool that
// is given up without Start needs a Stop or Abort too: go-redis starts goroutines of its own.
func New(cfg Config) (*Pool, error) {
	given, name := cfg.TLS, cfg.Name
	cfg, t, err := cfg.resolve()
	if err != nil {
		return nil, settings.Named("redispool", name, err)
	}
	now := time.Now()
	ctx, end := context.WithCancel(context.Background()) //nolint:forbidigo // the pool outlives every call
	p := &Pool{
		origin: &origin{cfg: &cfg, target: &t}, state: life.NewState("redispool", cfg.Name),
		made: now, epoch: monotime.Of(now), gate: inflight.New(), dialing: inflight.New(), life: ctx, endLife: end,
		held: holders.NewTable(!cfg.DisableLeakStacks), reduced: checkGoRedis(),
	}
	p.permits = &permits{met: &p.met, stop: ctx.Done(), size: cfg.MaxOpenCeiling}
	p.live.Store(&cfg)
	p.events = p.newEvents()
	p.observer.OnPanic = func(err error) { _ = p.events.Panicked("the Observer", err) }
	p.checker = newChecker(p)
	if cfg.LeakThreshold > 0 {
		p.watch = holders.NewWatch(p.held, cfg.LeakThreshold, p.reportLeaks)
	}
	if t.readsReplicas() {
		p.isolator = newIsolator(p)
		p.isolator.configure(cfg.Isolation)
	}
	p.setRefusal()
	p.endpoint.Store(p.newEndpoint(t, cfg, given))
	opts := p.shown()
	switch t.kind {
	case kindCluster:
		p.client = p.newCluster(opts.Cluster())
	case kindSentinel:
		p.client = p.adoptClient(redis.NewFailoverClient(opts.Failover()))
	case kindNode:
		p.client = p.adoptClient(redis.NewClient(opts.Simple()))
	}
	return p, nil
}

func (p *Pool) adoptClient(c *redis.Client) *redis.Client {
	p.nodes = append(p.nodes, newNode(p, c, p.gate))
	return c
}

func (p *Pool) newCluster(o *redis.ClusterOptions) *redis.ClusterClient {
	c := redis.NewClusterClient(o)
	c.AddHook(clusterHook{p})
	c.OnNewNode(func(client *redis.Client) { p.nodeCame(newNode(p, client, inflight.New())) })
	return c
}

// nodeCame is called by go-redis, under its own lock, when a Cluster's node is first used.
func (p *Pool) nodeCame(n *node) {
	p.mu.Lock()
	p.nodes = append(p.nodes, n)
	p.mu.Unlock()
	n.obeyLimit() // again: a Reload that came meanwhile has not found the node
	if p.state.At() == life.Running {
		p.startNode(p.life, n)
	}
}

// liveNodes returns the nodes, without those of a Cluster whose clients go-redis has closed because
// the Cluster does without them; these it drops.
func (p *Pool) liveNodes(ctx context.Context) []*node {
	all := p.allNodes()
	if p.target.kind != kindCluster {
		return all
	}
	var live, gone []*node
	for _, n := range all {
		if n.clientClosed(ctx) {
			gone = append(gone, n)
		} else {
			live = append(live, n)
		}
	}
	if len(gone) == 0 {
		return all
	}
	for _, n := range p.remove(gone) {
		if err := errors.Join(n.evictor.Stop(ctx), n.breaker.Stop(ctx)); err != nil {
			p.trouble("a node is gone, but its eviction still runs", err, slog.String("node", n.addr()))
		}
	}
	return live
}

// remove takes nodes out of the pool and keeps their totals. It returns those that were in it.
func (p *Pool) remove(gone []*node) (removed []*node) {
	last := make([]poolkeeper.Stats, len(gone))
	for i, n := range gone {
		last[i] = n.nativeStats()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, n := range gone {
		if at := slices.Index(p.nodes, n); at >= 0 { // else another caller has removed it
			p.nodes = slices.Delete(p.nodes, at, at+1)
			addTotals(&p.goneTotals, &last[i])
			removed = append(removed, n)
		}
	}
	return removed
}

func (p *Pool) allNodes() []*node {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*node(nil), p.nodes...)
}

// Client returns the native client: a *redis.Client for one node or Sentinel, a
// *redis.ClusterClient for a Cluster. It is the same one for the life of the pool, and closed by
// Stop; do not close it. Hooks may be added to it; those added before Start do not see what the
// pool does for itself.
//
// Its Options are the user's own: address, dialer, TLS, user and password, and functions, as given
// to New. Sizes and times are those that go-redis runs with: PoolSize is MaxOpenCeiling, and what
// the pool does itself (idle connections, dials that are repeated) is off. They do not change with
// Reload. A client that is made from them is go-redis' own: it goes to the address, database and
// user that it names. The pool neither counts nor closes it. Note:
//
//   - Config.Credentials is not shown: another client logs in by what URL and Options say. A CredentialsFile is
//     shown as user and password, as New has read them.
//   - go-redis asks a CredentialsProvider of Options before each login, also if Reload has put another login in effect.
//     It ignores the answer then, but an error still fails the login. Config.Credentials has no such limit.
//   - Behind Sentinel go-redis shows a dialer of its own. It asks the sentinels for the server, whatever the address,
//     and works until Stop.
func (p *Pool) Client() redis.UniversalClient { return p.client }

// SetName gives the pool its name in errors, logs and metrics. An empty name is ignored.
// Registry.Add calls it.
func (p *Pool) SetName(name string) {
	p.state.SetName(name)
	p.setRefusal()
}

// config is what is in effect. It is not to be changed.
func (p *Pool) config() *Config { return p.live.Load() }

func (p *Pool) poolName() string { return p.state.Name() }

// refusal is the error for work that begins after the pool has begun to drain. It is made
// beforehand, because a refused caller may try again at once and often.
func (p *Pool) refusal() error { return *p.refused.Load() }

// setRefusal makes the refusal fit name and phase.
func (p *Pool) setRefusal() {
	p.mu.Lock() // of two at once the second looks later
	defer p.mu.Unlock()
	err := fmt.Errorf("redispool: %q: %w", p.poolName(), poolkeeper.ErrDraining)
	if p.state.At() >= life.Stopping {
		err = fmt.Errorf("redispool: %q: %w: %w", p.poolName(), poolkeeper.ErrClosed, redis.ErrClosed)
	}
	p.refused.Store(&err)
}

// whileAlive returns a context that ends with ctx and with the pool's life.
func (p *Pool) whileAlive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(p.life, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// timeOf is t for package eviction, which reckons with time.Time: with a monotonic reading, as made
// has one.
func (p *Pool) timeOf(t monotime.Time) time.Time { return p.made.Add(t.Sub(p.epoch)) }

// patience bounds one exchange of the pool's own with the server, dial included (INV-10).
func (p *Pool) patience() time.Duration {
	d := p.cfg.DialTimeout + DefaultReadTimeout
	if p.cfg.ReadTimeout > 0 {
		d = p.cfg.DialTimeout + p.cfg.ReadTimeout
	}
	return d
}
