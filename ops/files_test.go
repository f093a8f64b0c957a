package ops_test

import (
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/measure"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/ops/internal/generate"
)

var update = flag.Bool("update", false, "write the files of ops/ anew")

func TestTheFilesAreWhatTheGeneratorWrites(t *testing.T) {
	for file, want := range map[string]string{
		"rules.yaml":          generate.Rules(generate.Timing{}),
		"rules_test.yaml":     generate.RuleTests(),
		"prometheusrule.yaml": generate.PrometheusRule(),
		"dashboard.json":      generate.Dashboard(),
	} {
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not up to date: go test ./ops -update", file)
		}
	}
}

func TestPromtoolFindsTheRulesRight(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"},
		{"test", "rules", "rules_test.yaml"},
	} {
		if out, err := testserver.Promtool(t, ".", args...); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// Each alert has a section that says what to do, and each section an alert.
func TestEachAlertHasASectionInTheDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, m := range regexp.MustCompile(`(?ms)^### (Poolkeeper\w+)\n(.*?)(?:^##|\z)`).FindAllStringSubmatch(
		strings.ReplaceAll(string(page), "\n### ", "\n###\n### "), -1,
	) {
		sections[m[1]] = m[2]
	}
	for _, a := range generate.Alerts() {
		text, ok := sections[a.Name]
		if !ok {
			t.Errorf("docs/operations.md has no section ### %s", a.Name)
			continue
		}
		delete(sections, a.Name)
		for _, part := range []string{"*Symptom.*", "*Likely cause.*", "*What to look at.*", "*What to change.*"} {
			if !strings.Contains(text, part) {
				t.Errorf("the section of %s has no %s", a.Name, part)
			}
		}
		if _, anchor, ok := strings.Cut(a.RunbookURL(), "docs/operations.md#"); !ok || anchor != strings.ToLower(a.Name) {
			t.Errorf("the runbook of %s is at %s", a.Name, a.RunbookURL())
		}
	}
	for name := range sections {
		t.Errorf("docs/operations.md has a section on %s, which is no alert", name)
	}
}

// A metric that nothing shows is one that nobody needs.
func TestTheDashboardShowsNearlyEveryMetric(t *testing.T) {
	rules, board := generate.Rules(generate.Timing{}), generate.Dashboard()
	if !json.Valid([]byte(board)) {
		t.Fatal("the dashboard is no JSON")
	}
	elsewhere := map[*measure.Metric]string{
		measure.IdleMax:         "equal to the limit in these pools",
		measure.WaitSum:         "the histogram of waits has its sum",
		measure.LastDialError:   "for ad-hoc queries",
		measure.FleetWarnings:   "the demand and the limit are shown",
		measure.FleetAsked:      "for ad-hoc queries",
		measure.Members:         "shown one by one",
		measure.MemberPrimary:   "for ad-hoc queries",
		measure.MemberState:     "for ad-hoc queries",
		measure.CheckFailures:   "the verdict is shown",
		measure.CheckHung:       "the age of the verdict alerts",
		measure.HeartbeatAge:    "the group live is what it decides",
		measure.HeartbeatMaxAge: "the group live is what it decides",
		measure.ComponentStop:   "a scrape sees it during a shutdown only",
		measure.Unreadable:      "for ad-hoc queries",
	}
	for _, m := range measure.Table() {
		used := strings.Contains(rules, m.Name) || strings.Contains(board, m.Name)
		if why, left := elsewhere[m]; used == left {
			t.Errorf("%s is used: %v; left out because %q", m.Name, used, why)
		}
	}
}

// docs/metrics.md lists the alerts, with their severities.
func TestTheDocsListEveryAlert(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(Poolkeeper\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(string(page), -1)
	alerts := generate.Alerts()
	if len(rows) != len(alerts) {
		t.Fatalf("docs/metrics.md lists %d alerts of %d", len(rows), len(alerts))
	}
	for i, a := range alerts {
		if rows[i][1] != a.Name || rows[i][2] != a.Severity {
			t.Errorf("row %d is %q, want %s, %s", i, rows[i][1:], a.Name, a.Severity)
		}
	}
}
