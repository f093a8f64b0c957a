package replica_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

var _ lifecycle.EventSource = (*replica.Postgres)(nil)

// Of a set come the events of its pools, of their places in the set, and of the set itself, each
// under the name of what it is about.
func TestSubscribersGetTheEventsOfTheSetAndOfEachServer(t *testing.T) {
	x := newTrio(t, nil)
	var mu sync.Mutex
	var seen []string
	cancel := x.Subscribe(func(e poolkeeper.Event) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf("%s %s", e.Pool, e.Kind))
	})
	has := func(want string) bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(seen, want)
	}
	if err := x.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.servers[1].Standby(11 * time.Second)
	eventually(t, "a replica is lost", func() bool { return has("orders/replica-1 member-lost") })
	x.servers[1].Standby(0)
	eventually(t, "and back", func() bool { return has("orders/replica-1 member-back") })

	next := x.cfg
	next.MaxLag = 5 * time.Second
	if err := x.Reload(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if !has("orders reloaded") || has("orders/primary reloaded") {
		t.Errorf("after a Reload of MaxLag: %q", seen)
	}
	bad := next
	bad.MaxLag = -5
	if err := x.Reload(t.Context(), bad); err == nil {
		t.Error("a negative MaxLag is accepted")
	}
	if !has("orders reload-refused") {
		t.Errorf("after a Reload that is refused: %q", seen)
	}
	if err := x.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.Resume()
	for _, want := range []string{"orders/primary paused", "orders/replica-2 paused", "orders/replica-1 resumed"} {
		if !has(want) {
			t.Errorf("no %q in %q", want, seen)
		}
	}
	cancel()
	cancel()
	x.Reset()
	if has("orders/primary reset") {
		t.Error("an event after cancel")
	}
}

func TestPanicOfTheObserverIsAnEventOfTheSet(t *testing.T) {
	x := startTrio(t, nil)
	events := make(chan poolkeeper.Event, 100)
	x.Subscribe(func(e poolkeeper.Event) {
		if e.Kind == poolkeeper.EventPanic {
			events <- e
		}
	})
	x.ObserveWith(observerFunc(func(error) { panic("observer") }))
	_ = who(t.Context(), x.Primary())
	if e := <-events; e.Pool != "orders" || e.Err == nil {
		t.Errorf("%+v", e)
	}
}
