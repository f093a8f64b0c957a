package sqlpool_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// A dial counts as slow after 500 ms. Those that end at that very moment must not be counted as
// slow for ever.
func TestDialsThatEndAsTheyBecomeSlowAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		var took atomic.Int64
		var dials testkit.Crowd
		s.dial.set(func(context.Context) error {
			defer dials.Enter()()
			time.Sleep(time.Duration(took.Load()))
			return nil
		})
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 10, MaxDials: 1})
		took.Store(int64(500 * time.Millisecond))
		for range 200 {
			if _, err := p.DB().ExecContext(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
			p.Reset()
			synctest.Wait()
		}
		advance(time.Second) // a dial that was found slow had another begin beside it
		p.Reset()
		synctest.Wait()
		dials.Forget()
		took.Store(int64(400 * time.Millisecond))
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _, _ = p.DB().ExecContext(t.Context(), "sleep 1m") })
		}
		wg.Wait()
		if n := dials.Most(); n != 1 {
			t.Errorf("%d dials at once", n)
		}
		stop(t, p)
	})
}
