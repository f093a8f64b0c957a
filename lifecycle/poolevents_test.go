package lifecycle_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// chatty is a pool that tells an event when it starts.
type chatty struct {
	lifecycle.Hooks

	fn func(poolkeeper.Event)
}

func (c *chatty) Subscribe(fn func(poolkeeper.Event)) func() { c.fn = fn; return func() {} }

func (c *chatty) Start(context.Context) error {
	c.fn(poolkeeper.Event{Time: time.Now(), Pool: "own name", Kind: poolkeeper.EventDown, Text: "the server is down", Err: errors.New("refused")})
	return nil
}

func (c *chatty) Check(context.Context) error { return errors.New("refused") }

func TestEventsOfPoolsAndChecksReachSubscribersAndNotTheRegistrysLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		seen := make(chan health.Transition, 10)
		reg := lifecycle.New(lifecycle.Config{
			Logger: slog.New(slog.NewTextHandler(&b, nil)),
			Health: health.Config{
				Logger: slog.New(slog.DiscardHandler), FailureThreshold: 1,
				OnTransition: func(t health.Transition) { seen <- t },
			},
		})
		reg.Add("orders", &chatty{})
		var mu sync.Mutex
		var pools, checks []string
		reg.Subscribe(func(e event.Event) {
			mu.Lock()
			defer mu.Unlock()
			switch e := e.(type) {
			case *event.Pool:
				pools = append(pools, e.String()+"|"+string(e.Event.Kind)+"|"+e.Name)
			case *event.Health:
				checks = append(checks, e.String())
			}
		})
		if err := reg.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		if len(pools) != 1 || pools[0] != `"orders": the server is down|down|orders` {
			t.Errorf("events of the pool: %q", pools)
		}
		if !strings.Contains(strings.Join(checks, "\n"), `check "orders": unknown → fail`) {
			t.Errorf("transitions: %q", checks)
		}
		mu.Unlock()
		if strings.Contains(b.String(), "the server is down") || strings.Contains(b.String(), "→") {
			t.Errorf("the registry has logged what the pool and the monitor log:\n%s", b.String())
		}
		if len(seen) == 0 {
			t.Error("the service's own OnTransition is not called")
		}
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
