package retry_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/retry"
)

func TestSeekersKeepTheirPace(t *testing.T) {
	for name, c := range map[string]struct{ resets, least, took, pause time.Duration }{
		"at first":            {resets: time.Second, pause: 100 * time.Millisecond},
		"after a while":       {resets: 16 * time.Second, pause: 2 * time.Second},
		"a fleet shares":      {resets: time.Second, least: 3 * time.Second, pause: 3 * time.Second},
		"a slow server":       {resets: time.Second, took: 5 * time.Second, pause: 5 * time.Second},
		"the longest of both": {resets: 30 * time.Second, took: time.Second, pause: 7031250 * time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s retry.Seekers
				if !s.Begin() || s.Begin() {
					t.Fatal("not one at a time")
				}
				began := monotime.Now()
				time.Sleep(c.took)
				s.End(began, c.resets, c.least)
				time.Sleep(c.pause - time.Nanosecond)
				if s.Begin() {
					t.Errorf("another one before %s", c.pause)
				}
				time.Sleep(time.Nanosecond)
				if !s.Begin() {
					t.Errorf("none after %s", c.pause)
				}
				s.Cancel()
				if !s.Begin() {
					t.Error("one that was not sent counts")
				}
			})
		})
	}
}
