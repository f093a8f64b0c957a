package redispool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/plural"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

const (
	// cutGrace is how long after its deadline a Stop waits for what it has cut off to notice.
	cutGrace = 100 * time.Millisecond
	// pollInterval is how often a drain looks whether Conns were closed: go-redis does not say.
	pollInterval = 10 * time.Millisecond
)

// Drain refuses new work with poolkeeper.ErrDraining and waits for the work in flight. It waits for
// commands, pipelines, and the commands inside every Watch and Conn begun before, until ctx ends.
// It ends commands that block on the server by CLIENT UNBLOCK, as if their timeout had come.
// Subscriptions go on until Stop; new ones are refused. The error says how much work is left, and
// Holders lists its holders. It may be called more than once.
func (p *Pool) Drain(ctx context.Context) error {
	p.closeGate(life.Draining)
	if err := p.settle(ctx); err != nil {
		held := p.holding()
		running, waiting := p.commands(held)
		queue := ""
		if waiting > 0 {
			queue = plural.Of(waiting, "caller") + " waiting for a connection, "
		}
		return fmt.Errorf("redispool: drain %q: %s in flight, %s%s still held: %w", p.poolName(),
			plural.Of(running, "command"), queue, plural.Of(held, "connection"), err)
	}
	return nil
}

// Stop drains the pool and then closes the client. It waits until no socket and no dial is left,
// and go-redis' own goroutines have nothing more to do. At the end of ctx it cuts off the work that
// is left and returns a *poolkeeper.HeldError that names it. Commands that were cut off return errors. The
// first call stops the pool, and others wait for it. All return the same error, or their own
// context's. It may be called without Start.
func (p *Pool) Stop(ctx context.Context) error { return p.state.Stop(ctx, p.shut) }

// Abort closes everything at once and waits for no caller. A Stop under way then ends too. It
// returns the *poolkeeper.HeldError of what was cut off, or nil. It may be called at any time, more than once,
// and without Start.
func (p *Pool) Abort() error { return p.state.Abort(p.shut) }

// closeGate refuses new work, if it was not refused before.
func (p *Pool) closeGate(at life.Phase) {
	p.state.Enter(at)
	p.setRefusal()
	p.gate.Close()
	p.resume(poolkeeper.ErrDraining)
}

// settle waits until nothing is under way. The gate is closed before, and with it the source of a
// Cluster's nodes' work, but for what callers do with a node's client directly.
func (p *Pool) settle(ctx context.Context) error {
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	var soon <-chan struct{} // says that nothing is left, without waiting for the ticker
	if p.target.kind != kindCluster {
		soon = p.gate.Empty()
	}
	if p.working(ctx) == 0 {
		return nil
	}
	asking, enough := context.WithCancel(ctx)
	asked := make(chan struct{})
	// Owner: this call, which ends it and waits for it.
	go func() {
		defer close(asked)
		_ = p.events.Guarded(ownUse, func() error { p.unblock(asking); return nil })
	}()
	defer func() {
		enough()
		<-asked
	}()
	for p.working(ctx) > 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-soon:
			soon = nil // callers in the queue may come into the gate yet
		case <-t.C:
		}
	}
	return nil
}

// working is how much is under way: commands, those in the queue included, and sessions that hold a
// connection.
func (p *Pool) working(ctx context.Context) int {
	nodes := p.allNodes()
	for _, n := range nodes {
		n.rotate(ctx)
	}
	queued := 0
	for _, n := range nodes {
		if !n.permits.isPaused() {
			queued += n.permits.waiting() // first: from the queue they go into the gate
		}
	}
	total := queued + p.gate.InFlight()
	for _, n := range nodes {
		if !n.ownsGate {
			total += n.gate.InFlight()
		}
	}
	return total
}

// inFlight describes what settle waits for.
func (p *Pool) inFlight() string {
	held := p.holding()
	running, waiting := p.commands(held)
	text := plural.Of(running, "command") + " in flight"
	if waiting > 0 {
		text += ", " + plural.Of(waiting, "caller") + " waiting for a connection"
	}
	if held > 0 {
		text += ", " + p.held.Describe(time.Now())
	}
	return text
}

