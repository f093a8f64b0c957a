package generate

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/poolkeeper/poolkeeper/internal/measure"
)

// Series is what a test gives Prometheus: a selector and a value for each minute.
type Series struct {
	Selector, Values string
}

// Case is the unit test of an alert: when it has not fired, and when it has.
type Case struct {
	Series       []Series
	Quiet, Fires int               // minutes
	Value        string            // as the description shows it
	Labels       map[string]string // of the alert, beside job and severity; nil: those of the pool "orders"
}

// RuleTests returns rules_test.yaml.
func RuleTests() string {
	var b strings.Builder
	b.WriteString("# Written by go test ./ops -update.\nrule_files: [rules.yaml]\nevaluation_interval: 1m\ntests:\n")
	for _, a := range Alerts() {
		fmt.Fprintf(&b, "  - name: %s\n    interval: 1m\n    input_series:\n", a.Name)
		for _, s := range a.Test.Series {
			fmt.Fprintf(&b, "      - series: %s\n        values: %s\n", quote(ofShop(s.Selector)), quote(s.Values))
		}
		b.WriteString("    alert_rule_test:\n")
		fmt.Fprintf(&b, "      - eval_time: %dm\n        alertname: %s\n        exp_alerts: []\n", a.Test.Quiet, a.Name)
		fmt.Fprintf(&b, "      - eval_time: %dm\n        alertname: %s\n        exp_alerts:\n", a.Test.Fires, a.Name)
		a.expect(&b)
	}
	return b.String()
}

// expect writes the alert as it must be when it fires.
func (a *Alert) expect(b *strings.Builder) {
	labels := map[string]string{job: "shop", "severity": a.Severity}
	if a.Test.Labels[measure.LabelComponent] == "" && a.Test.Labels[measure.LabelCheck] == "" {
		labels[measure.LabelPool] = "orders"
	}
	maps.Copy(labels, a.Test.Labels)
	b.WriteString("          - exp_labels:\n")
	for _, l := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(b, "              %s: %s\n", l, quote(labels[l]))
	}
	b.WriteString("            exp_annotations:\n")
	fmt.Fprintf(b, "              summary: %s\n", quote(a.Test.fill(a.Summary, labels)))
	fmt.Fprintf(b, "              description: %s\n", quote(a.Test.fill(a.Description, labels)))
	fmt.Fprintf(b, "              runbook_url: %s\n", a.RunbookURL())
}

var (
	labelInText = regexp.MustCompile(`{{ \$labels\.(\w+) }}`)
	valueInText = regexp.MustCompile(`{{ \$value[^}]* }}`)
)

// fill does to a text what Prometheus does.
func (c *Case) fill(text string, labels map[string]string) string {
	text = labelInText.ReplaceAllStringFunc(text, func(s string) string {
		return labels[labelInText.FindStringSubmatch(s)[1]]
	})
	return valueInText.ReplaceAllLiteralString(text, c.Value)
}

// ofShop adds the labels of a target.
func ofShop(selector string) string {
	return strings.TrimSuffix(selector, "}") + ", " + is(job, "shop") + "}"
}

// quote writes a text as YAML does without escapes.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
