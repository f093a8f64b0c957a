package guard_test

import (
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/guard"
)

func TestACallThatHangsIsNotMadeAgainUntilItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls guard.Calls
		made, release := 0, make(chan struct{})
		hang := func(step func(string)) {
			made++
			step("Stats")
			<-release
		}
		for _, want := range []string{"Stats does not return, called 1s ago", "Stats does not return, called 3s ago"} {
			err := calls.Do("slow", time.Second, hang)
			if _, ok := errors.AsType[*guard.Hung](err); !ok || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
			time.Sleep(2 * time.Second)
		}
		if made != 1 {
			t.Errorf("called %d times while it hung", made)
		}
		if err := calls.Do("other", time.Second, func(func(string)) {}); err != nil {
			t.Errorf("another name: %v", err)
		}
		close(release)
		synctest.Wait()
		if err := calls.Do("slow", time.Second, hang); err != nil || made != 2 {
			t.Errorf("it has returned: %v, called %d times", err, made)
		}
	})
}

func TestACallReportsWhatEndedIt(t *testing.T) {
	var calls guard.Calls
	if err := calls.Do("exits", time.Minute, func(func(string)) { runtime.Goexit() }); !errors.Is(err, guard.ErrExited) {
		t.Errorf("Goexit: %v", err)
	}
	if err := calls.Do("panics", time.Minute, func(func(string)) { panic("no") }); err == nil || err.Error() != "panic: no" {
		t.Errorf("a panic: %v", err)
	}
}
