package suite_test

import (
	"context"
	"testing"
	"time"
)

// demotions are faults in which the server turns read-only, and its name moves to a promoted one,
// at once or late. What happens depends on how calls write.
func demotions() []scenario {
	out := make([]scenario, 0, 12)
	for _, kind := range []string{"", batch, copyFrom, prepared, pipeline, transaction} {
		out = append(out, demotion(kind, 0), demotion(kind, 5*time.Second))
	}
	return out
}

func demotion(kind string, late time.Duration) scenario {
	name := "demoted, the name moves at once"
	if late > 0 {
		name = "demoted, the name moves after " + late.String()
	}
	if kind != "" {
		name += ", " + kind
	}
	return scenario{
		name: name, kind: kind, spare: true, long: kind != "" && late > 0,
		fault: func(p *place) {
			promoted := p.second
			if late == 0 {
				p.proxy.Point(promoted.Addr())
			}
			p.do(p, func(ctx context.Context) error { return p.admin.readOnly(ctx, true) })
			if late > 0 {
				sleep(p.span(late))
				p.proxy.Point(promoted.Addr())
			}
			p.backend = promoted
		},
		worse: map[string]string{
			"dials/s": "the pool looks for the promoted server; a raw one stays with the demoted server",
		},
		undo: func(p *place) {
			p.do(p, func(ctx context.Context) error { return p.first.admin.readOnly(ctx, false) })
		},
		check: func(tb testing.TB, lib library, _ way, o *outcome) {
			tb.Helper()
			most := lib.conns // one call of each caller
			if !whole() {
				most *= 2 // beside other tests, a caller may need a second one
			}
			after := most
			if retries(lib) && kind == "" {
				after = 0
			}
			if late == 0 && (o.failed > most || o.late > after) {
				tb.Errorf("%d calls failed, %d of them begun after the name had moved; %d may, and %d", o.failed, o.late, most, after)
			}
			if o.first == never {
				tb.Error("no call succeeded once the name had moved")
			}
		},
	}
}
