package latest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/latest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestADialThatWasGivenUpDoesNotReplaceOneThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d latest.DialError
		var s poolkeeper.Stats
		d.Note(context.Canceled)
		if d.Report(&s); s.LastDialError != nil || !s.LastDialErrorTime.IsZero() {
			t.Errorf("before a dial failed: %+v", s)
		}
		refused, at := errors.New("refused"), time.Now()
		d.Note(refused)
		time.Sleep(time.Second)
		d.Note(fmt.Errorf("dial: %w", context.Canceled))
		if d.Report(&s); !errors.Is(s.LastDialError, refused) || !s.LastDialErrorTime.Equal(at) {
			t.Errorf("%v at %v, want %v at %v", s.LastDialError, s.LastDialErrorTime, refused, at)
		}
	})
}

func TestNobodyCanChangeTheWarningsThatAreKept(t *testing.T) {
	var f latest.Fleet
	var s poolkeeper.Stats
	if f.Report(&s); !s.Fleet.Asked.IsZero() {
		t.Errorf("never asked: %+v", s.Fleet)
	}
	given := poolkeeper.FleetStats{Demand: 42, Warnings: []string{"too many"}}
	f.Note(given)
	given.Warnings[0] = "changed"
	for range 2 {
		f.Report(&s)
		if s.Fleet.Asked.IsZero() || s.Fleet.Demand != 42 || s.Fleet.Warnings[0] != "too many" {
			t.Errorf("%+v", s.Fleet)
		}
		s.Fleet.Warnings[0] = "changed"
	}
}
