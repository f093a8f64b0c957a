package life_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

func TestCloserClosesOnceAndGivesUpWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k life.Closer
		var calls atomic.Int32
		slow := func() error {
			calls.Add(1)
			time.Sleep(time.Minute)
			return errDown
		}
		err := k.Do(testkit.Within(t, time.Second), slow)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "still being closed") {
			t.Errorf("an impatient Do = %v", err)
		}
		for range 2 {
			if err := k.Do(t.Context(), slow); !errors.Is(err, errDown) {
				t.Errorf("Do = %v", err)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("closed %d times", n)
		}
	})
}

func TestCloserReportsAPanic(t *testing.T) {
	var k life.Closer
	if err := k.Do(t.Context(), func() error { panic("in Close") }); err == nil || !strings.Contains(err.Error(), "in Close") {
		t.Errorf("Do = %v", err)
	}
}
