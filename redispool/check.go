package redispool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/ctxmutex"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// Check asks the server for a sign of life, on a connection of its own outside the pool: a pool
// whose callers hold every connection is busy, not broken. It dials that connection at the first
// call and keeps it. On a Cluster it asks every node known, all at once, at first the addresses
// configured; if some of them answer and say that all slots are served, what others lack is a
// reservation (health.Degraded). A server that refuses the login because it is full (maxclients) is
// asked over an idle connection of the pool; if there is none, that is a reservation too. A user
// that may not PING passes: the server has answered. It blocks on the network, bounded by ctx and
// by DialTimeout and ReadTimeout. It may be called at any time; after Stop it returns
// poolkeeper.ErrClosed.
func (p *Pool) Check(ctx context.Context) error {
	ctx, cancel := p.whileAlive(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, p.patience())
	defer cancel()
	reservation, err := p.checker.check(ctx)
	p.warnOfExpiries()
	if err == nil {
		err = health.Degraded(reservation)
	}
	if err != nil {
		return fmt.Errorf("redispool: check %q: %w", p.poolName(), asFault(err))
	}
	return nil
}

// checkPoolSize lets this many dials of checks fail before go-redis begins to answer from memory.
const checkPoolSize = 16

// checkBuffer is enough for what checks ask and are told; longer answers take more reads. By
// default go-redis keeps 64 KiB per connection, more than all the rest of an idle pool.
const checkBuffer = 1 << 10

// checker has the connections that only checks use, one per node.
type checker struct {
	pool     *Pool
	checking ctxmutex.Mutex // to check; guards the following
	own      map[string]*redis.Client
	done     bool
}

func newChecker(p *Pool) *checker {
	return &checker{pool: p, checking: ctxmutex.New(), own: map[string]*redis.Client{}}
}

// begin locks the checker. The caller owes an end.
func (k *checker) begin(ctx context.Context) error {
	if err := k.checking.Lock(ctx); err != nil {
		return fmt.Errorf("another check is still under way: %w", err)
	}
	if k.done {
		k.end()
		return poolkeeper.ErrClosed
	}
	return nil
}

func (k *checker) end() { k.checking.Unlock() }

// use lends the check's own client for a node, until done is called.
func (k *checker) use(ctx context.Context, n *node) (own *redis.Client, done func(), err error) {
	if err := k.begin(ctx); err != nil {
		return nil, nil, err
	}
	return k.client(n), k.end, nil
}

// check returns why the server does not work, or else what is to be said against it.
func (k *checker) check(ctx context.Context) (reservation, err error) {
	if err = k.begin(ctx); err != nil {
		return nil, err
	}
	defer k.end()
	if k.pool.target.kind == kindCluster {
		return k.checkCluster(ctx)
	}
	n := k.pool.allNodes()[0]
	err = k.pool.events.Guarded(ownUse, func() error { return n.ask(ctx, k.client(n)) })
	if err == nil {
		n.breaker.Answer()
	}
	return n.verdict(ctx, err)
}

// client returns the check's own client for a node. It reaches the node as the pool does, and so
// asks the same sentinels, but has none of the user's hooks and no retries: the first failure is
// what a check is for.
func (k *checker) client(n *node) *redis.Client {
	if c := k.own[n.addr()]; c != nil {
		return c
	}
	c := redis.NewClient(n.ownOptions())
	c.AddHook(newCheckHook(n))
	k.own[n.addr()] = c
	return c
}

