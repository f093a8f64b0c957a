package testkit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

func TestMain(m *testing.M) {
	if ports, ok := os.LookupEnv(claimEnv); ok {
		if err := claim(ports); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// failing is a test that is expected to fail, and keeps with what.
type failing struct {
	testing.TB

	with string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.with = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestEventuallyFailsWithWhatDidNotComeTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, calls := time.Now(), 0
		f := &failing{TB: t}
		var wg sync.WaitGroup
		wg.Go(func() { testkit.Eventually(f, "the moon is green", func() bool { calls++; return false }) })
		wg.Wait()
		if !strings.Contains(f.with, "the moon is green") || calls < 100 {
			t.Errorf("failed with %q after %d calls", f.with, calls)
		}
		if d := time.Since(begun); d < testkit.Patience || d > testkit.Patience+time.Second {
			t.Errorf("took %s", d)
		}
	})
}

func TestEventuallyReturnsAsSoonAsTheConditionHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		testkit.Eventually(t, "at once", func() bool { return true })
		if d := time.Since(begun); d != 0 {
			t.Errorf("a condition that holds took %s", d)
		}
		testkit.Eventually(t, "soon", func() bool { return time.Since(begun) >= time.Second })
		if d := time.Since(begun); d > time.Second+10*time.Millisecond {
			t.Errorf("one that holds after 1 s took %s", d)
		}
	})
}

func TestWithinEndsAtItsTimeAndServesInACleanup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := testkit.Within(t, time.Second)
		time.Sleep(time.Second - time.Millisecond/2)
		if err := ctx.Err(); err != nil {
			t.Error("too early:", err)
		}
		time.Sleep(time.Millisecond)
		if ctx.Err() == nil {
			t.Error("not ended after its time")
		}
	})
	t.Run("cleanup", func(t *testing.T) {
		t.Cleanup(func() {
			if t.Context().Err() == nil {
				t.Error("the test's own context goes on: the comparison has lost its point")
			}
			if err := testkit.Within(t, time.Minute).Err(); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestAdvanceReturnsWhenWhatIsDueAtItsEndIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, done := time.Now(), 0
		for range 100 {
			time.AfterFunc(time.Second, func() {
				runtime.Gosched() // as a goroutine that waits for a lock
				done++
			})
			testkit.Advance(time.Second)
		}
		if d := time.Since(begun); d != 100*time.Second || done != 100 {
			t.Errorf("after %s %d of 100 timers have done their work", d, done)
		}
	})
}

func TestCrowdLosesNobody(t *testing.T) {
	var c testkit.Crowd
	for range 200 {
		var wg sync.WaitGroup
		var in sync.WaitGroup
		in.Add(8)
		for range 8 {
			wg.Go(func() {
				leave := c.Enter()
				in.Done()
				in.Wait() // until all are there
				leave()
			})
		}
		wg.Wait()
		if got := c.Most(); got != 8 {
			t.Fatalf("%d at once, want 8", got)
		}
		c.Forget()
		if got := c.Most(); got != 0 {
			t.Fatalf("%d at once when nobody is there", got)
		}
	}
}

func TestLogKeepsEveryLevel(t *testing.T) {
	var l testkit.Log
	var wg sync.WaitGroup
	wg.Go(func() { l.Logger().Debug("small") })
	wg.Go(func() { l.Logger().Error("great") })
	wg.Wait()
	if s := l.String(); !strings.Contains(s, "small") || !strings.Contains(s, "great") {
		t.Errorf("kept %q", s)
	}
}

func TestReplaceLeavesNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	for _, want := range []string{"first", "second"} {
		testkit.Replace(t, path, []byte(want))
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%q %v, want %q", got, err, want)
		}
	}
	if all, err := os.ReadDir(filepath.Dir(path)); err != nil || len(all) != 1 {
		t.Error(all, err)
	}
}
