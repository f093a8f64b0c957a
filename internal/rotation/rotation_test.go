package rotation_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/rotation"
)

func TestAnAnswerThatStaysIsARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w rotation.Watch
		first, second := rotation.Login{User: "app", Password: "a"}, rotation.Login{User: "app", Password: "b"}
		for range 2 {
			if w.Changed(first) {
				t.Error("the first answer counts as a change")
			}
		}
		if !w.Changed(second) {
			t.Error("another answer does not count as a change")
		}
		if w.Changed(first) {
			t.Error("two are to find out at once")
		}
		begun := time.Now()
		if !w.Lasting(t.Context(), time.Second, second, func(context.Context) (rotation.Login, error) { return second, nil }) {
			t.Error("an answer that stays is no rotation")
		}
		if took := time.Since(begun); took != rotation.Wait {
			t.Errorf("asked again after %v", took)
		}
		if !w.Changed(second) {
			t.Error("the next change is not seen")
		}
	})
}

func TestTokensAreNoRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w rotation.Watch
		n := 0
		token := func() rotation.Login { n++; return rotation.Login{Password: strconv.Itoa(n)} }
		w.Changed(token())
		now := token()
		if !w.Changed(now) || w.Lasting(t.Context(), time.Second, now, func(context.Context) (rotation.Login, error) { return token(), nil }) {
			t.Error("a token that differs at every call is taken for a rotation")
		}
		if w.Changed(token()) {
			t.Error("tokens are suspected again")
		}
	})
}

func TestWhoCannotBeAskedHasNotRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w rotation.Watch
		now := rotation.Login{Password: "b"}
		w.Changed(rotation.Login{Password: "a"})
		w.Changed(now)
		if w.Lasting(t.Context(), time.Second, now, func(context.Context) (rotation.Login, error) { return now, errors.New("down") }) {
			t.Error("rotated, although it could not be asked")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		w.Changed(rotation.Login{Password: "c"})
		if w.Lasting(ended, time.Second, now, func(context.Context) (rotation.Login, error) { t.Error("asked after the end"); return now, nil }) {
			t.Error("rotated after the end")
		}
	})
}