// checkCluster asks all nodes for the state of the Cluster. Those that serve it outvote those that
// do not.
func (k *checker) checkCluster(ctx context.Context) (reservation, err error) {
	nodes := k.pool.liveNodes(ctx)
	if len(nodes) == 0 { // nothing has been used yet: go-redis makes a node of each address it is to ask
		cluster, ok := k.pool.client.(*redis.ClusterClient)
		if !ok {
			return nil, errors.New("redispool: not a Cluster")
		}
		err := cluster.ForEachShard(ctx, func(context.Context, *redis.Client) error { return nil })
		if nodes = k.pool.liveNodes(ctx); len(nodes) == 0 {
			return nil, err
		}
	}
	k.forgetGone(nodes)
	slices.SortFunc(nodes, func(a, b *node) int { return strings.Compare(a.addr(), b.addr()) })
	answers := k.each(ctx, nodes, func(ctx context.Context, i int, own *redis.Client) error { return nodes[i].askState(ctx, own) })
	var doubts []error
	served := 0
	for i, err := range answers {
		if err != nil {
			doubts = append(doubts, fmt.Errorf("node %s: %w", nodes[i].addr(), err))
		} else {
			served++
		}
	}
	if served == 0 {
		return nil, errors.Join(doubts...)
	}
	return errors.Join(doubts...), nil
}

// each runs ask for all nodes at once, with the check's own client of each. Each has three quarters
// of the time that is left, so that those that answer are not held responsible for one that is
// silent. The caller holds checking.
func (k *checker) each(ctx context.Context, nodes []*node, ask func(ctx context.Context, i int, own *redis.Client) error) []error {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)*3/4)
		defer cancel()
	}
	answers := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes { // they end with their answer or with ctx, and are waited for below
		own := k.client(n)
		wg.Go(func() { answers[i] = k.pool.events.Guarded(ownUse, func() error { return ask(ctx, i, own) }) })
	}
	wg.Wait()
	return answers
}

// hangUp closes the connections, so that the next check dials by what is new.
func (k *checker) hangUp(ctx context.Context) {
	if k.begin(ctx) != nil {
		return
	}
	defer k.end()
	for addr, c := range k.own {
		_ = c.Close()
		delete(k.own, addr)
	}
}

// forgetGone closes the connections to nodes that the Cluster no longer has.
func (k *checker) forgetGone(nodes []*node) {
	for addr, c := range k.own {
		if !slices.ContainsFunc(nodes, func(n *node) bool { return n.addr() == addr }) {
			_ = c.Close()
			delete(k.own, addr)
		}
	}
}

// addr is where the node's connections lead. The client's options show what New was given, also
// after a Reload.
func (n *node) addr() string {
	if a := n.pool.endpoint.Load(); a != nil && a.addr != "" {
		return a.addr
	}
	return n.client.Options().Addr
}

// close waits for a check under way and hangs up, for good.
func (k *checker) close(ctx context.Context) error {
	if err := k.checking.Lock(ctx); err != nil {
		return fmt.Errorf("a check is still under way: %w", err)
	}
	defer k.checking.Unlock()
	k.done = true
	var errs []error
	for addr, c := range k.own {
		errs = append(errs, c.Close())
		delete(k.own, addr)
	}
	return errors.Join(errs...)
}

// checkHook keeps the books of a check's connections.
type checkHook struct {
	node *node
	errs *dialErrors
}

// newCheckHook returns the hook of one client of the pool's own.
func newCheckHook(n *node) checkHook { return checkHook{n, &dialErrors{most: checkPoolSize}} }

// DialHook books a connection as one for checks.
func (h checkHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		p := h.node.pool
		return h.errs.dial(ctx, p.life, p.cfg.DialTimeout, func(ctx context.Context) (net.Conn, error) {
			return h.node.dial(ctx, forCheck, func(ctx context.Context) (net.Conn, error) { return next(ctx, network, addr) })
		})
	}
}

// ProcessHook does nothing.
func (checkHook) ProcessHook(redis.ProcessHook) redis.ProcessHook { return nil }

// ProcessPipelineHook does nothing.
func (checkHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return nil }

// greetingLimit bounds the wait for the refusal of a full server, which comes before any question.
const greetingLimit = 250 * time.Millisecond

// errFull is what a server that has no place for the check's connection is reported with.
var errFull = errors.New("the server is full (max number of clients reached): a new connection is refused")

// ask asks a node by CheckCommand, or by PING, on the check's own client.
func (n *node) ask(ctx context.Context, own *redis.Client) error {
	if command := n.pool.config().checkCommand(); command != nil {
		err := own.Do(ctx, command...).Err()
		if errors.Is(err, redis.Nil) || !n.ownsGate && isRedirect(err) {
			return nil // an answer
		}
		return err
	}
	return allowed(ctx, own, own.Ping(ctx).Err())
}

