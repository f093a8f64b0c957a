package fleet_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/faults/fleet"
	"github.com/poolkeeper/poolkeeper/internal/test/chart"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// size is how many instances the tests have.
const size = 125

// measured is how many those of the table have: POOLKEEPER_FLEET, or 1000.
func measured(t *testing.T) int {
	t.Helper()
	text, set := os.LookupEnv("POOLKEEPER_FLEET")
	if !set {
		return 1000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("POOLKEEPER_FLEET is %q; it must be a number of instances", text)
	}
	return n
}

// inTests reports whether a scenario is run by the tests, at that size. The others take minutes, and
// the table has them.
func inTests(s fleet.Scenario, kind fleet.Kind) (instances int, ok bool) {
	renewal := s.Name == fleet.Renewal().Name
	switch {
	case renewal && kind != fleet.Postgres: // only its pools read files
		return 0, false
	case racing:
		return size / 5, s.Name == "restart"
	case kind == fleet.DB:
		return size, s.Name != "outage"
	default:
		return size, s.Name == "restart" || renewal
	}
}

// leastPeak is what a small fleet may ask for: 100 logins in a second, and chance.
const leastPeak = 150

// A fleet that is told its size opens at most 5 % of its connections in a second, but for the
// smallest ones, has all of them back within 30 s, and never meets a server that is full.
func TestFleetLeavesItsServerAlive(t *testing.T) {
	for _, kind := range []fleet.Kind{fleet.DB, fleet.Postgres} {
		for _, s := range append(fleet.Scenarios(), fleet.Renewal()) {
			n, ok := inTests(s, kind)
			if !ok {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", kind, s.Name), func(t *testing.T) {
				r := fleet.Run(t, s, kind, n)
				t.Log(row(s, kind, r))
				if most := max(n*fleet.MaxOpen*5/100, leastPeak); r.Peak() > most {
					t.Errorf("%d logins in one second, want %d at most", r.Peak(), most)
				}
				if back := r.Back(); s.Event != nil && (back < 0 || back > 30) {
					t.Errorf("all are back after %d s, want 30", back)
				}
				if n := r.Full(); n > 0 {
					t.Errorf("%d attempts met a full server", n)
				}
			})
		}
	}
}

// A fleet that is not told its size comes back all the same: a server that is slow because it has
// too many logins is asked less.
func TestFleetOfUnknownSizeComesBack(t *testing.T) {
	for _, s := range fleet.Scenarios() {
		if n, ok := inTests(s, fleet.Alone); ok {
			r := fleet.Run(t, s, fleet.Alone, n)
			t.Log(row(s, fleet.Alone, r))
			if r.Back() < 0 {
				t.Error("it never comes back")
			}
		}
	}
}

// TestTable prints the table of docs/reliability.md, and draws its charts:
//
//	POOLKEEPER_MEASURE=$PWD/docs/charts go test -v -run TestTable -timeout 60m ./faults/fleet
func TestTable(t *testing.T) {
	if !testkit.Measuring() {
		t.Skip("only with " + testkit.MeasureEnv)
	}
	var rows []string
	size := measured(t)
	for _, s := range append(fleet.Scenarios(), fleet.Renewal()) {
		dials := chart.Chart{Title: fmt.Sprintf("%s of %d instances: logins", s.Name, size), X: "seconds", Y: "begun per second"}
		open := chart.Chart{Title: fmt.Sprintf("%s of %d instances: connections", s.Name, size), X: "seconds", Y: "open"}
		for _, kind := range []fleet.Kind{fleet.Raw, fleet.Alone, fleet.DB, fleet.Postgres} {
			if (s.Name == fleet.Renewal().Name) != (kind == fleet.Postgres) {
				continue // the curves of NewPostgres are those of NewDB
			}
			r := fleet.Run(t, s, kind, size)
			rows = append(rows, row(s, kind, r))
			if most := max(size*fleet.MaxOpen*5/100, leastPeak); kind >= fleet.DB && r.Peak() > most {
				t.Errorf("%s, %s: %d logins in one second, want %d at most", s.Name, kind, r.Peak(), most)
			}
			t.Log(row(s, kind, r))
			dials.Series = append(dials.Series, series(strings.TrimPrefix(kind.String(), "NewDB "), r, func(s fleet.Second) int { return s.Logins }))
			open.Series = append(open.Series, series(strings.TrimPrefix(kind.String(), "NewDB "), r, func(s fleet.Second) int { return s.Open }))
		}
		for name, c := range map[string]chart.Chart{"logins": dials, "open": open} {
			draw(t, fmt.Sprintf("fleet-%s-%s.svg", strings.ReplaceAll(s.Name, " ", "-"), name), c)
		}
	}
	t.Log("\n" + strings.Join(rows, "\n"))
}

func row(s fleet.Scenario, kind fleet.Kind, r fleet.Result) string {
	back := "never"
	if n := r.Back(); n >= 0 {
		back = fmt.Sprintf("%d s", n)
	}
	return fmt.Sprintf("| %s | %s | %d | %s | %d | %d |", s.Name, kind, r.Peak(), back, r.FailedAfter(), r.Full())
}

func series(name string, r fleet.Result, of func(fleet.Second) int) chart.Series {
	out := chart.Series{Name: name}
	for i, s := range r.Seconds {
		out.Points = append(out.Points, chart.Point{X: float64(i + 1), Y: float64(of(s))})
	}
	return out
}

func draw(t *testing.T, name string, c chart.Chart) {
	t.Helper()
	file, err := os.Create(filepath.Join(os.Getenv(testkit.MeasureEnv), name))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WriteSVG(file); err != nil {
		t.Error(err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
}
