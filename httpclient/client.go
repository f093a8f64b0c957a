package httpclient

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/expiry"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/observer"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Client is an HTTP client as a component. Make it with [New]. All its methods are safe for
// concurrent use.
//
//	Start   reaches the server as Config.Start says, and begins to watch leaks and files
//	Drain   refuses new requests, waits for those in flight, their bodies included
//	Stop    continues that, cuts what is left when its context ends and names it, and closes every connection
//	Abort   cuts at once
type Client struct {
	http     *http.Client
	live     atomic.Pointer[Config]   // with defaults; what it points to never changes
	rotation atomic.Pointer[rotation] // the hosts
	turn     atomic.Uint64            // of the rotation
	outage   atomic.Bool              // all hosts are down, and the event was emitted
	gate     *inflight.Gate           // requests in flight, their bodies included
	held     *holders.Table           // the same, by caller
	state    *life.State
	events   *event.Log
	observer observer.Slot
	expiring expiry.Watch
	limits   limits

	leaks, generation, refused atomic.Uint64 // these belong to no host

	life context.Context //nolint:containedctx // ends when Stop begins; bounds the client's own work
	end  context.CancelFunc

	asked   atomic.Pointer[Config] // the configuration in effect, as it was given
	renewal string                 // what was wrong with the files, said last; guarded by the change of state

	switching sync.Mutex // guards the following, and the replacing of endpoints and hosts; no I/O under it
	scores    *isolation.Group[*host]

	mu       sync.Mutex       // guards the following
	inFlight *exchange        // a list, to be cut at Stop
	cut      bool             // they are
	watches  []*holders.Watch // of LeakThreshold and files, where they are on
	former   []*host          // were in Hosts and have requests in flight
	past     poolkeeper.Stats // of former hosts without requests
}

// New returns a client. It validates cfg and reports every fault at once. It dials nothing and starts
// nothing.
func New(cfg Config) (*Client, error) {
	t, err := cfg.resolve()
	if err != nil {
		return nil, settings.Named("httpclient", cfg.Name, err)
	}
	cfg.Hosts = slices.Clone(cfg.Hosts)
	full := cfg.withDefaults()
	c := &Client{
		gate: inflight.New(), held: holders.NewTable(!full.DisableLeakStacks),
		state: life.NewState("httpclient", full.Name),
	}
	c.limits.c = c
	c.life, c.end = context.WithCancel(context.Background()) //nolint:forbidigo // the client's own life, ended by Stop
	c.asked.Store(&cfg)
	c.live.Store(&full)
	c.events = event.NewLog("httpclient", c.state.Name, func() *slog.Logger { return c.config().Logger }, explain)
	c.observer.OnPanic = func(err error) { _ = c.events.Panicked("the Observer", err) }
	c.scores = isolation.New[*host](full.Isolation, full.judgeEvery())
	var all []*host
	for _, addr := range full.addresses() {
		h := c.newHost(addr)
		h.newEndpoint(&full, t).switchTo()
		all = append(all, h)
	}
	c.rotateLocked(all, time.Now())
	c.watches = c.watchesFor(&full)
	var rt http.RoundTripper = transport{c}
	if full.Wrap != nil {
		if rt = full.Wrap(rt); rt == nil {
			return nil, settings.Named("httpclient", cfg.Name, errWrap)
		}
	}
	c.http = &http.Client{Transport: rt}
	return c, nil
}

func explain(err error) (cause, advice string) {
	f := health.Classify(err)
	return string(f.Kind), f.Advice
}

// config returns the configuration in effect.
func (c *Client) config() *Config { return c.live.Load() }

// HTTP returns the native client. It is the same on every call; its Timeout is 0, because
// RequestTimeout bounds requests. Set its CheckRedirect or Jar before it is used, if at all.
func (c *Client) HTTP() *http.Client { return c.http }

// Start reaches the server as Config.Start says, then begins to report leaks and to read files. It
// blocks until the server has answered once or the policy gives up, at most until ctx ends. A failed
// Start may be repeated.
func (c *Client) Start(ctx context.Context) error {
	return c.state.Start(ctx, func(ctx context.Context) error {
		_, err := c.state.Reach(ctx, c.config().Start, c.events, c.attempt)
		return err
	}, c.startWatches)
}

func (c *Client) startWatches() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		w.Start()
	}
}

// SetName gives the client the name it has in logs, errors and metrics. An empty name changes
// nothing.
func (c *Client) SetName(name string) { c.state.SetName(name) }

// Subscribe calls fn for every event of the client from now on, until cancel is called. fn runs on
// goroutines of the client and of its callers, may be called concurrently, and must not block. A
// panic in it is logged.
func (c *Client) Subscribe(fn func(poolkeeper.Event)) (cancel func()) { return c.events.Subscribe(fn) }

// ObserveWith reports the outcome of requests to o: nil for a response, and the error of a request
// that got none, unless its caller gave up. A nil o ends the reports. It does not block.
func (c *Client) ObserveWith(o poolkeeper.Observer) { c.observer.Set(o) }