// askState asks a node of a Cluster whether all slots are served, and CheckCommand if there is one.
func (n *node) askState(ctx context.Context, own *redis.Client) error {
	began := monotime.Now()
	info, err := own.ClusterInfo(ctx).Result()
	n.polled(began, err)
	err = allowed(ctx, own, err)
	switch {
	case err != nil:
	case info != "" && !strings.Contains(info, "cluster_state:ok"):
		err = errClusterState
	case n.pool.config().checkCommand() != nil:
		err = n.ask(ctx, own)
	}
	if n.isFull(ctx, err) {
		return n.askPooled(ctx)
	}
	if err == nil || errors.Is(err, errClusterState) {
		n.askRole(ctx, own)
	}
	return err
}

// allowed returns nil instead of the refusal of a command that the user may not run, or that the
// server does not know: it lives, and has accepted the login. The login is tried once more, because
// go-redis returns its refusal in the same way.
func allowed(ctx context.Context, own *redis.Client, err error) error {
	if !isForbidden(err) {
		return err
	}
	if own.Process(ctx, onceOnly{redis.NewStatusCmd(ctx, pingWords...)}) == nil {
		return nil
	}
	return err
}

// isForbidden reports whether an answer says that the user may not run the command, or that there
// is none of that name.
func isForbidden(err error) bool {
	e, ok := errors.AsType[redis.Error](err)
	return ok && (strings.HasPrefix(e.Error(), "NOPERM") || strings.HasPrefix(e.Error(), "ERR unknown command"))
}

// isRedirect reports whether a node of a Cluster says that another one has the key.
func isRedirect(err error) bool {
	e, ok := errors.AsType[redis.Error](err)
	return ok && (strings.HasPrefix(e.Error(), "MOVED ") || strings.HasPrefix(e.Error(), "ASK "))
}

// verdict returns why the server does not work, or what is to be said against it, when the check's
// own connection ended with err. A full server is asked on a connection that is open already.
func (n *node) verdict(ctx context.Context, err error) (reservation, failure error) {
	if !n.isFull(ctx, err) {
		return nil, err
	}
	if err = n.askPooled(ctx); err == nil || errors.Is(err, errFull) {
		return err, nil
	}
	return nil, err
}

// isFull reports whether err comes of a server that has no place for another connection. It refuses
// one before it is asked, and hangs up: go-redis takes the refusal for the answer to HELLO of an
// old server, goes on, and finds the connection closed. So a connection that is closed at once is
// opened again, to be read only.
func (n *node) isFull(ctx context.Context, err error) bool {
	switch Classify(err).Kind { //nolint:exhaustive // the two that it may look like
	case health.KindTooManyConnections:
		return true
	case health.KindReset:
	default:
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, greetingLimit)
	defer cancel()
	c, err := n.dial(ctx, forCheck, n.dialNative)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	if c.SetReadDeadline(deadline) != nil {
		return false
	}
	b := make([]byte, 64)
	got, _ := c.Read(b)
	return strings.HasPrefix(string(b[:got]), "-ERR max number of clients")
}

// askPooled pings the server on an idle connection of the pool. It returns errFull if there is
// none.
func (n *node) askPooled(ctx context.Context) error {
	if n.upkeep.Lock(ctx) != nil {
		return errFull
	}
	defer n.upkeep.Unlock()
	if n.spare(0) <= 0 {
		return errFull
	}
	l := n.newIdleConn()
	if n.acquireIdle(ctx, l) != nil { // callers were quicker: the pool is in use
		return errFull
	}
	defer l.release()
	return l.ping(ctx)
}

// checkCommand returns the words of CheckCommand, or nil if it is not set.
func (c Config) checkCommand() []any {
	var words []any
	for w := range strings.FieldsSeq(c.CheckCommand) {
		words = append(words, w)
	}
	return words
}
