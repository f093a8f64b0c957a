package generate

import (
	"fmt"
	"strings"
	"time"
)

// runbooks is where each alert has a section.
const runbooks = "https://github.com/poolkeeper/poolkeeper/blob/main/docs/operations.md"

// Severities.
const (
	critical = "critical" // users notice: a person has to act now
	warning  = "warning"  // users will notice: a person has to act in working hours
	info     = "info"     // it explains other alerts
)

// Record is a recording rule.
type Record struct {
	Name, Expr string
}

// Alert is an alerting rule.
type Alert struct {
	Name     string
	Severity string
	Expr     string
	For      time.Duration
	// Summary and Description may have {{ $labels.x }} and {{ $value … }}.
	Summary, Description string
	Test                 Case
}

// RunbookURL leads to the section of an alert in docs/operations.md.
func (a *Alert) RunbookURL() string { return runbooks + "#" + strings.ToLower(a.Name) }

// Timing says how often rules are evaluated. The zero Timing is for services; tests need not wait for
// minutes.
type Timing struct {
	Interval time.Duration // zero: Prometheus' own
	Shorten  int           // divides the time that an alert has to hold before it fires; zero: 1
}

// Rules returns rules.yaml.
func Rules(t Timing) string {
	var b strings.Builder
	b.WriteString("# Written by go test ./ops -update. docs/metrics.md describes them, docs/operations.md what to do.\n")
	b.WriteString("groups:\n")
	group(&b, "poolkeeper-records", t)
	for _, r := range Records() {
		fmt.Fprintf(&b, "      - record: %s\n", r.Name)
		block(&b, "expr", r.Expr)
	}
	group(&b, "poolkeeper-alerts", t)
	for _, a := range Alerts() {
		fmt.Fprintf(&b, "      - alert: %s\n", a.Name)
		block(&b, "expr", a.Expr)
		if a.For > 0 {
			fmt.Fprintf(&b, "        for: %s\n", duration(a.For/time.Duration(max(t.Shorten, 1))))
		}
		fmt.Fprintf(&b, "        labels:\n          severity: %s\n        annotations:\n", a.Severity)
		fmt.Fprintf(&b, "          summary: %q\n", a.Summary)
		fmt.Fprintf(&b, "          description: %q\n", a.Description)
		fmt.Fprintf(&b, "          runbook_url: %s\n", a.RunbookURL())
	}
	return b.String()
}

// PrometheusRule returns prometheusrule.yaml: the rules as the Prometheus operator reads them.
func PrometheusRule() string {
	_, groups, _ := strings.Cut(Rules(Timing{}), "\n")
	return "# Written by go test ./ops -update: rules.yaml for the Prometheus operator.\n" +
		"apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: poolkeeper\nspec:\n  " +
		strings.ReplaceAll(strings.TrimSuffix(groups, "\n"), "\n", "\n  ") + "\n"
}

func group(b *strings.Builder, name string, t Timing) {
	fmt.Fprintf(b, "  - name: %s\n", name)
	if t.Interval > 0 {
		fmt.Fprintf(b, "    interval: %s\n", duration(t.Interval))
	}
	b.WriteString("    rules:\n")
}

// block writes a text of several lines.
func block(b *strings.Builder, key, text string) {
	fmt.Fprintf(b, "        %s: |-\n", key)
	for line := range strings.Lines(text) {
		b.WriteString("          " + strings.TrimRight(line, "\n") + "\n")
	}
}
