package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// TestCallContextIsAContext plays random scenes on the context of a call and on its twin from the
// standard library, and looks whether anybody could tell them apart.
func TestCallContextIsAContext(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { callContextIsAContext(t, rt) })
}

func FuzzCallContextIsAContext(f *testing.F) { fuzzing.Bubble(f, callContextIsAContext) }

func callContextIsAContext(t *testing.T, rt *rapid.T) {
	t.Helper()
	type key struct{}
	deadline := time.Duration(rapid.IntRange(-1, 4).Draw(rt, "deadline")) * time.Second
	scene := rapid.SliceOfN(rapid.SampledFrom([]string{"wait", "end", "cancel parent", "done", "err", "child"}), 1, 8).Draw(rt, "scene")
	var differences []string
	synctest.Test(t, func(t *testing.T) {
		parent, cancelParent := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
		defer cancelParent(nil)
		at := time.Now().Add(deadline)
		ours, end := lifecycle.CallContext(parent, at)
		twin, cancelTwin := context.WithDeadline(parent, at)
		defer cancelTwin()
		var children [2]context.Context
		compare := func(step string) {
			synctest.Wait()
			for i, pair := range [][2]context.Context{{ours, twin}, {children[0], children[1]}} {
				if pair[0] == nil {
					continue
				}
				got := fmt.Sprint(pair[0].Err(), pair[0].Value(key{}))
				want := fmt.Sprint(pair[1].Err(), pair[1].Value(key{}))
				if got != want {
					differences = append(differences, fmt.Sprintf("after %s, context %d: %s, want %s", step, i, got, want))
				}
			}
		}
		compare("nothing")
		for _, step := range scene {
			switch step {
			case "wait":
				time.Sleep(time.Second)
			case "end":
				end()
				cancelTwin()
			case "cancel parent":
				cancelParent(errDied)
			case "done":
				synctest.Wait()
				if got, want := isDone(ours), isDone(twin); got != want {
					differences = append(differences, fmt.Sprintf("done: %v, want %v", got, want))
				}
			case "child":
				for i, ctx := range []context.Context{ours, twin} {
					child, cancel := context.WithCancel(ctx)
					defer cancel()
					children[i] = child //nolint:fatcontext // to be compared
				}
			}
			compare(step)
		}
		end()
		cancelTwin()
		compare("all")
		if d, ok := ours.Deadline(); !ok || !d.Equal(at) {
			differences = append(differences, fmt.Sprint("deadline ", d, ok, ours))
		}
	})
	for _, d := range differences {
		rt.Errorf("%s", d)
	}
}

func isDone(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

func TestContextOfACallEndsWithTheCauseOfItsWalk(t *testing.T) {
	parent, cancel := context.WithCancelCause(t.Context())
	ctx, end := lifecycle.CallContext(parent, time.Now().Add(time.Hour))
	defer end()
	<-func() <-chan struct{} { cancel(errDied); return ctx.Done() }()
	if cause := context.Cause(ctx); !errors.Is(cause, errDied) {
		t.Errorf("cause %v, want %v", cause, errDied)
	}
}
