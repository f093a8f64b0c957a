package redispool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/health"
)

// greetingLimit bounds the wait for the refusal of a full server, which comes before any question.
const greetingLimit = 250 * time.Millisecond

// errFull is what a server that has no place for the check's connection is reported with.
var errFull = errors.New("the server is full (max number of clients reached): a new connection is refused")

// ask asks a node by CheckCommand, or by PING, on the check's own client.
func (n *node) ask(ctx context.Context, own *redis.Client) error {
	if command := n.pool.config().checkCommand(); command != nil {
		err := own.Do(ctx, command...).Err()
		if errors.Is(err, redis.Nil) || !n.isDoor && isRedirect(err) {
			return nil // an answer
		}
		return err
	}
	return allowed(ctx, own, own.Ping(ctx).Err())
}

// askState asks a node of a Cluster whether all slots are served, and CheckCommand if there is one.
func (n *node) askState(ctx context.Context, own *redis.Client) error {
	info, err := own.ClusterInfo(ctx).Result()
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
	if n.upkeep.Take(ctx) != nil {
		return errFull
	}
	defer n.upkeep.End()
	if n.spare(0) <= 0 {
		return errFull
	}
	l := n.borrow()
	if n.takeIdle(ctx, l) != nil { // callers were quicker: the pool is in use
		return errFull
	}
	defer l.giveBack()
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

// checkFaults are those of CheckCommand.
func (c Config) checkFaults() error {
	words := c.checkCommand()
	if len(words) == 0 {
		if c.CheckCommand != "" {
			return errors.New("redispool: CheckCommand is blank; it must be a command, or empty for PING")
		}
		return nil
	}
	switch first := strings.ToLower(words[0].(string)); first { //nolint:errcheck,forcetypeassert // all of them are
	case "auth", "hello", "select", "reset", "quit", "multi", "exec", "discard", "watch", "monitor", "subscribe", "psubscribe",
		"ssubscribe", "sync", "psync", "shutdown", "client":
		return fmt.Errorf("redispool: CheckCommand is %q; it must leave the connection as it is, as GET does", first)
	}
	return nil
}
