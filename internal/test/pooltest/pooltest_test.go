package pooltest_test

import (
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/pooltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// judged is a test that only keeps whether it failed.
type judged struct {
	testing.TB

	failed bool
}

func (*judged) Helper()                 {}
func (j *judged) Errorf(string, ...any) { j.failed = true }
func (j *judged) Fatalf(string, ...any) { j.failed = true }

type expiring struct{}

func (*expiring) Expiries() []poolkeeper.Expiry { return nil }

func TestChecksFailWhereAReportIsNotAsExpected(t *testing.T) {
	began := time.Now()
	var one, old pooltest.Events
	e := poolkeeper.Event{Kind: poolkeeper.EventUp, Pool: "cache", Text: "up", Time: began}
	one.Add(e)
	e.Time = began.Add(-time.Second)
	old.Add(e)
	up := pooltest.Event{Kind: poolkeeper.EventUp}
	all := poolkeeper.Stats{Evicted: map[string]uint64{"closed": 0, "dead": 0, "failover": 0, "idle": 0, "lifetime": 0, "reload": 0}}
	failure := pooltest.Failure{Kind: health.KindUnknown, Finding: "odd"}
	for name, c := range map[string]struct {
		check func(tb testing.TB)
		fails bool
	}{
		"an event":     {func(tb testing.TB) { tb.Helper(); pooltest.Told(tb, &one, up, began) }, false},
		"an old event": {func(tb testing.TB) { tb.Helper(); pooltest.Told(tb, &old, up, began) }, true},
		"an event without error": {func(tb testing.TB) {
			tb.Helper()
			pooltest.Told(tb, &one, pooltest.Event{Kind: e.Kind, Err: true}, began)
		}, true},
		"an event of nobody": {func(tb testing.TB) {
			tb.Helper()
			pooltest.Told(tb, &one, pooltest.Event{Kind: e.Kind, Held: "tx"}, began)
		}, true},
		"all reasons": {func(tb testing.TB) { tb.Helper(); pooltest.HasAllReasons(tb, all) }, false},
		"no reasons":  {func(tb testing.TB) { tb.Helper(); pooltest.HasAllReasons(tb, poolkeeper.Stats{}) }, true},
		"no expiries": {func(tb testing.TB) { tb.Helper(); pooltest.HasExpiries(tb, "x", new(expiring)) }, false},
		"an expiry":   {func(tb testing.TB) { tb.Helper(); pooltest.HasExpiries(tb, "x", new(expiring), "ca root") }, true},
		"a failure": {func(tb testing.TB) {
			tb.Helper()
			pooltest.Failed(tb, failure, map[string]error{"x": errors.New("odd")})
		}, false},
		"another failure": {func(tb testing.TB) {
			tb.Helper()
			pooltest.Failed(tb, failure, map[string]error{"x": errors.New("even")})
		}, true},
		"no failure": {func(tb testing.TB) { tb.Helper(); pooltest.Failed(tb, failure, map[string]error{"x": nil}) }, true},
	} {
		j := &judged{TB: t}
		if c.check(j); j.failed != c.fails {
			t.Errorf("%s: failed is %v", name, j.failed)
		}
	}
}
