package redispooltest

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/poolkeeper/poolkeeper/redispool"
)

// stopLimit bounds the Stop at the end of a test.
const stopLimit = 2 * time.Second

// Redis is a pool on a server in memory. Its methods are safe for concurrent use, and fail
// the test that made it if they cannot do what they say.
type Redis struct {
	*redispool.Pool

	// Mini is the server: its data can be set and read, its clock moved.
	Mini *miniredis.Miniredis

	tb   testing.TB
	wire *wire
}

// Start returns a started pool. configure may change its configuration; the address is set already.
// When the test ends the pool is stopped, which fails the test if a Conn or a Watch is still held
// then, and the server with it.
//
// The pool has no log, and short times: 1 s to dial, to read and to wait for a connection.
func Start(tb testing.TB, configure ...func(*redispool.Config)) *Redis {
	tb.Helper()
	r := NewUnstarted(tb, configure...)
	if err := r.Start(tb.Context()); err != nil {
		tb.Fatalf("redispooltest: %v", err)
	}
	return r
}

// NewUnstarted is [Start] without the start: for a Registry, or for code under test that starts its
// pools itself. Redis is a component: a Registry takes it as it is.
func NewUnstarted(tb testing.TB, configure ...func(*redispool.Config)) *Redis {
	tb.Helper()
	m := miniredis.RunT(tb)
	w, err := newWire(m.Addr())
	if err != nil {
		tb.Fatalf("redispooltest: %v", err)
	}
	tb.Cleanup(w.close)
	cfg := redispool.Config{
		URL: "redis://" + w.addr, MaxOpen: 10,
		DialTimeout: time.Second, ReadTimeout: time.Second, AcquireTimeout: time.Second,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, change := range configure {
		change(&cfg)
	}
	p, err := redispool.New(cfg)
	if err != nil {
		tb.Fatalf("redispooltest: %v", err)
	}
	r := &Redis{Pool: p, Mini: m, tb: tb, wire: w}
	tb.Cleanup(r.stop)
	return r
}

func (r *Redis) stop() {
	r.Heal()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.tb.Context()), stopLimit)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		r.tb.Errorf("redispooltest: %v", err)
	}
}

// Refuse takes the server away, as a crash does: connections are closed, and new ones refused,
// until Heal. Its data stays.
func (r *Redis) Refuse() {
	r.wire.refuse()
	r.wire.drop()
}

// RefuseNew refuses new connections, as if no server were running, until Heal. Those that are open
// stay.
func (r *Redis) RefuseNew() { r.wire.refuse() }

// Hang makes the server silent, as a frozen process or a network that drops packets does:
// connections stay open, new ones are accepted, and nothing is answered, until Heal.
func (r *Redis) Hang() { r.wire.hang() }

// Drop closes all connections once, as a restart of a proxy does. New ones are welcome.
func (r *Redis) Drop() { r.wire.drop() }

// ReadOnly makes the server answer every command as a replica answers a write, until Heal.
func (r *Redis) ReadOnly() {
	r.Mini.SetError("READONLY You can't write against a read only replica.")
}

// Heal ends Refuse, RefuseNew, Hang and ReadOnly.
func (r *Redis) Heal() {
	r.tb.Helper()
	r.Mini.SetError("")
	if err := r.wire.heal(); err != nil {
		r.tb.Errorf("redispooltest: heal: %v", err)
	}
}
