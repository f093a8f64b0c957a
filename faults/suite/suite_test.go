package suite_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

var seedFlag = flag.Uint64("seed", 0, "repeat the run with this seed; 0: one at random")

// roundsEnv is how many rounds of each way the whole suite runs; 1 by default.
const roundsEnv = "POOLKEEPER_ROUNDS"

func TestMain(m *testing.M) {
	flag.Parse()
	// The libraries wait for their servers most of the time.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	if *seedFlag == 0 {
		*seedFlag = 1 + rand.Uint64N(1_000_000) //nolint:gosec // it is printed
	}
	goleak.VerifyTestMain(testserver.Main(m))
}

// scenarios are all of the suite, in the order of docs/reliability.md.
func scenarios() []scenario {
	return slices.Concat(
		crashes(),
		freezes(),
		network(),
		latencies(),
		serverEnds(),
		demotions(),
		failovers(),
		losses(),
		bursts(),
	)
}

// inShort are the libraries of the short form.
func inShort(lib library) bool {
	return lib.name != "Redis, 40 connections" && !strings.Contains(lib.name, "no retries")
}

func TestFaults(t *testing.T) {
	t.Parallel()
	testkit.Slow(t)
	report := newReport()
	t.Cleanup(func() { report.write(t) })
	for _, lib := range everyLibrary() {
		if !whole() && !inShort(lib) {
			continue
		}
		t.Run(strings.ReplaceAll(lib.name, "/", "-"), func(t *testing.T) {
			t.Parallel()
			var b *backend // a topology starts anew in each round
			if lib.topology == "" {
				b = lib.backend()
				b.begin(t)
			}
			for _, s := range scenarios() {
				if !s.fits(lib) || s.long && !whole() {
					continue
				}
				t.Run(s.name, func(t *testing.T) {
					t.Cleanup(func() {
						if t.Failed() {
							t.Logf("to repeat: POOLKEEPER_FULL=1 go test ./suite -run '%s' -seed %d", t.Name(), *seedFlag)
						}
					})
					report.add(lib, s, s.run(t, b, lib))
				})
			}
		})
	}
}

// result is what a scenario did to each way.
type result struct {
	ways     []way
	outcomes map[string]*outcome
	worse    []string // columns in which managed is worse than raw
	rounds   int
}

// run has the ways take turns. What looks worse than raw is run again as often: then all rounds
// count.
func (s scenario) run(t *testing.T, b *backend, lib library) *result {
	t.Helper()
	r := &result{ways: []way{managedWay}, outcomes: map[string]*outcome{}}
	if whole() {
		r.ways = []way{rawWay, patientWay, managedWay}
	}
	all := map[string][]*outcome{}
	more := func(rounds int) {
		for range rounds {
			for _, w := range r.ways {
				t.Run(fmt.Sprintf("%s %d", w.name, r.rounds+1), func(t *testing.T) {
					all[w.name] = append(all[w.name], s.round(t, b, lib, w, *seedFlag+uint64(r.rounds)))
				})
			}
			r.rounds++
		}
		for name, some := range all {
			r.outcomes[name] = middle(some)
		}
		r.compare()
	}
	more(roundsWanted(t))
	if len(r.worse) > 0 {
		more(r.rounds)
	}
	for _, w := range r.ways {
		t.Logf("%s: %s", w.name, r.outcomes[w.name])
	}
	return r
}

func roundsWanted(tb testing.TB) int {
	tb.Helper()
	text := os.Getenv(roundsEnv)
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		tb.Fatalf("%s is %q; it must be a number of rounds", roundsEnv, text)
	}
	return n
}

// patientNote marks a column of a pool without fail-fast.
const patientNote = " (no fail-fast)"

// compare looks for columns in which a managed pool is worse than raw. With fail-fast, calls fail
// sooner, and so more of them: they are compared without it, as the time lost is with it.
func (r *result) compare() {
	raw, patient, managed := r.outcomes[rawWay.name], r.outcomes[patientWay.name], r.outcomes[managedWay.name]
	r.worse = nil
	if raw == nil || patient == nil || managed == nil { // the short form, or a round that could not end
		return
	}
	for _, name := range patient.worse(raw) {
		r.worse = append(r.worse, name+patientNote)
	}
	r.worse = append(r.worse, managed.worse(raw, "failed")...)
}
