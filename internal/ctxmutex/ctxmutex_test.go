package ctxmutex_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/ctxmutex"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMutexIsHeldByOneAtATime(t *testing.T) {
	held := ctxmutex.New()
	n, most := 0, 0
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := held.Lock(t.Context()); err != nil {
				t.Error(err)
				return
			}
			n++ // the race detector watches too
			most = max(most, n)
			n--
			held.Unlock()
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("%d held it at once", most)
	}
}

func TestEndOfTheContextEndsTheWaitOnly(t *testing.T) {
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	held := ctxmutex.New()
	for range 100 { // a select would take either
		if err := held.Lock(ctx); err != nil {
			t.Fatalf("nobody has the turn, and Take = %v", err)
		}
		if held.TryLock() {
			t.Fatal("two have the turn")
		}
		if err := held.Lock(ctx); !errors.Is(err, why) {
			t.Fatalf("somebody has the turn, and Take = %v", err)
		}
		held.Unlock()
	}
}
