package redispool

import (
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// forgetAfter is longer than go-redis pauses between two attempts.
const forgetAfter = 10 * time.Second

// attempts knows how long a Cluster's commands have waited, between one attempt and the next.
// go-redis sends a command that is redirected or tried again through the hooks of another node. The
// command is the same object there, so its attempts share one AcquireTimeout. An attempt takes the
// entry of its commands, and notes a new one when it has failed; the door takes what is left when
// the command ends. Commands on a node's own client (ForEachMaster) have no door. Their entries are
// dropped after forgetAfter.
type attempts struct {
	known atomic.Int64 // len(byCmd): while it is 0, a command does not lock

	mu    sync.Mutex // guards the following
	byCmd map[redis.Cmder]attempt
	swept monotime.Time // when old entries were dropped last
}

// attempt is an entry of attempts.
type attempt struct {
	waited time.Duration // on all attempts until then
	ended  monotime.Time
}

// take removes the entries of cmds. It returns the longest wait among them, pauses since then
// included.
func (a *attempts) take(cmds ...redis.Cmder) time.Duration {
	if a.known.Load() == 0 {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var longest time.Duration
	now := monotime.Now()
	for _, cmd := range cmds {
		if !isKey(cmd) {
			continue
		}
		if t, ok := a.byCmd[cmd]; ok {
			longest = max(longest, t.waited+now.Sub(t.ended))
			delete(a.byCmd, cmd)
		}
	}
	a.tidyLocked(now)
	return longest
}

// note says that an attempt at cmds has ended, and how long they have waited so far.
func (a *attempts) note(waited time.Duration, cmds ...redis.Cmder) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := monotime.Now()
	for _, cmd := range cmds {
		if !isKey(cmd) {
			continue
		}
		if a.byCmd == nil {
			a.byCmd = map[redis.Cmder]attempt{}
		}
		a.byCmd[cmd] = attempt{waited: waited, ended: now}
	}
	a.tidyLocked(now)
}

// tidyLocked drops old entries from time to time, and the map with the last one.
func (a *attempts) tidyLocked(now monotime.Time) {
	if now.Sub(a.swept) >= forgetAfter {
		a.swept = now
		for cmd, t := range a.byCmd {
			if now.Sub(t.ended) >= forgetAfter {
				delete(a.byCmd, cmd)
			}
		}
	}
	if len(a.byCmd) == 0 {
		a.byCmd = nil
	}
	a.known.Store(int64(len(a.byCmd)))
}

// isKey reports whether cmd can be the key of a map: a user's own type need not be a pointer.
func isKey(cmd redis.Cmder) bool { return reflect.ValueOf(cmd).Comparable() }

// tried notes how long a command has waited whose attempt ended with err: go-redis may try another
// node.
func (n *node) tried(cmd redis.Cmder, waited time.Duration, err error) {
	if err == nil || err == redis.Nil || !n.sharesTimeout() { //nolint:errorlint // see isAnswer
		return
	}
	if waited > 0 || isConnFailure(err) {
		n.pool.attempts.note(waited, cmd)
	}
}

// triedAll does the same for the commands of a pipeline, some of which may have succeeded.
func (n *node) triedAll(cmds []redis.Cmder, waited time.Duration, err error) {
	if !n.sharesTimeout() || waited == 0 && (err == nil || !isConnFailure(err)) {
		return
	}
	failed := make([]redis.Cmder, 0, len(cmds))
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && err != redis.Nil { //nolint:errorlint // see isAnswer
			failed = append(failed, cmd)
		}
	}
	if len(failed) > 0 {
		n.pool.attempts.note(waited, failed...)
	}
}

// gaveUpBefore returns the error of a pipeline whose last attempt has waited for all of
// AcquireTimeout, or nil. go-redis tries a pipeline again whatever the reason why it got no
// connection.
func gaveUpBefore(cmds []redis.Cmder, before time.Duration) error {
	if before == 0 {
		return nil
	}
	for _, cmd := range cmds {
		if e, ok := errors.AsType[*poolkeeper.AcquireError](cmd.Err()); ok && errors.Is(e, poolkeeper.ErrAcquireTimeout) {
			return e
		}
	}
	return nil
}

// sharesTimeout reports whether the attempts of a command may go to several nodes, within one
// AcquireTimeout.
func (n *node) sharesTimeout() bool { return !n.isDoor && n.pool.cfg.AcquireTimeout > 0 }
