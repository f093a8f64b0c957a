package retry_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("down")

func always(retry.Failure) (bool, error) { return true, nil }

func TestPausesDoubleToAHalfMinute(t *testing.T) {
	var got []time.Duration
	for n := 1; n <= 8; n++ {
		got = append(got, retry.Pause(n, 0)/time.Second)
	}
	if want := []time.Duration{1, 2, 4, 8, 16, 30, 30, 30}; !slices.Equal(got, want) {
		t.Fatalf("pauses are %v s, want %v", got, want)
	}
	if d := retry.Pause(3, 0.999); d < 3*time.Second || d > 3*time.Second+10*time.Millisecond {
		t.Fatalf("the shortest third pause is %v, want 3s", d)
	}
}

func TestTriesUntilItSucceedsAndWaitsAsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pauses, announced time.Duration
		last, n := time.Now(), 0
		err := retry.Until(t.Context(), func(context.Context) error {
			if n > 0 {
				pauses += time.Since(last)
			}
			last = time.Now()
			if n++; n == 4 {
				return nil
			}
			return errDown
		}, func(f retry.Failure) (bool, error) {
			if f.Attempt != n || !errors.Is(f.Err, errDown) {
				t.Errorf("failure %+v after attempt %d", f, n)
			}
			announced += f.Next
			return true, nil
		})
		if err != nil || n != 4 || pauses != announced {
			t.Fatalf("%v after %d attempts; waited %v, announced %v", err, n, pauses, announced)
		}
	})
}

func TestEndsWithTheContextAndWrapsBoth(t *testing.T) {
	cause := errors.New("told to stop")
	for name, cancelIn := range map[string]string{"in a pause": "pause", "in an attempt": "attempt"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				if cancelIn == "pause" {
					time.AfterFunc(100*time.Millisecond, func() { cancel(cause) })
				}
				began := time.Now()
				err := retry.Until(ctx, func(context.Context) error {
					if cancelIn == "attempt" {
						cancel(cause)
					}
					return errDown
				}, always)
				if !errors.Is(err, cause) || !errors.Is(err, errDown) || time.Since(began) > 100*time.Millisecond {
					t.Fatalf("%v after %v, want both causes at once", err, time.Since(began))
				}
			})
		})
	}
}

func TestWhoeverIsAskedDecides(t *testing.T) {
	enough := errors.New("enough")
	for _, want := range []error{nil, enough} {
		n := 0
		err := retry.Until(t.Context(), func(context.Context) error { n++; return errDown },
			func(retry.Failure) (bool, error) { return false, want })
		if !errors.Is(err, want) || n != 1 {
			t.Errorf("%v after %d attempts, want %v after one", err, n, want)
		}
	}
}
