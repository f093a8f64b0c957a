package redispool

import (
	"context"
	"net"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/goroutines"
)

// opener opens a client's connections in place of the client's own dialer, which is the user's. It
// is a hook: a hook belongs to one client, while a dialer is part of the options, from which users
// make other clients.
//
// It ignores what comes after it in the chain, so it has to be the last hook. A hook that the user
// adds later comes after it: then the next dial adds another opener, and goes through the user's
// hook to that one.
type opener struct {
	node    *node
	open    redis.DialHook
	through redis.DialHook

	native uintptr       // the code of the client's own dial; 0 until the first call of DialHook
	adder  atomic.Uint64 // the goroutine that adds the opener that follows; 0: none

	adding  sync.Mutex     // guards the following
	further redis.DialHook // the chain after this opener, which ends in the next one; set by adder
}

// addOpener makes a new opener the client's last hook.
func (n *node) addOpener() {
	o := &opener{node: n, open: n.pool.open}
	o.through = o.dialThrough
	n.client.AddHook(o)
}

// DialHook opens connections if no hook that dials comes after it. go-redis calls it first in
// AddHook, with the client's own dial, and then for each chain that it builds. Only chains that
// AddHook builds are used for dials.
func (o *opener) DialHook(next redis.DialHook) redis.DialHook {
	code := reflect.ValueOf(next).Pointer()
	if o.native == 0 {
		o.native = code
		o.node.opener.Store(o) // under go-redis' lock: every chain that AddHook builds from now on has it
	}
	if code == o.native {
		return o.open
	}
	if by := o.adder.Load(); by != 0 && by == goroutines.ID() {
		o.further = next
	}
	if o.node.opener.Load() != o {
		return nil // a later one opens
	}
	return o.through
}

// ProcessHook does nothing.
func (*opener) ProcessHook(redis.ProcessHook) redis.ProcessHook { return nil }

// ProcessPipelineHook does nothing.
func (*opener) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return nil }

// dialThrough dials through the hooks that were added after the opener.
func (o *opener) dialThrough(ctx context.Context, network, addr string) (net.Conn, error) {
	return o.rest()(ctx, network, addr)
}

// rest returns the chain after the opener, with an opener at its end.
func (o *opener) rest() redis.DialHook {
	o.adding.Lock()
	defer o.adding.Unlock()
	if o.further == nil {
		o.adder.Store(goroutines.ID())
		o.node.addOpener() // go-redis builds the chain anew, and calls DialHook
		o.adder.Store(0)
	}
	return o.further
}

// open opens a connection as the configuration in effect says.
func (p *Pool) open(ctx context.Context, network, addr string) (net.Conn, error) {
	return p.connect(ctx, p.aim.Load(), network, addr)
}
