package generate

import (
	"fmt"
	"strings"

	"github.com/poolkeeper/poolkeeper/internal/measure"
)

// The objective: of the acquisitions of 30 days, 99.95 % get a connection. Bad are those that give up
// and those refused at once; all are these and those that got one. What a statement answers is not the
// pool's: it is not counted.
const (
	objective = "99.95 %"
	budget    = 0.0005
)

// Names of recorded series.
const (
	recordUse        = "poolkeeper:pool_use:ratio"
	recordAcquireP99 = "poolkeeper:acquire_seconds:p99_5m"
	recordErrors     = "poolkeeper:acquire_errors:ratio_rate" // and the window
)

// burn is a rate at which the budget is spent, seen over a long window and still over a short one: the
// table of https://sre.google/workbook/alerting-on-slos/, 6: multiwindow, multi-burn-rate.
type burn struct {
	rate        float64
	long, short string
}

//nolint:gochecknoglobals // constant tables
var (
	fastBurns = []burn{{14.4, "1h", "5m"}, {6, "6h", "30m"}} // 2 % of the budget in an hour, 5 % in 6 hours
	slowBurns = []burn{{3, "1d", "2h"}, {1, "3d", "6h"}}     // 10 % in a day, 10 % in 3 days
	windows   = []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"}
)

// Records returns the recording rules.
func Records() []Record {
	used := of(measure.Count, is(measure.LabelPoolState, "used"))
	records := []Record{
		{recordUse, "sum without (" + measure.LabelPoolState + ") (" + used + ")\n/\n" + of(measure.Max)},
		{recordAcquireP99, "histogram_quantile(0.99, " + by("sum", rate(bucketOf(measure.WaitTime), "5m"), job, measure.LabelPool, "le") + ")"},
	}
	for _, w := range windows {
		records = append(records, Record{recordErrors + w, errorRatio(w)})
	}
	return records
}

// errorRatio is the part of the acquisitions that fails.
func errorRatio(window string, matchers ...string) string {
	bad := rate(of(measure.Timeouts, matchers...), window) + " + " + rate(of(measure.Refused, matchers...), window)
	all := rate(of(measure.Acquired, matchers...), window) + " + " + bad
	return byPool("sum", bad) + "\n/\n" + byPool("sum", all)
}

// burning is true while one of the rates is exceeded over both its windows.
func burning(burns []burn) string {
	each := make([]string, len(burns))
	for i, b := range burns {
		each[i] = fmt.Sprintf("(\n  %s%s > %g * %g\n  and\n  %s%s > %g * %g\n)",
			recordErrors, b.long, b.rate, budget, recordErrors, b.short, b.rate, budget)
	}
	return strings.Join(each, "\nor\n")
}
