package redispool

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/retry"
)

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
