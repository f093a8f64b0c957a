package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/retry"
)

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if !retry.Sleep(t.Context(), time.Minute) || time.Since(begun) != time.Minute {
			t.Errorf("slept for %v of a minute", time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if retry.Sleep(ctx, time.Minute) {
			t.Error("slept beyond the end of its context")
		}
	})
}

func TestBrieflyWaitsForWhatComesSoonAndForNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		come := time.Now().Add(300 * time.Microsecond)
		retry.Briefly(t.Context(), func() bool { return !time.Now().Before(come) })
		if time.Now().Before(come) {
			t.Error("did not wait for what came soon")
		}
		begun := time.Now()
		retry.Briefly(t.Context(), func() bool { return false })
		if took := time.Since(begun); took == 0 || took > time.Millisecond {
			t.Errorf("waited for %v", took)
		}
	})
}
