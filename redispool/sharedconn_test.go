package redispool_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/redispool"
)

// Two goroutines use a Conn at once while its connection is being dialled, and one of them gives up
// before its command was sent. The Conn's hold must stay with the Conn's own connection: the next
// command of that goroutine is on another.
func TestCommandGivenUpLeavesNoSeekerBehind(t *testing.T) { // INV-8
	m := mini(t)
	var slow atomic.Bool
	dialling, dial := make(chan struct{}), make(chan struct{})
	p := started(t, redispool.Config{
		MaxOpen: 2, Options: &redis.UniversalOptions{
			Addrs: []string{m.Addr()}, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if slow.Swap(false) {
					close(dialling)
					<-dial
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			},
		},
	})
	c := single(t, p)
	ctx := within(t, patience)
	if err := c.Ping(ctx).Err(); err != nil { // leaves an idle connection, which busy keeps away from the Conn
		t.Fatal(err)
	}
	busy, shared := c.Conn(), c.Conn()
	defer func() { _ = shared.Close() }()
	if err := busy.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	slow.Store(true)
	other := make(chan error)
	go func() { other <- shared.Ping(ctx).Err() }()
	<-dialling
	if err := shared.Ping(within(t, 20*time.Millisecond)).Err(); err == nil {
		t.Fatal("a command on a connection that is being dialled")
	}
	close(dial)
	if err := <-other; err != nil {
		t.Fatal(err)
	}
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // on the client, and so on another connection
		if err := c.Set(ctx, "x", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
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
