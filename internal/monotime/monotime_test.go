package monotime_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

func TestTimeIsPastNeverAndGoesOn(t *testing.T) {
	first := monotime.Now()
	if first <= 0 {
		t.Errorf("Now is %d, not past never", first)
	}
	if monotime.Now() < first {
		t.Error("the clock went back")
	}
	synctest.Test(t, func(t *testing.T) {
		begun := monotime.Now()
		if begun <= 0 {
			t.Errorf("in a bubble Now is %d, not past never", begun)
		}
		time.Sleep(time.Hour)
		if d := monotime.Since(begun); d != time.Hour {
			t.Errorf("an hour in a bubble took %s", d)
		}
		if at := monotime.Of(time.Now()); at != monotime.Now() {
			t.Errorf("Of now is %d, Now is %d", at, monotime.Now())
		}
		if w := monotime.Now().Wall(); !w.Equal(time.Now()) {
			t.Errorf("Wall of now is %s", w)
		}
	})
}

func TestAddSaturates(t *testing.T) {
	now := monotime.Now()
	if end := now.Add(math.MaxInt64); end != math.MaxInt64 {
		t.Errorf("now plus forever is %d", end)
	}
	if end := monotime.Time(-10).Add(math.MinInt64); end != math.MinInt64 {
		t.Errorf("minus forever is %d", end)
	}
	if now.Add(time.Second).Sub(now) != time.Second {
		t.Error("a second is no second")
	}
}
