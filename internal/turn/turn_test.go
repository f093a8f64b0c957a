package turn_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/turn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTurnIsHeldByOneAtATime(t *testing.T) {
	held := turn.New()
	n, most := 0, 0
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := held.Take(t.Context()); err != nil {
				t.Error(err)
				return
			}
			n++ // the race detector watches too
			most = max(most, n)
			n--
			held.End()
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("%d had the turn at once", most)
	}
}

func TestEndOfTheContextEndsTheWaitOnly(t *testing.T) {
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	held := turn.New()
	for range 100 { // a select would take either
		if err := held.Take(ctx); err != nil {
			t.Fatalf("nobody has the turn, and Take = %v", err)
		}
		if held.Try() {
			t.Fatal("two have the turn")
		}
		if err := held.Take(ctx); !errors.Is(err, why) {
			t.Fatalf("somebody has the turn, and Take = %v", err)
		}
		held.End()
	}
}