// holding is how many connections are held, without those of subscriptions.
func (p *Pool) holding() (n int) {
	for _, h := range p.held.List() {
		if h.Kind != poolkeeper.KindPubSub {
			n++
		}
	}
	return n
}

// commands is how many commands of the client itself are under way, beside the sessions that hold a
// connection, and how many wait for a connection.
func (p *Pool) commands(held int) (running, waiting int) {
	total := p.gate.InFlight()
	for _, n := range p.allNodes() {
		queued := n.permits.waiting()
		waiting += queued
		if !n.ownsGate { // a Cluster's command is counted by the ClusterClient's hook, while it waits too; only its nodes' sessions are not
			total = max(total-queued, n.gate.InFlight())
		}
	}
	return max(total-held, 0), waiting
}

// shut ends the pool's own work, waits for callers, and closes the client. When ctx ends it cuts
// the sockets of callers that are still at work.
func (p *Pool) shut(ctx context.Context, started <-chan struct{}) error {
	p.closeGate(life.Draining)
	var errs []error
	if !life.Closed(ctx, started) {
		errs = append(errs, errors.New("a Start is still under way"))
	}
	p.watchFor(0)
	p.isolator.stop()
	p.watchFiles()
	hurried := p.stopEvictors(ctx)
	settled := p.settle(ctx)
	if hurried == nil && settled == nil {
		err := p.close(ctx)
		if err == nil {
			return p.stopFailed(errs...)
		}
		errs = append(errs, err)
	}
	return p.cutOff(ctx, settled, errs)
}

// close closes the client and waits until it has come to rest, or ctx ends.
func (p *Pool) close(ctx context.Context) error {
	p.closeGate(life.Stopping)
	p.dialing.Close()
	p.endLife()
	if !life.Closed(ctx, p.closeClient(ctx)) {
		return fmt.Errorf("closing the client: %w", context.Cause(ctx))
	}
	if p.closeErr != nil {
		return p.closeErr
	}
	if err := p.dialing.Wait(ctx); err != nil {
		return fmt.Errorf("dials: %w", err)
	}
	return p.awaitSockets(ctx)
}

// closeClient begins to close the clients, once, and returns a channel that is closed when they
// are. closeErr is set then.
func (p *Pool) closeClient(ctx context.Context) <-chan struct{} {
	p.closeOnce.Do(func() {
		p.clientClosed = make(chan struct{})
		// Owner: Stop. It ends when go-redis has closed its sockets. A TLS close-notify to a dead
		// peer can delay that until the sockets are cut. Stop waits for it, within its context.
		go func() {
			err := p.events.Guarded(ownUse, func() error {
				return errors.Join(p.checker.close(context.WithoutCancel(ctx)), p.client.Close())
			})
			// The connection may be closed already: by cutOff, by the server, or by go-redis for a
			// node that has left.
			if !errors.Is(err, net.ErrClosed) && !errors.Is(err, redis.ErrClosed) {
				p.closeErr = err
			}
			close(p.clientClosed)
		}()
	})
	return p.clientClosed
}

// awaitSockets waits until all connections are closed: go-redis closes one that was in use when it
// comes back.
func (p *Pool) awaitSockets(ctx context.Context) error {
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	for {
		left := 0
		for _, n := range p.allNodes() {
			left += n.connsOpen()
		}
		if left == 0 {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("%s open: %w", plural.Of(left, "connection"), context.Cause(ctx))
		}
	}
}

// cutOff closes all sockets, also those that commands are using.
func (p *Pool) cutOff(ctx context.Context, settled error, errs []error) error {
	for _, n := range p.allNodes() {
		n.rotate(ctx) // Conns that were closed are not held
	}
	e := &poolkeeper.HeldError{Pool: p.poolName(), Time: time.Now()}
	for _, h := range p.held.List() {
		if h.Kind != poolkeeper.KindPubSub {
			e.Holders = append(e.Holders, h)
		}
	}
	e.Cut = len(e.Holders)
	e.Commands, e.Waiting = p.commands(e.Cut)
	p.closeGate(life.Stopping)
	p.dialing.Close()
	p.endLife()
	for _, n := range p.allNodes() {
		n.cut()
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutGrace)
	defer cancel()
	err := errors.Join(p.stopEvictors(grace), p.close(grace))
	switch {
	case settled != nil:
		e.Err = errors.Join(append(errs, context.Cause(ctx))...)
		return e
	case err != nil:
		return p.stopFailed(err)
	default:
		return nil // closing took a cut, but no command or holder was cut off
	}
}

