package redispool_test

import (
	"context"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/redispool"
)

// Two goroutines use a Conn at once while the pool is full, and one of them gives up before its command was sent. The
// Conn's hold must stay with the Conn's own connection: what that goroutine does next is on another.
func TestCommandGivenUpLeavesNoSeekerBehind(t *testing.T) { // INV-8
	m := mini(t)
	p := started(t, redispool.Config{URL: "redis://" + m.Addr(), MaxOpen: 2})
	c := single(t, p)
	ctx := within(t, patience)
	a, b, shared := c.Conn(), c.Conn(), c.Conn()
	defer func() { _ = shared.Close() }()
	for _, one := range []interface{ Close() error }{a, b} {
		defer func() { _ = one.Close() }()
	}
	if a.Ping(ctx).Err() != nil || b.Ping(ctx).Err() != nil {
		t.Fatal("the pool is not full")
	}
	other := make(chan error)
	go func() { other <- shared.Ping(ctx).Err() }()
	eventually(t, "it waits", func() bool { return p.Stats().Waiting > 0 })
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := shared.Ping(short).Err(); err == nil {
		t.Fatal("a command on a full pool")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-other; err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // on the client, and so on another connection
		_ = c.Get(ctx, "x").Err()
	}
	if held := p.Holders(); len(held) != 1 {
		t.Errorf("%d holders, want the Conn alone", len(held))
	}
	if err := p.Drain(within(t, 50*time.Millisecond)); err == nil {
		t.Error("drained with a Conn open")
	}
	if err := shared.Ping(ctx).Err(); err != nil {
		t.Errorf("the Conn's next command after Drain began: %v", err)
	}
}
