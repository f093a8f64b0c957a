package suite_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
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

// write prints the tables. The whole suite writes them to faults.md in the directory that
// POOLKEEPER_MEASURE names.
func (r *report) write(tb testing.TB) {
	tb.Helper()
	text := r.text()
	tb.Log("\n" + text)
	if dir := os.Getenv(testkit.MeasureEnv); whole() && dir != "1" {
		if err := os.WriteFile(filepath.Join(dir, "faults.md"), []byte(head()+text), 0o644); err != nil { //nolint:gosec // a page
			tb.Error(err)
		}
	}
}

// head is the beginning of the page.
func head() string {
	versions := []string{runtime.Version()}
	for _, program := range []string{"redis-server", "postgres", "mariadbd", "pgbouncer"} {
		versions = append(versions, version(program))
	}
	modules := []string{"github.com/redis/go-redis/v9", "github.com/jackc/pgx/v5", "github.com/go-sql-driver/mysql"}
	list := append([]string{"list", "-m", "-f", "{{.Path}} {{.Version}}"}, modules...)
	if out, err := exec.CommandContext(context.Background(), "go", list...).Output(); err == nil {
		for line := range strings.Lines(string(out)) {
			versions = append(versions, strings.TrimPrefix(strings.TrimSpace(line), "github.com/"))
		}
	}
	return fmt.Sprintf(`# Faults, raw beside managed

Made by %s, with seed %d. Do not edit: [reliability](reliability.md) explains the columns.

%s.

Each cell is "raw → managed". The cell of failed calls has a managed pool without fail-fast in the
middle, because calls that fail at once are more calls. A bold cell is worse than raw by more than
noise, in the mean of two rounds.

`, "`make faults`", *seedFlag, strings.Join(versions, ";\n"))
}

// version is what a program says of itself, in its first line.
func version(program string) string {
	path := program
	for _, dir := range []string{"/usr/sbin", "/usr/lib/postgresql/*/bin"} {
		if found, err := filepath.Glob(filepath.Join(dir, program)); err == nil && len(found) > 0 {
			path = found[len(found)-1]
		}
	}
	out, err := exec.CommandContext(context.Background(), path, "--version").Output()
	if err != nil {
		return program
	}
	line, _, _ := strings.Cut(string(out), "\n")
	words := strings.Fields(line)
	for _, w := range words { // such as "v=7.0.15", "15.13", "10.11.11-MariaDB,"
		if w = strings.TrimPrefix(strings.Trim(w, "(),"), "v="); w != "" && w[0] >= '0' && w[0] <= '9' {
			return program + " " + w
		}
	}
	return strings.Join(words, " ")
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
		fmt.Fprintf(&out, "## %s\n\n| |", strings.ToUpper(s.name[:1])+s.name[1:])
		for _, i := range shown {
			fmt.Fprintf(&out, " %s |", columns[i].name)
		}
		out.WriteString("\n|---|" + strings.Repeat("---|", len(shown)) + "\n")
		for _, lib := range everyLibrary() {
			if res := r.rows[s.name][lib.name]; res != nil {
				res.row(&out, lib, shown)
				for _, name := range res.worse {
					fmt.Fprintf(&worse, "| %s | %s | %s | %s |\n", s.name, lib.name, name, s.reason(name))
				}
			}
		}
		out.WriteString("\n")
	}
	if worse.Len() > 0 {
		out.WriteString("## Where a managed pool is worse\n\n| scenario | library | column | why |\n|---|---|---|---|\n" + worse.String())
	}
	if soakText != "" {
		out.WriteString("\n## Random faults\n\n" + soakText)
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

// row has all ways of a library.
func (r *result) row(out *strings.Builder, lib library, shown []int) {
	fmt.Fprintf(out, "| %s |", lib.name)
	for _, i := range shown {
		fmt.Fprintf(out, " %s |", r.cell(i))
	}
	out.WriteString("\n")
}

func (r *result) cell(column int) string {
	c := columns[column]
	var values []string
	for _, w := range r.ways {
		if w == patientWay && column > 0 || r.outcomes[w.name] == nil {
			continue
		}
		if v := c.show(r.outcomes[w.name]); v != "" {
			values = append(values, v)
		}
	}
	cell := strings.Join(values, " → ")
	if slices.Contains(r.worse, c.name) || column == 0 && slices.Contains(r.worse, c.name+patientNote) {
		return "**" + cell + "**"
	}
	return cell
}

// reason is why a column may be worse, if the scenario knows.
func (s scenario) reason(column string) string {
	column, _, _ = strings.Cut(column, " (")
	if why := s.worse[column]; why != "" {
		return why
	}
	return ""
}