func (p *Pool) stopEvictors(ctx context.Context) error {
	var errs []error
	for _, n := range p.allNodes() {
		errs = append(errs, n.evictor.Stop(ctx), n.breaker.Stop(ctx))
	}
	return errors.Join(errs...)
}

func (p *Pool) stopFailed(errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("redispool: stop %q: %w", p.poolName(), err)
	}
	return nil
}

// A command that blocks on the server (BLPOP, XREAD BLOCK) would keep a drain waiting for as long
// as it likes, and cutting its connection can lose an item that the server has popped already.
// CLIENT UNBLOCK ends it as its own timeout would: the caller gets redis.Nil.

const (
	// unblockAfter is how long a drain waits before it asks the server to end blocking commands,
	// and before it asks again, for sessions may go on to further ones.
	unblockAfter = 50 * time.Millisecond
	// unblockLimit bounds one question.
	unblockLimit = time.Second
)

// idInHello finds the server's name for the connection in its answer to HELLO, by which go-redis
// begins. It returns 0 if there is none, which is so for servers before Redis 6.
func idInHello(reply []byte) int64 {
	_, rest, ok := bytes.Cut(reply, []byte("$2\r\nid\r\n:"))
	if !ok {
		return 0
	}
	digits, _, ok := bytes.Cut(rest, []byte("\r\n"))
	if !ok {
		return 0
	}
	id, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return id
}

// unblock has the servers end the pool's blocking commands, again and again until ctx ends.
func (p *Pool) unblock(ctx context.Context) {
	for retry.Sleep(ctx, unblockAfter) {
		for _, n := range p.allNodes() {
			if err := n.unblock(ctx); err != nil && ctx.Err() == nil {
				p.trouble("cannot end blocking commands; waiting for them", err, slog.String("node", n.addr()))
				return
			}
		}
	}
}

// unblock asks the server which of our connections are blocked, and to end what blocks them.
func (n *node) unblock(ctx context.Context) error {
	ours := map[int64]string{} // by id, the address by which the server should know it
	ask := []any{"client", "list", "id"}
	for _, c := range n.list() {
		if id := c.start.id.Load(); id != 0 {
			ours[id] = nameAtServer(c)
			ask = append(ask, id)
		}
	}
	if len(ours) == 0 || n.gate.InFlight() == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, unblockLimit)
	defer cancel()
	own, done, err := n.pool.checker.use(ctx, n)
	if err != nil {
		return err
	}
	defer done()
	list, err := own.Do(ctx, ask...).Text()
	if err != nil {
		return err
	}
	for line := range strings.Lines(list) {
		f := clientFields(line)
		id, err := strconv.ParseInt(f["id"], 10, 64)
		// Behind a proxy the id may be that of another client's connection: the address has to be
		// ours too.
		if err != nil || ours[id] == "" || filepath.Base(f["addr"]) != ours[id] || !strings.Contains(f["flags"], "b") {
			continue
		}
		if err := own.ClientUnblock(ctx, id).Err(); err != nil {
			return err
		}
	}
	return nil
}

// nameAtServer is how the server should name the connection: by our address, or on a local socket,
// where we have none, by the socket's, which it may know by another path.
func nameAtServer(c net.Conn) string {
	if at := c.RemoteAddr(); at.Network() == "unix" {
		return filepath.Base(at.String()) + ":0"
	}
	return c.LocalAddr().String()
}

// clientFields splits a line of CLIENT LIST.
func clientFields(line string) map[string]string {
	out := map[string]string{}
	for field := range strings.FieldsSeq(line) {
		if k, v, ok := strings.Cut(field, "="); ok {
			out[k] = v
		}
	}
	return out
}
