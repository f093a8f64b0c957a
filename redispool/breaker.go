package redispool

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/breaker"
	"github.com/poolkeeper/poolkeeper/internal/dialpace"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// slowDial is how long a new connection may be without an answer before it says something about the
// server.
const slowDial = time.Second

// newBreaker returns the circuit breaker of a node, as FailFastAfter says.
func (n *node) newBreaker() *breaker.Breaker {
	p := n.pool
	return breaker.New(breaker.Config{
		Life:  n.pool.life,
		After: func() time.Duration { return p.config().FailFastAfter },
		Trial: func(ctx context.Context) error {
			return p.events.Guarded(ownUse, func() error { return n.trial(ctx) })
		},
		Spread:       n.spread,
		TrialTimeout: func() time.Duration { return p.cfg.DialTimeout },
		Judge:        judge,
		Alive:        n.answeredSince,
		Suspended:    n.isPaused,
		Error: func(since time.Time, err error) *poolkeeper.DownError {
			return &poolkeeper.DownError{Pool: n.name(), Since: since, Advice: Classify(err).Advice, Err: asFault(err)}
		},
		WentDown: func(down *poolkeeper.DownError) {
			n.permits.fail(down)
			p.events.Emit(n.member(event.OfDown(down.Since, down.Err, slog.String("node", n.addr()))))
		},
		CameUp: func(down time.Duration) {
			n.evictor.Wake() // it may have to fill up
			p.events.Emit(n.member(event.OfUp(down, slog.String("node", n.addr()))))
		},
	})
}

// spread returns the mean time between two trials. It keeps all instances together within the rate of
// logins of package dialpace.
func (n *node) spread() time.Duration {
	cfg := n.pool.config()
	return dialpace.Limits{MaxDials: 1, MaxOpen: cfg.MaxOpen, Instances: cfg.Instances}.Interval()
}

// member returns e, which says that the node is down or back, as it is to be told: of a Cluster one
// node is not the pool.
func (n *node) member(e event.Event) event.Event {
	switch {
	case n.ownsGate:
	case e.Kind == event.Down:
		e.Kind, e.Text = event.MemberLost, "this node is down; its callers fail at once until it is back"
	default:
		e.Kind, e.Text = event.MemberBack, "this node is back"
	}
	return e
}

// name is the pool's, and the node's on a Cluster.
func (n *node) name() string {
	if n.ownsGate {
		return n.pool.poolName()
	}
	return n.pool.poolName() + "/" + n.addr()
}

// isPaused reports whether callers are held up by a pause.
func (n *node) isPaused() bool { return n.pool.permits.isPaused() || n.permits.isPaused() }

// down returns what callers get at once while the server is known to be down, or nil. A paused pool
// holds them up.
func (n *node) down() *poolkeeper.DownError {
	if d := n.breaker.Down(); d != nil && !n.isPaused() {
		return d
	}
	return nil
}

// refused returns what a caller that wants a new connection gets while the server is known to be
// down, or nil. On a Cluster whose reads may go to several nodes it goes on: its dial fails at
// once, and go-redis tries another node.
func (n *node) refused() error {
	if n.breaker.Down() == nil || n.readsElsewhere() {
		return nil
	}
	if d := n.down(); d != nil {
		n.pool.rereadCluster(n.pool.life) // another node may serve its slots by now
		return n.delivered(d)
	}
	return nil
}

// delivered is d as the callers of a node get it.
func (n *node) delivered(d *poolkeeper.DownError) error {
	if n.ownsGate {
		return d
	}
	return &veiled{err: d, elsewhere: n.readsElsewhere()}
}

// readsElsewhere reports whether go-redis may send a read to another node of a Cluster.
func (n *node) readsElsewhere() bool { return n.pool.target.readsReplicas() }

// readsReplicas reports whether go-redis reads from replicas of a Cluster.
func (t target) readsReplicas() bool {
	return t.kind == kindCluster && (t.opts.ReadOnly || t.readsPrimaries())
}

// readsPrimaries reports whether go-redis chooses among replicas and primary for each read.
func (t target) readsPrimaries() bool { return t.opts.RouteByLatency || t.opts.RouteRandomly }

// answeredSince reports whether a connection that is open already was answered since then.
func (n *node) answeredSince(t monotime.Time) bool {
	return slices.ContainsFunc(n.list(), func(c *conn) bool { return c.heard.Load() >= int64(t) })
}

