package suite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// report collects the results of all scenarios.
type report struct {
	mu   sync.Mutex                    // guards the following
	rows map[string]map[string]*result // by scenario and library
}

func newReport() *report { return &report{rows: map[string]map[string]*result{}} }

func (r *report) add(lib library, s scenario, res *result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows[s.name] == nil {
		r.rows[s.name] = map[string]*result{}
	}
	r.rows[s.name][lib.name] = res
}

// write prints the tables. The whole suite writes them to faults.md beside the charts as well.
func (r *report) write(tb testing.TB) {
	tb.Helper()
	text := r.text()
	tb.Log("\n" + text)
	if dir := os.Getenv("POOLKEEPER_MEASURE"); whole() && dir != "" && dir != "1" {
		if err := os.WriteFile(filepath.Join(dir, "faults.md"), []byte(text), 0o644); err != nil { //nolint:gosec // a page
			tb.Error(err)
		}
	}
}

// text has a table for each scenario, and a list of the cells in which a managed pool is worse.
func (r *report) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out, worse strings.Builder
	for _, s := range scenarios() {
		if len(r.rows[s.name]) == 0 {
			continue
		}
		shown := s.columns(r.rows[s.name])
		fmt.Fprintf(&out, "### %s\n\n| | |", strings.ToUpper(s.name[:1])+s.name[1:])
		for _, i := range shown {
			fmt.Fprintf(&out, " %s |", columns[i].name)
		}
		out.WriteString("\n|---|---|" + strings.Repeat("---|", len(shown)) + "\n")
		for _, lib := range everyLibrary() {
			if res := r.rows[s.name][lib.name]; res != nil {
				res.rowsOf(&out, lib, shown)
				for _, name := range res.worse {
					fmt.Fprintf(&worse, "- %s, %s: %s%s\n", s.name, lib.name, name, s.reason(name))
				}
			}
		}
		out.WriteString("\n")
	}
	if worse.Len() > 0 {
		out.WriteString("### Where a managed pool is worse\n\n" + worse.String())
	}
	return out.String()
}

// columns are the indices of those that say something in a scenario's table.
func (s scenario) columns(rows map[string]*result) (shown []int) {
	for i, c := range columns {
		for _, res := range rows {
			some := false
			for _, o := range res.outcomes {
				some = some || c.show(o) != ""
			}
			if some {
				shown = append(shown, i)
				break
			}
		}
	}
	return shown
}

func (r *result) rowsOf(out *strings.Builder, lib library, shown []int) {
	name := lib.name
	for _, w := range r.ways {
		o := r.outcomes[w.name]
		if o == nil {
			continue
		}
		fmt.Fprintf(out, "| %s | %s |", name, w.name)
		for _, i := range shown {
			fmt.Fprintf(out, " %s |", columns[i].show(o))
		}
		out.WriteString("\n")
		name = ""
	}
}

// reason is why a column may be worse, if the scenario knows.
func (s scenario) reason(column string) string {
	column, _, _ = strings.Cut(column, " (")
	if why := s.worse[column]; why != "" {
		return ": " + why
	}
	return ""
}
