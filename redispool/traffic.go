package redispool

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/histogram"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// traffic is what a node's score is made of. It grows only while replicas can be isolated.
type traffic struct {
	answer   histogram.Recorder // commands and pipelines that the node has answered
	failures atomic.Uint64      // those that failed by the node's fault, checks included
	poll     atomic.Int64       // the time that the last check took, until the next sample; 0: there was none

	before *poolkeeper.Stats // of the last sample; nil: there is none. The isolator's mutex guards it.
}

// graded returns next with its commands counted for the node's score. It changes the answer to
// CLUSTER SLOTS where go-redis asks.
func (n *node) graded(next redis.ProcessHook) redis.ProcessHook {
	if n.traffic == nil {
		return next
	}
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !n.pool.isolator.on.Load() {
			return next(ctx, cmd)
		}
		began := monotime.Now()
		err := next(ctx, cmd)
		n.traffic.grade(began, err, cmd)
		if slots, ok := loadsTopology(ctx, cmd); ok && err == nil {
			slots.SetVal(n.pool.isolator.route(slots.Val(), n.addr()))
		}
		return err
	}
}

// gradedPipeline returns next with each pipeline counted as one command.
func (n *node) gradedPipeline(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	if n.traffic == nil {
		return next
	}
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !n.pool.isolator.on.Load() {
			return next(ctx, cmds)
		}
		began := monotime.Now()
		err := next(ctx, cmds)
		n.traffic.grade(began, err, cmds...)
		return err
	}
}

// grade counts a command or a pipeline that ended with err. The end of a wait for a connection is
// counted elsewhere.
func (t *traffic) grade(began monotime.Time, err error, cmds ...redis.Cmder) {
	switch {
	case isStale(err):
	case err != nil && (isConnFailure(err) || isNodeFault(err)):
		t.failures.Add(1)
	case err != nil && !isAnswer(err):
	default:
		for _, cmd := range cmds {
			if mayBlock(cmd.Name()) {
				return // it takes as long as it has to wait for data
			}
		}
		t.answer.Record(monotime.Since(began))
	}
}

// isNodeFault reports whether an answer says that the node cannot serve now, whatever the command.
func isNodeFault(err error) bool {
	if err == redis.Nil { //nolint:errorlint // see isAnswer
		return false
	}
	switch Classify(err).Kind { //nolint:exhaustive // the rest concerns the command or the caller
	case health.KindStarting, health.KindClusterDown, health.KindHung, health.KindResources, health.KindTooManyConnections:
		return true
	default:
		return false
	}
}

// mayBlock reports whether a command may wait on the server.
func mayBlock(name string) bool {
	switch strings.ToLower(name) {
	case "blpop", "brpop", "brpoplpush", "blmove", "blmpop", "bzpopmin", "bzpopmax", "bzmpop", "xread", "xreadgroup", "wait", "waitaof":
		return true
	default:
		return false
	}
}

// polled notes the answer to a check, which began then.
func (n *node) polled(began monotime.Time, err error) {
	switch t := n.traffic; {
	case t == nil || !n.pool.isolator.on.Load():
	case err == nil || isAnswer(err):
		t.poll.Store(int64(max(monotime.Since(began), 1)))
	case isConnFailure(err):
		t.failures.Add(1)
	}
}

// sample calls observe with what has happened since the last call. The caller holds the isolator's
// mutex.
func (t *traffic) sample(n *node, observe func(isolation.Sample)) {
	native := n.nativeStats()
	seen := poolkeeper.Stats{
		Use: t.answer.Snapshot(), DialErrors: t.failures.Load(), AcquireTimeouts: n.met.counts[acquireTimeouts].Load(),
		InUse: native.InUse, Waiting: native.Waiting, Max: native.Max,
	}
	if t.before != nil {
		s := isolation.Between(*t.before, seen)
		if took := t.poll.Swap(0); took > 0 {
			s.Poll = time.Duration(took)
			s.Requests++
		}
		observe(s)
	}
	t.before = &seen
}
