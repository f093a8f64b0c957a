package inflight_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/inflight"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestClosedGateRefusesNewWorkAndKeepsCounting(t *testing.T) {
	g := inflight.New()
	if !g.Enter() {
		t.Fatal("an open gate refused work")
	}
	g.Close()
	g.Close()
	if g.Enter() {
		t.Fatal("a closed gate admitted new work")
	}
	g.Join() // part of what is inside
	if got := g.InFlight(); got != 2 {
		t.Fatalf("in flight = %d, want 2", got)
	}
	g.Leave()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("deadline of the test")
	cancel(cause)
	if err := g.Wait(ctx); !errors.Is(err, cause) {
		t.Fatalf("Wait with work inside = %v, want the cause", err)
	}
	g.Leave()
	if err := g.Wait(ctx); err != nil {
		t.Fatalf("Wait on an empty closed gate = %v, want nil even under an ended context", err)
	}
}

func TestPeakIsTheMostAtOnceSinceTheLastCall(t *testing.T) {
	g := inflight.New()
	for range 3 {
		g.Enter()
	}
	g.Leave()
	g.Leave()
	if got := g.Peak(); got != 3 {
		t.Fatalf("first window: peak = %d, want 3", got)
	}
	if got := g.Peak(); got != 1 {
		t.Fatalf("second window: peak = %d, want the 1 still inside", got)
	}
}

func TestEveryAdmittedPieceIsWaitedForUnderContention(t *testing.T) {
	g := inflight.New()
	var wg sync.WaitGroup
	var mu sync.Mutex
	running, afterWait := 0, 0
	for range 16 {
		wg.Go(func() {
			for g.Enter() {
				mu.Lock()
				running++
				mu.Unlock()
				mu.Lock()
				running--
				mu.Unlock()
				g.Leave()
			}
		})
	}
	g.Close()
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	afterWait = running
	mu.Unlock()
	wg.Wait()
	if afterWait != 0 {
		t.Fatalf("%d pieces of work were running after Wait returned", afterWait)
	}
}

func TestEnterAndLeaveDoNotAllocate(t *testing.T) {
	g := inflight.New()
	if n := testing.AllocsPerRun(100, func() {
		g.Enter()
		g.Leave()
	}); n != 0 {
		t.Fatalf("%v allocations, want 0", n)
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	g := inflight.New()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			g.Enter()
			g.Leave()
		}
	})
}
