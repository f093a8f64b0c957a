package lifecycletest

import (
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/stacks"
)

const (
	leakPatience = 2 * time.Second
	leakPoll     = 10 * time.Millisecond
)

// checkLeaks complains about goroutines of the test that are there besides the test's own.
// Goroutines that are about to end get a moment.
func checkLeaks(ctx context.Context, tb testing.TB) {
	tb.Helper()
	id, _ := pprof.Label(ctx, labelTest)
	deadline := time.Now().Add(leakPatience)
	for {
		left := leaked(id)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			tb.Errorf("lifecycletest: goroutines left behind:\n\n%s", strings.Join(left, "\n\n"))
			return
		}
		<-time.After(leakPoll)
	}
}

// leaked describes the goroutines with the label of a test, but for that of the test itself, which
// is looking.
func leaked(id string) []string {
	var left []string
	for _, g := range stacks.Profile() {
		if g.Labels[labelTest] != id || isLooking(g) {
			continue
		}
		left = append(left, fmt.Sprintf("%d × %s", g.Count, stacks.Print(g.Frames)))
	}
	return left
}

// isLooking recognises the goroutine of the test: it is in leaked, or waits for a subtest that is.
func isLooking(g stacks.Group) bool {
	for _, f := range g.Frames {
		if strings.HasSuffix(f.Function, "lifecycletest.leaked") || strings.HasPrefix(f.Function, "testing.(*T).Run") ||
			strings.HasPrefix(f.Function, "testing.(*B).run") || f.Function == "testing.tRunner" {
			return true
		}
	}
	return false
}
