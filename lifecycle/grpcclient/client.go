package grpcclient

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/observer"
	"github.com/poolkeeper/poolkeeper/internal/printing"
)

const (
	// DefaultKeepAlive is the silence after which a connection with calls is pinged. By default
	// gRPC's servers close a connection that pings more often.
	DefaultKeepAlive = 5 * time.Minute
	// keepAliveTimeout is how long the answer may take.
	keepAliveTimeout = 20 * time.Second
)

// Client is a *grpc.ClientConn as a component. Make it with [New]. It satisfies lifecycle.Component,
// Drainer, Aborter, Checker, StatsProvider, HolderLister, SettingsProvider, ObserverSetter,
// EventSource, NameSetter and LoggerSetter. All methods are safe for concurrent use.
type Client struct {
	conn     *grpc.ClientConn
	target   string
	state    *life.State
	gate     *inflight.Gate // calls in flight, streams included
	held     *holders.Table // the same, by caller
	events   *event.Log
	logger   atomic.Pointer[slog.Logger] // of the events; nil: slog.Default()
	observer observer.Slot
	watching inflight.Group // the goroutine that follows the connection

	life context.Context //nolint:containedctx // ends when Stop begins; bounds the client's own work
	end  context.CancelFunc

	downSince      atomic.Pointer[time.Time] // nil: the server is not known to be gone
	begun, refused atomic.Uint64
	use            histogram.Recorder // of calls
}

// New returns a client of target, as grpc.NewClient does, with its options. It dials nothing and
// starts nothing. Connections are pinged after DefaultKeepAlive; grpc.WithKeepaliveParams among opts
// changes that. The client's interceptors come before those of opts.
func New(target string, opts ...grpc.DialOption) (*Client, error) {
	c := &Client{target: target, state: life.NewState("grpcclient", "grpc"), gate: inflight.New(), held: holders.NewTable(true)}
	c.life, c.end = context.WithCancel(context.Background()) //nolint:forbidigo // the client's own life, ended by Stop
	c.events = event.NewLog("grpcclient", c.state.Name, c.log, func(err error) (cause, advice string) {
		f := health.Classify(err)
		return string(f.Kind), f.Advice
	})
	c.observer.OnPanic = func(err error) { _ = c.events.Panicked("the Observer", err) }
	own := []grpc.DialOption{
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: DefaultKeepAlive, Timeout: keepAliveTimeout}),
		grpc.WithChainUnaryInterceptor(c.unary), grpc.WithChainStreamInterceptor(c.stream),
	}
	conn, err := grpc.NewClient(target, append(own, opts...)...)
	if err != nil {
		c.end()
		return nil, fmt.Errorf("grpcclient: new %q: %w", target, err)
	}
	c.conn = conn
	return c, nil
}

// Conn returns the native connection, for the clients that protoc generates. The Client owns it: do
// not close it.
func (c *Client) Conn() *grpc.ClientConn { return c.conn }

// InFlight returns how many calls are in flight now, streams included.
func (c *Client) InFlight() int { return c.gate.InFlight() }

// SetName gives the client the name it has in logs, errors and metrics. Default: "grpc". An empty
// name changes nothing.
func (c *Client) SetName(name string) { c.state.SetName(name) }

// SetLogger gives the client the logger of its events. Default: slog.Default(). The Registry calls it.
func (c *Client) SetLogger(l *slog.Logger) { c.logger.Store(l) }

func (c *Client) log() *slog.Logger {
	if l := c.logger.Load(); l != nil {
		return l
	}
	return slog.Default()
}

// Subscribe calls fn for every event of the client from now on, until cancel is called: down, up and
// panic. fn may be called concurrently and must not block. A panic in it is logged.
func (c *Client) Subscribe(fn func(poolkeeper.Event)) (cancel func()) { return c.events.Subscribe(fn) }

// ObserveWith reports calls that could not reach the server to o, and the first success after one. A
// nil o ends the reports. It does not block.
func (c *Client) ObserveWith(o poolkeeper.Observer) { c.observer.Set(o) }

// Holders lists the calls in flight, the oldest first, with the place where each began.
func (c *Client) Holders() []poolkeeper.Holder { return c.held.List() }

// Stats returns one moment of the client. Open is 1 while the connection is ready and InUse is 1 while
// it has calls; gRPC may keep several connections. Acquired counts calls, and Use has their durations.
func (c *Client) Stats() poolkeeper.Stats {
	s := poolkeeper.Stats{
		OldestHold: c.held.OldestHold(time.Now(), ""), Acquired: c.begun.Load(), Refused: c.refused.Load(),
		Evicted: map[string]uint64{
			poolkeeper.EvictedIdle: 0, poolkeeper.EvictedLifetime: 0, poolkeeper.EvictedDead: 0,
			poolkeeper.EvictedFailover: 0, poolkeeper.EvictedReload: 0, poolkeeper.EvictedClosed: 0,
		},
		Use: c.use.Snapshot(),
	}
	if c.ready() {
		s.Open, s.InUse = 1, min(c.gate.InFlight(), 1)
		s.Idle = 1 - s.InUse
	}
	if since := c.downSince.Load(); since != nil {
		s.DownSince = *since
	}
	return s
}

// Settings returns the target and the default of keep-alive.
func (c *Client) Settings() []slog.Attr {
	return []slog.Attr{
		slog.String("kind", "grpc"), slog.String("target", c.target), slog.Duration("keep_alive_default", DefaultKeepAlive),
	}
}

// String returns the client's name, and how many calls are in flight.
func (c *Client) String() string {
	return fmt.Sprintf("grpcclient.Client{%q, in flight: %d}", c.state.Name(), c.gate.InFlight())
}

// Format prints String, whatever the verb.
func (c *Client) Format(f fmt.State, _ rune) { printing.Format(f, c) }

// LogValue is String, for slog.
func (c *Client) LogValue() slog.Value { return printing.LogValue(c) }
