package holders_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestListIsOldestFirstAndNamesTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := holders.NewTable(true)
		var a, b, c holders.Entry
		tab.Hold(&a, poolkeeper.KindConn)
		time.Sleep(time.Second)
		tab.Hold(&b, poolkeeper.KindTx)
		time.Sleep(time.Second)
		tab.Hold(&c, poolkeeper.KindRows)

		if d, ok := tab.Release(&b); !ok || d != time.Second {
			t.Fatalf("Release = %v, %v; want 1s, true", d, ok)
		}
		if _, ok := tab.Release(&b); ok {
			t.Fatal("a second Release of one hold reported true")
		}
		list := tab.List()
		if len(list) != 2 || list[0].Kind != poolkeeper.KindConn || list[1].Kind != poolkeeper.KindRows {
			t.Fatalf("List = %+v, want conn then rows", list)
		}
		if !strings.Contains(list[0].Stack, "TestListIsOldestFirstAndNamesTheCaller") {
			t.Fatalf("stack does not name the caller:\n%s", list[0].Stack)
		}
		want := "2 held, oldest conn for 2s by holders_test.TestListIsOldestFirstAndNamesTheCaller.func1 (table_test.go:"
		if got := tab.Describe(time.Now()); !strings.HasPrefix(got, want) {
			t.Fatalf("Describe = %q, want prefix %q", got, want)
		}
	})
}

func TestOldestHoldLeavesOutAKindAndWhatIsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := holders.NewTable(false)
		var sub, gone, held holders.Entry
		if got := tab.OldestHold(time.Now(), ""); got != 0 {
			t.Errorf("nothing is held, for %v", got)
		}
		tab.Hold(&sub, poolkeeper.KindPubSub)
		time.Sleep(time.Second)
		tab.Hold(&gone, poolkeeper.KindConn)
		tab.Doubt(&gone, true)
		time.Sleep(time.Second)
		tab.Hold(&held, poolkeeper.KindConn)
		time.Sleep(time.Second)
		for except, want := range map[string]time.Duration{"": 3 * time.Second, poolkeeper.KindPubSub: time.Second} {
			if got := tab.OldestHold(time.Now(), except); got != want {
				t.Errorf("without %q the oldest hold lasts %v, want %v", except, got, want)
			}
		}
		tab.Release(&held)
		if got := tab.OldestHold(time.Now(), poolkeeper.KindPubSub); got != 0 {
			t.Errorf("after the release: %v", got)
		}
		if n := tab.Renders(); n != 0 {
			t.Errorf("%d stacks were made text of", n)
		}
	})
}

// However many frames of other modules stand between.
func TestAStackBeginsWithTheUsersOwnFrames(t *testing.T) {
	tab := holders.NewTable(true)
	for _, between := range []int{0, 3, 20} {
		var e holders.Entry
		orm(between, func() { tab.Hold(&e, poolkeeper.KindConn) })
		stack := tab.List()[0].Stack
		first, rest, _ := strings.Cut(stack, "\n")
		if !strings.Contains(first, "TestAStackBeginsWithTheUsersOwnFrames") {
			t.Errorf("%d frames between: the stack begins with %s", between, first)
		}
		if !strings.Contains(rest, "testing.tRunner") {
			t.Errorf("%d frames between: the rest of the stack is missing:\n%s", between, stack)
		}
		if n := testing.AllocsPerRun(10, func() {
			tab.Release(&e)
			orm(between, func() { tab.Hold(&e, poolkeeper.KindConn) })
		}); n != 0 {
			t.Errorf("%d frames between: %v allocations", between, n)
		}
		tab.Release(&e)
	}
}

// The stack of a library's background work contains no function of the user's.
func TestAStackWithoutTheUserIsKeptWhole(t *testing.T) {
	tab := holders.NewTable(true)
	var e holders.Entry
	done := make(chan struct{})
	go ormWork(tab.Hold, &e, done)()
	<-done
	stack := tab.List()[0].Stack
	if got := strings.Count(stack, "orm@v1.2.3"); got != 5 || strings.Count(stack, "\n") != 4 {
		t.Errorf("%d frames of the library in\n%s", got, stack)
	}
}

func TestWatchReportsEachHoldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := holders.NewTable(false)
		var mu sync.Mutex
		var got []poolkeeper.Holder
		w := holders.NewWatch(tab, time.Minute, func(h []poolkeeper.Holder) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, h...)
		})
		w.Start()
		defer w.Stop()
		var leak, quick holders.Entry
		tab.Hold(&leak, poolkeeper.KindConn)
		for range 20 {
			tab.Hold(&quick, poolkeeper.KindConn)
			time.Sleep(30 * time.Second)
			tab.Release(&quick)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(got) != 1 {
			t.Fatalf("%d reports, want 1: the hold that outlasted the limit, once", len(got))
		}
	})
}

// Of Seize and Release of one hold, one has it; otherwise a connection's place would be counted
// free twice.
func TestSeizeAndReleaseOfOneHoldHaveOneWinner(t *testing.T) {
	tab := holders.NewTable(true)
	for range 500 {
		var e holders.Entry
		tab.Hold(&e, poolkeeper.KindConn)
		var seized, released bool
		var wg sync.WaitGroup
		wg.Go(func() { _, seized = tab.Seize(&e, time.Now().Add(time.Hour), time.Minute) })
		wg.Go(func() { _, released = tab.Release(&e) })
		wg.Wait()
		if seized == released || tab.Len() != 0 {
			t.Fatalf("seized %v, released %v, %d left", seized, released, tab.Len())
		}
	}
}

func TestSeizeTakesOnlyWhatIsHeldBeyondTheLimitAndTellsWhoHadIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := holders.NewTable(true)
		var e holders.Entry
		if tab.HeldFor(&e, time.Now()) != 0 {
			t.Error("a free entry is held")
		}
		tab.Hold(&e, poolkeeper.KindTx)
		since := time.Now()
		time.Sleep(time.Minute)
		if _, ok := tab.Seize(&e, time.Now(), time.Minute); ok {
			t.Error("seized at the limit, not beyond it")
		}
		time.Sleep(time.Second)
		if got := tab.HeldFor(&e, time.Now()); got != 61*time.Second {
			t.Errorf("held for %v", got)
		}
		who, ok := tab.Seize(&e, time.Now(), time.Minute)
		if !ok {
			t.Fatal("not seized beyond the limit")
		}
		if h := who(); h.Kind != poolkeeper.KindTx || !h.Since.Equal(since) || !strings.Contains(h.Stack, "TestSeizeTakesOnly") {
			t.Errorf("%+v", h)
		}
		if _, again := tab.Seize(&e, time.Now(), 0); again {
			t.Error("seized twice")
		}
	})
}

func TestWatchStopsWithoutStartAndTwice(*testing.T) {
	w := holders.NewWatch(holders.NewTable(false), time.Hour, func([]poolkeeper.Holder) {})
	w.Stop()
	w.Start() // after Stop: must not arm a timer
	w.Stop()
}

func TestConcurrentHoldsKeepTheListWhole(t *testing.T) {
	tab := holders.NewTable(false)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var es [4]holders.Entry
			for i := range 2000 {
				e := &es[i%len(es)]
				tab.Hold(e, poolkeeper.KindConn)
				if i%3 == 0 {
					tab.List()
				}
				tab.Release(e)
			}
		})
	}
	wg.Wait()
	if n := len(tab.List()); n != 0 || tab.Len() != 0 {
		t.Fatalf("%d entries left in the list, Len %d; want 0", n, tab.Len())
	}
}

func BenchmarkHoldRelease(b *testing.B) {
	for name, stacks := range map[string]bool{"bare": false, "stacks": true} {
		b.Run(name, func(b *testing.B) {
			tab := holders.NewTable(stacks)
			var e holders.Entry
			b.ReportAllocs()
			orm(24, func() {
				for b.Loop() {
					tab.Hold(&e, poolkeeper.KindConn)
					tab.Release(&e)
				}
			})
		})
	}
}
