package redispool

import (
	"context"
	"errors"
	"log/slog"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// Start reaches the server as Config.Start says. It then starts eviction, the upkeep of MinIdle and
// the leak reports. It blocks until the server has answered once, the first attempt has failed
// (StartFailFast, StartDegraded), or ctx ends. If it fails it leaves only the native client running.
// Call Start again then, or Stop or Abort to close the client.
func (p *Pool) Start(ctx context.Context) error {
	if err := p.state.Start(ctx, p.awaitServer, p.startWatch); err != nil {
		return err
	}
	if p.reduced != nil {
		p.trouble("this version of go-redis is not known: a Conn or a Watch counts as in use only while a command runs, "+
			"and is not among the holders", p.reduced)
	}
	p.watchFiles()
	for _, n := range p.allNodes() {
		p.startNode(ctx, n)
	}
	return nil
}

// startNode sets the node's evictor going, once.
func (p *Pool) startNode(ctx context.Context, n *node) {
	n.startOnce.Do(func() {
		n.addHook()
		if err := n.evictor.Start(ctx); err != nil && !errors.Is(err, eviction.ErrStopped) {
			p.trouble("eviction does not start", err, slog.String("node", n.addr()))
		}
	})
}

// startWatch has leaks be reported and replicas judged.
func (p *Pool) startWatch() {
	p.isolator.start()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watch != nil {
		p.watch.Start()
	}
}

// awaitServer reaches the server as the policy says.
func (p *Pool) awaitServer(ctx context.Context) error {
	reached, err := p.state.Reach(ctx, p.cfg.Start, p.events, p.attempt)
	if reached {
		p.warnOfLimits(ctx)
	}
	return err
}

// attempt is one check (INV-10), and the search for why it failed. That a part of a Cluster is
// missing is no reason not to start.
func (p *Pool) attempt(start context.Context) error {
	ctx, cancel := context.WithTimeout(start, p.patience())
	defer cancel()
	began := monotime.Now()
	reservation, err := p.checker.check(ctx)
	if p.target.kind != kindCluster && errors.Is(reservation, errFull) {
		return asFault(reservation) // it has no place for the pool either
	}
	if err != nil && p.cfg.Start == poolkeeper.StartDegraded {
		for _, n := range p.allNodes() {
			n.breaker.Trip(began, err)
		}
	}
	if reservation != nil {
		p.events.Emit(event.Event{
			Kind: event.MemberLost, Level: slog.LevelWarn, Text: "starting with a part of the Cluster", Err: reservation,
		})
	}
	return asFault(p.explain(start, err))
}
