package pooltest

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
)

// HasExpiries fails the test unless p knows the expiries in want, in words and sorted. when begins the
// failure's message.
func HasExpiries(tb testing.TB, when string, p interface{ Expiries() []poolkeeper.Expiry }, want ...string) {
	tb.Helper()
	var got []string
	for _, e := range p.Expiries() {
		got = append(got, e.Kind+" "+e.Subject)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		tb.Errorf("%s: %q, want %q", when, got, want)
	}
}

// HasAllReasons fails the test unless s counts every reason to close a connection, as a metric needs.
func HasAllReasons(tb testing.TB, s poolkeeper.Stats) {
	tb.Helper()
	want := []string{
		poolkeeper.EvictedClosed, poolkeeper.EvictedDead, poolkeeper.EvictedFailover,
		poolkeeper.EvictedIdle, poolkeeper.EvictedLifetime, poolkeeper.EvictedReload,
	}
	if got := slices.Sorted(maps.Keys(s.Evicted)); !slices.Equal(got, want) {
		tb.Errorf("the reasons are %q, want all of %q", got, want)
	}
}

// Failure is how a test expects a first connection to fail.
type Failure struct {
	Kind            health.Kind
	Finding, Advice string // parts of the error's text and of its advice
}

// WrongServer is the failure at a server of another kind: "a Redis", where the pool expects want.
func WrongServer(found, want string) Failure {
	return Failure{health.KindProtocol, found + " server answers at this address, not " + want, "check host and port of URL"}
}

// Failed fails the test unless each error, by what returned it, is as expected.
func Failed(tb testing.TB, want Failure, errs map[string]error) {
	tb.Helper()
	for by, err := range errs {
		if err == nil {
			tb.Errorf("%s: no error", by)
			continue
		}
		f := health.Classify(err)
		if f.Kind != want.Kind || !strings.Contains(err.Error(), want.Finding) || !strings.Contains(f.Advice, want.Advice) {
			tb.Errorf("%s: %v: %s (%s); want %s with %q and %q", by, err, f.Kind, f.Advice, want.Kind, want.Finding, want.Advice)
		}
	}
}
