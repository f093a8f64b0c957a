package suite_test

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// outcome is what became of a round.
type outcome struct {
	calls  int           // from the beginning of the fault on
	failed int           // of those
	late   int           // of those, begun after the server was back
	lost   time.Duration // in failed calls, per caller
	first  time.Duration // from the server's return to the first success; never
	well   time.Duration // from the server's return to the end of the last call that failed; 0: none did
	slow   time.Duration // the slowest call
	limit  time.Duration // its deadline; 0: it had none

	dials      int // in the worst second
	sockets    int // left after the end
	goroutines int // the same

	data  bool // the following count
	gone  int  // acknowledged writes that the server does not have
	twice int  // writes that it applied more than once

	unready, ready time.Duration // of the registry: after the beginning of the fault, after the server's return; never
	lines          int           // logged
	managed        bool
}

const never = time.Duration(-1)

// count fills in what the calls tell.
func (o *outcome) count(calls []call, began, back time.Time, c callers) {
	o.first, o.limit = never, c.deadline
	for _, k := range calls {
		if k.ended().Before(began) {
			continue
		}
		o.calls++
		o.slow = max(o.slow, k.took)
		if k.err == nil {
			if end := k.ended().Sub(back); end >= 0 && (o.first == never || end < o.first) {
				o.first = end
			}
			continue
		}
		o.failed++
		o.lost += k.took
		o.well = max(o.well, k.ended().Sub(back))
		if k.began.After(back) {
			o.late++
		}
	}
	o.lost /= time.Duration(c.n)
}

// columns are those of the table. The lower each, the better.
var columns = []struct {
	name  string
	value func(o *outcome) time.Duration // counts as nanoseconds
	unit  time.Duration                  // below it, differences are noise
	noise float64                        // the same, as a part
	show  func(o *outcome) string
}{
	{"failed", func(o *outcome) time.Duration { return time.Duration(o.failed) }, 10, 0.15, func(o *outcome) string { return fmt.Sprint(o.failed) }},
	{"failed, begun after", func(o *outcome) time.Duration { return time.Duration(o.late) }, 5, 0.1, func(o *outcome) string { return fmt.Sprint(o.late) }},
	{"lost per caller", func(o *outcome) time.Duration { return o.lost }, 100 * time.Millisecond, 0.1, func(o *outcome) string { return round(o.lost) }},
	{"first success", func(o *outcome) time.Duration { return endless(o.first) }, 100 * time.Millisecond, 0.1, func(o *outcome) string { return round(o.first) }},
	{"last failure", func(o *outcome) time.Duration { return o.well }, 150 * time.Millisecond, 0.1, func(o *outcome) string { return round(o.well) }},
	{"slowest call", func(o *outcome) time.Duration { return o.slow }, 200 * time.Millisecond, 0.1, func(o *outcome) string { return round(o.slow) }},
	{"dials/s", func(o *outcome) time.Duration { return time.Duration(o.dials) }, 12, 0.1, func(o *outcome) string { return fmt.Sprint(o.dials) }},
	{"left", func(o *outcome) time.Duration { return time.Duration(o.sockets + o.goroutines) }, 0, 0, func(o *outcome) string { return fmt.Sprintf("%d, %d", o.sockets, o.goroutines) }},
	{"writes lost", func(o *outcome) time.Duration { return time.Duration(o.gone) }, 0, 0, func(o *outcome) string { return ifData(o, o.gone) }},
	{"applied twice", func(o *outcome) time.Duration { return time.Duration(o.twice) }, 5, 0.5, func(o *outcome) string { return ifData(o, o.twice) }},
	{"not ready, ready", nil, 0, 0, func(o *outcome) string {
		if !o.managed {
			return ""
		}
		if o.unready == never {
			return "stays ready"
		}
		return round(o.unready) + ", " + round(o.ready)
	}},
	{"lines", nil, 0, 0, func(o *outcome) string {
		if !o.managed {
			return ""
		}
		return fmt.Sprint(o.lines)
	}},
}

func ifData(o *outcome, n int) string {
	if !o.data {
		return ""
	}
	return fmt.Sprint(n)
}

// String has the columns of a row.
func (o *outcome) String() string {
	cells := make([]string, 0, len(columns))
	for _, c := range columns {
		cells = append(cells, c.show(o))
	}
	return strings.Join(cells, " | ")
}

func endless(d time.Duration) time.Duration {
	if d == never {
		return time.Hour
	}
	return d
}

// worse names the columns in which a managed pool is worse than raw, beyond noise.
func (o *outcome) worse(raw *outcome, but ...string) (names []string) {
	for _, c := range columns {
		if c.value == nil || slices.Contains(but, c.name) {
			continue
		}
		mine, its := c.value(o), c.value(raw)
		if mine > its+c.unit+time.Duration(c.noise*float64(its)) {
			names = append(names, c.name)
		}
	}
	return names
}

// round prints a duration as the table does.
func round(d time.Duration) string {
	switch {
	case d == never:
		return "never"
	case d == 0:
		return "0"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// middle is the outcome of several rounds: the mean of each count, the longest of each duration.
func middle(all []*outcome) *outcome {
	out := *all[0]
	for _, o := range all[1:] {
		out.calls += o.calls
		out.failed += o.failed
		out.late += o.late
		out.lost += o.lost
		out.first = max(endless(out.first), endless(o.first))
		out.well = max(out.well, o.well)
		out.slow = max(out.slow, o.slow)
		out.dials = max(out.dials, o.dials)
		out.sockets += o.sockets
		out.goroutines += o.goroutines
		out.gone += o.gone
		out.twice += o.twice
		out.unready = max(out.unready, o.unready)
		out.ready = max(out.ready, o.ready)
		out.lines = max(out.lines, o.lines)
	}
	n := len(all)
	out.calls, out.failed, out.late, out.lost = out.calls/n, up(out.failed, n), up(out.late, n), out.lost/time.Duration(n)
	if out.first == time.Hour {
		out.first = never
	}
	return &out
}

// up divides, and rounds up: one failure is not none.
func up(sum, n int) int { return (sum + n - 1) / n }