// dialFailed tells the breaker of an attempt to open a connection for p, which began then. Attempts
// before the pool runs are Start's affair: if that fails it leaves nothing at work.
func (n *node) dialFailed(p purpose, began monotime.Time, err error) {
	if p == forTrial || p == forCheck && n.pool.state.At() < life.Running {
		return
	}
	n.breaker.Failed(began, err)
}

// heardFirst notes the first answer on a new connection. One of a server that is not ready is none.
func (n *node) heardFirst(answer []byte) {
	if !bytes.HasPrefix(answer, []byte("-LOADING ")) && !bytes.HasPrefix(answer, []byte("-MASTERDOWN ")) {
		n.breaker.Answer()
	}
	if why := refusalIn(answer); why != "" {
		n.met.failed(serverError(why))
	}
}

// refusalIn returns why a first answer refuses a new connection, or "" if it does not. To HELLO an
// old server answers with other errors, after which go-redis goes on.
func refusalIn(answer []byte) string {
	if len(answer) == 0 || answer[0] != '-' {
		return ""
	}
	text, _, _ := strings.Cut(string(answer), "\r\n")
	for _, prefix := range []string{
		"-WRONGPASS ", "-NOAUTH ", "-LOADING ", "-MASTERDOWN ", "-ERR max number of clients", "-ERR invalid password", "-ERR AUTH",
	} {
		if strings.HasPrefix(text, prefix) {
			return text[1:]
		}
	}
	return ""
}

// noAnswerError is why there is no new connection while the server is silent.
type noAnswerError struct{}

func (noAnswerError) Error() string { return "no answer yet" }

// HealthFault makes health.Classify know it.
func (noAnswerError) HealthFault() health.Fault { return health.FaultOf(health.KindTimeout) }

// noAnswer notes that a new connection has had no answer for too long.
func (n *node) noAnswer() {
	var err error = noAnswerError{}
	n.lastDial.CompareAndSwap(nil, &err)
}

// judge says what the error of a dial, a login or a trial means for the breaker. A server that runs
// has answered, whatever it said; one that loads its data, or has lost its primary, is as good as
// gone.
func judge(err error) breaker.Verdict {
	if errors.Is(err, poolkeeper.ErrDown) {
		return breaker.Unknown // nothing was tried
	}
	err = unveiled(err)
	if e, ok := errors.AsType[redis.Error](err); ok && strings.HasPrefix(e.Error(), "MASTERDOWN ") {
		return breaker.Refused
	}
	kind := Classify(err).Kind
	switch kind { //nolint:exhaustive // the rest is an answer, or the caller's
	case health.KindRefused, health.KindStarting, health.KindShuttingDown, health.KindReset:
		return breaker.Refused
	case health.KindTimeout, health.KindUnreachable, health.KindDNS:
		return breaker.Silent
	case health.KindCanceled, health.KindDraining, health.KindPoolExhausted:
		return breaker.Unknown
	case health.KindUnknown:
		if !isAnswer(err) {
			return breaker.Unknown // a hook of the user's, or a dialer's own error
		}
	}
	return breaker.Answered
}

// trial opens a connection of its own, logs in, asks for a sign of life and hangs up.
func (n *node) trial(ctx context.Context) error {
	c := redis.NewClient(n.ownOptions())
	h := &trialHook{node: n}
	c.AddHook(h)
	defer context.AfterFunc(ctx, h.cut)()
	err := c.Ping(ctx).Err()
	return errors.Join(err, c.Close())
}

// trialHook keeps the books of a trial's connection. cut closes it: go-redis does not stop reading
// when a context is canceled, and the breaker begins a new trial only when an old one has ended.
type trialHook struct {
	node *node

	mu   sync.Mutex // guards the following
	conn net.Conn   // nil before it is dialled
	over bool       // cut was called
}

func (h *trialHook) cut() {
	h.mu.Lock()
	c := h.conn
	h.over = true
	h.mu.Unlock()
	if c != nil {
		_ = c.Close()
	}
}

// dialled notes the trial's connection, and reports whether the trial is over.
func (h *trialHook) dialled(c net.Conn) (over bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn = c
	return h.over
}

// DialHook books a connection as one of a trial.
func (h *trialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := h.node.dial(ctx, forTrial, func(ctx context.Context) (net.Conn, error) { return next(ctx, network, addr) })
		if err == nil && h.dialled(c) {
			_ = c.Close()
			return nil, context.Canceled
		}
		return c, err
	}
}

// ProcessHook does nothing.
func (*trialHook) ProcessHook(redis.ProcessHook) redis.ProcessHook { return nil }

// ProcessPipelineHook does nothing.
func (*trialHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return nil
}
