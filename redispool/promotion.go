package redispool

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// sendSeeker looks for the promoted server while writes are refused: a name may move seconds after the
// demotion. A seeker opens a connection of its own and asks for the role of the server there. If that
// is a primary, every connection is condemned at once, and not only when the next generation may be.
//
//	READONLY ──▶ flushAfter ──▶ READONLY again ──▶ seeker, 10/s at first ──▶ a primary: condemn all
//	                                                                    └▶ a replica: the next READONLY
//	                                                                       sends another
//
// Refusals alone send seekers, so that a pool that writes nothing opens no connections. The nodes of a
// Cluster say themselves which of them serves a slot.
func (n *node) sendSeeker() {
	if !n.ownsGate || !n.seekers.Begin() {
		return
	}
	if !n.pool.dialing.Enter() {
		n.seekers.Cancel()
		return
	}
	// Owner: the pool. It ends with DialTimeout, or with the pool's life; Stop waits for it as for a
	// dial.
	go func() {
		defer n.pool.dialing.Leave()
		n.seek(n.pool.life)
	}()
}

// seek asks a new connection for the role of its server.
func (n *node) seek(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.pool.cfg.DialTimeout)
	defer cancel()
	began := monotime.Now()
	var role string
	err := n.pool.events.Guarded(ownUse, func() (err error) {
		role, err = n.roleAnew(ctx)
		return err
	})
	n.mu.Lock()
	pause := n.disowned.pause
	n.mu.Unlock()
	n.seekers.End(began, pause, n.spread())
	if err == nil && role == "master" {
		n.flushForPrimary(began)
	}
}

// roleAnew asks a new connection for the role of the server that it leads to.
func (n *node) roleAnew(ctx context.Context) (role string, err error) {
	c := redis.NewClient(n.ownOptions())
	h := &trialHook{node: n}
	c.AddHook(h)
	defer context.AfterFunc(ctx, h.cut)()
	answer, err := c.Do(ctx, "role").Slice()
	if err == nil && len(answer) > 0 {
		role, _ = answer[0].(string)
	}
	return role, errors.Join(err, c.Close())
}

// flushForPrimary condemns what was dialled before began, because a seeker has found a primary then.
// Where the name leads to several servers the seeker may be the only one that gets there, so that
// this happens once between two generations that flushAfter condemns.
func (n *node) flushForPrimary(began monotime.Time) {
	n.mu.Lock()
	if n.disowned.found || n.disowned.flushed >= began {
		n.mu.Unlock()
		return
	}
	n.disowned.found = true
	n.mu.Unlock()
	condemned := 0
	for _, c := range n.list() {
		if c.born < began && c.condemn(failover) {
			condemned++
		}
	}
	n.reset(event.Demoted, condemned, 0)
}
