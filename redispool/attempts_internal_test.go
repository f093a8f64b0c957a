package redispool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// unkeyed is a command of a user's own that cannot be the key of a map.
type unkeyed struct {
	redis.Cmder

	more []string
}

func TestAttemptsHaveTheLongestWaitAndThePauseAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a attempts
		ctx := t.Context()
		one, other, odd := redis.NewCmd(ctx, "get", "x"), redis.NewCmd(ctx, "get", "x"), unkeyed{redis.NewCmd(ctx), nil}
		a.note(time.Second, one, odd)
		a.note(3*time.Second, other)
		time.Sleep(time.Millisecond)
		if d := a.take(odd, one, other); d != 3*time.Second+time.Millisecond {
			t.Errorf("they have waited for %s, want 3.001s", d)
		}
		if d := a.take(one, other); d != 0 || a.known.Load() != 0 || a.byCmd != nil {
			t.Errorf("%s, and %d are known, after all were taken", d, a.known.Load())
		}
	})
}

// A command on a node's own client does not pass the hook that would take its entry.
func TestAttemptsThatNobodyTakesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a attempts
		a.note(time.Second, redis.NewCmd(t.Context(), "get", "x"))
		time.Sleep(forgetAfter)
		recent := redis.NewCmd(t.Context(), "get", "y")
		a.note(time.Second, recent)
		if n := a.known.Load(); n != 1 {
			t.Errorf("%d are known, want the recent one", n)
		}
		if a.take(recent) != time.Second || a.known.Load() != 0 {
			t.Errorf("%d are known after the last was taken", a.known.Load())
		}
	})
}
