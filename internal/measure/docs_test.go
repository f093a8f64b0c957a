package measure_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/measure"
)

var update = flag.Bool("update", false, "write the table of docs/metrics.md anew")

const (
	page       = "../../docs/metrics.md"
	tableBegin = "<!-- written by go test ./internal/measure -update -->\n"
	tableEnd   = "<!-- end -->\n"
)

func TestTheDocsListEveryMetric(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), tableBegin)
	_, after, ends := strings.Cut(rest, tableEnd)
	if !begins || !ends {
		t.Fatalf("%s has no place for the table", page)
	}
	want := before + tableBegin + "\n" + markdown() + "\n" + tableEnd + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(text) != want {
		t.Errorf("the table of %s is not that of the code: go test ./internal/measure -update", page)
	}
}

func markdown() string {
	var b strings.Builder
	b.WriteString("| Metric | Type | Labels | Is |\n|---|---|---|---|\n")
	short := strings.NewReplacer(measure.LabelPoolState, "state", measure.LabelPool, "pool")
	for _, m := range measure.Table() {
		labels := short.Replace("`" + strings.Join(m.Labels, "`, `") + "`")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, labels, m.Help)
	}
	return b.String()
}
