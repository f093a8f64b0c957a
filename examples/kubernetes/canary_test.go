package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/argoproj/argo-rollouts/utils/evaluate"
	"sigs.k8s.io/yaml"

	"github.com/poolkeeper/poolkeeper/internal/measure"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// averaged is how far the queries look back.
const averaged = 2 * time.Minute

// canary checks the steps and their queries, and the metric of the autoscaler.
func (s *stack) canary() {
	if (len(s.rollouts) == 1) != (s.environment == "prod") || len(s.rollouts) > 1 {
		s.add("there are %d Rollouts", len(s.rollouts))
		return
	}
	for _, r := range s.rollouts {
		if ref := r.Spec.WorkloadRef; ref == nil || ref.Kind != "Deployment" || ref.Name != s.deployments[0].Name {
			s.add("the Rollout takes no Deployment over")
		}
		s.steps(r.Spec.Strategy.Canary.Steps)
	}
	for _, t := range s.templates {
		for _, m := range t.Spec.Metrics {
			s.query(m.Name, m.Provider.Prometheus.Query)
		}
	}
	rule, err := adapterRule()
	if err != nil {
		s.add("monitoring/adapter.yaml: %v", err)
		return
	}
	s.query("the autoscaler's metric", rule.MetricsQuery)
	for _, m := range s.scalers[0].Spec.Metrics {
		pool := m.Pods.Metric.Selector.MatchLabels[measure.LabelPool]
		if m.Pods.Metric.Name != rule.Name.As || !strings.Contains(s.configMaps[0].Data["service.yaml"], "\n  "+pool+":\n") {
			s.add("the autoscaler asks for %s of the pool %q; the adapter has %s", m.Pods.Metric.Name, pool, rule.Name.As)
		}
		if target := m.Pods.Target.AverageValue.AsApproximateFloat64(); target <= 0 || target >= 0.9 {
			s.add("the autoscaler scales at %v of the pool; the alert of a full pool fires at 0.9", target)
		}
	}
}

// steps wait before each analysis, until its queries look at the new pods only.
func (s *stack) steps(steps []rolloutsv1alpha1.CanaryStep) {
	const scrapes = 30 * time.Second // two of them
	judged := 0
	for i, step := range steps {
		if step.Analysis == nil {
			continue
		}
		judged++
		if i == 0 || steps[i-1].Pause == nil || time.Duration(steps[i-1].Pause.DurationSeconds())*time.Second < averaged+scrapes {
			s.add("step %d is judged before its queries can see %s of it", i, averaged+scrapes)
		}
		for _, ref := range step.Analysis.Templates {
			s.judges(step.Analysis, ref.TemplateName)
		}
	}
	if judged == 0 {
		s.add("no step is judged")
	}
}

// judges checks that a template exists, and gets its arguments.
func (s *stack) judges(a *rolloutsv1alpha1.RolloutAnalysis, name string) {
	i := slices.IndexFunc(s.templates, func(t rolloutsv1alpha1.AnalysisTemplate) bool { return t.Name == name })
	if i < 0 {
		s.add("the AnalysisTemplate %q does not exist", name)
		return
	}
	for _, arg := range s.templates[i].Spec.Args {
		if !slices.ContainsFunc(a.Args, func(given rolloutsv1alpha1.AnalysisRunArgument) bool { return given.Name == arg.Name }) {
			s.add("the argument %q of %s is not given", arg.Name, name)
		}
	}
	for _, m := range s.templates[i].Spec.Metrics {
		for _, used := range regexp.MustCompile(`\{\{args\.(\w+)\}\}`).FindAllStringSubmatch(m.Provider.Prometheus.Query, -1) {
			if !slices.ContainsFunc(s.templates[i].Spec.Args, func(a rolloutsv1alpha1.Argument) bool { return a.Name == used[1] }) {
				s.add("the query %s uses %q, which is no argument", m.Name, used[1])
			}
		}
	}
}

// query checks that a query looks at metrics that there are, by labels that they have.
func (s *stack) query(name, expr string) {
	metrics := regexp.MustCompile(`\b(db_client|poolkeeper)_\w+\{`).FindAllString(expr, -1)
	if len(metrics) == 0 {
		s.add("%s: the query has no metric", name)
	}
	for _, m := range metrics {
		m = strings.TrimSuffix(strings.TrimSuffix(m, "{"), "_bucket")
		if measure.ByName(m) == nil {
			s.add("%s: the metric %s does not exist", name, m)
		}
	}
	if strings.Contains(expr, "rollouts_pod_template_hash") && !slices.Contains(s.monitors[0].Spec.PodTargetLabels, "rollouts-pod-template-hash") {
		s.add("%s: the PodMonitor does not copy the label rollouts-pod-template-hash", name)
	}
	for _, window := range regexp.MustCompile(`\[(\w+)\]`).FindAllStringSubmatch(expr, -1) {
		if d, err := time.ParseDuration(window[1]); err != nil || d != averaged {
			s.add("%s: the query looks back %s, want %s", name, window[1], averaged)
		}
	}
}

// rule is one of prometheus-adapter's, in its own words.
type rule struct {
	SeriesQuery string `json:"seriesQuery"`
	Resources   struct {
		Overrides map[string]struct {
			Resource string `json:"resource"`
		} `json:"overrides"`
	} `json:"resources"`
	Name struct {
		Matches string `json:"matches"`
		As      string `json:"as"`
	} `json:"name"`
	MetricsQuery string `json:"metricsQuery"`
}

func adapterRule() (rule, error) {
	text, err := os.ReadFile("monitoring/adapter.yaml")
	if err != nil {
		return rule{}, err
	}
	var file struct {
		Rules []rule `json:"rules"`
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		return rule{}, err
	}
	if len(file.Rules) != 1 {
		return rule{}, fmt.Errorf("it has %d rules", len(file.Rules))
	}
	return file.Rules[0], nil
}

// expanded is the query that the adapter sends for some pods.
func (r rule) expanded() (string, error) {
	query, err := template.New("").Delims("<<", ">>").Parse(r.MetricsQuery)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = query.Execute(&out, map[string]any{
		"Series": measure.Max.Name, "GroupBy": "pod",
		"LabelMatchers": `namespace="orders-prod",pod=~"a|b",` + measure.LabelPool + `="orders"`,
	})
	return out.String(), err
}

// reading is what a query answers to some series, and how it is judged.
type reading struct {
	query  string
	series map[string]string  // values at each quarter of a minute, of 10 minutes
	want   map[string]float64 // by labels, in thousandths
	good   bool
}

const (
	canaryPods = `namespace="orders-prod",rollouts_pod_template_hash="new",`
	stablePods = `namespace="orders-prod",rollouts_pod_template_hash="old",`
	ordersPool = `db_client_connection_pool_name="orders"`
)

func readings() []reading {
	one := func(v float64) map[string]float64 { return map[string]float64{"{}": v} }
	status := func(status, pod, value string) (string, string) {
		return measure.GroupStatus.Name + "{" + canaryPods + `group="ready",status="` + status + `",pod="` + pod + `"}`, value + "x40"
	}
	ready := func(fails string) map[string]string {
		series := map[string]string{}
		for _, of := range [][3]string{{"pass", "a", "1"}, {"fail", "a", "0"}, {"unknown", "a", "0"}, {"fail", "b", fails}, {"unknown", "b", "0"}} {
			name, values := status(of[0], of[1], of[2])
			series[name] = values
		}
		return series
	}
	acquisitions := func(pods, acquired, timeouts, refused string) map[string]string {
		return map[string]string{
			measure.Acquired.Name + "{" + pods + ordersPool + "}": "0+" + acquired + "x40",
			measure.Timeouts.Name + "{" + pods + ordersPool + "}": "0+" + timeouts + "x40",
			measure.Refused.Name + "{" + pods + ordersPool + "}":  "0+" + refused + "x40",
		}
	}
	waits := func(fast, slow string) map[string]string {
		series := map[string]string{}
		for pods, growth := range map[string]string{canaryPods: fast, stablePods: slow} {
			for le, values := range map[string]string{"0.1": growth, "0.5": "100", "+Inf": "100"} {
				series[measure.WaitTime.Name+"_bucket{"+pods+ordersPool+`,le="`+le+`"}`] = "0+" + values + "x40"
			}
		}
		return series
	}
	fleet := func(demand string) map[string]string {
		return map[string]string{
			measure.FleetDemand.Name + "{" + canaryPods + ordersPool + "}": demand + "x40",
			measure.FleetLimit.Name + "{" + canaryPods + ordersPool + "}":  "397x40",
		}
	}
	leaks := func(n string) map[string]string {
		return map[string]string{measure.Leaks.Name + "{" + canaryPods + ordersPool + "}": n + "x40"}
	}
	return []reading{
		{"ready", ready("0"), one(0), true},
		{"ready", ready("1"), one(1), false},
		{"ready", nil, nil, false},
		{"acquire-errors", acquisitions(canaryPods, "998", "1", "1"), one(0.002), true},
		{"acquire-errors", acquisitions(canaryPods, "980", "10", "10"), one(0.02), false},
		{"acquire-errors", acquisitions(stablePods, "0", "10", "10"), nil, true},
		{"acquire-errors", acquisitions(canaryPods, "0", "0", "0"), nil, true},
		{"acquire-wait", waits("100", "100"), nil, true},
		{"acquire-wait", waits("0", "100"), one(0.298), false}, // 0.1 + 0.99 × 0.4, less 2 × 0.099
		{"acquire-wait", waits("0", "0"), nil, true},
		{"leaks", leaks("0"), one(0), true},
		{"leaks", leaks("1"), one(1), false},
		{"leaks", nil, nil, false},
		{"connections", fleet("315"), one(0.793), true},
		{"connections", fleet("420"), one(1.058), false},
	}
}

func saturation() reading {
	series := map[string]string{}
	for pod, values := range map[string][3]string{"a": {"10", "0", "20"}, "b": {"20", "20", "20"}, "c": {"20", "0", "20"}} {
		pods := `namespace="orders-prod",` + ordersPool + `,pod="` + pod + `"`
		series[measure.Count.Name+"{"+pods+`,db_client_connection_state="used"}`] = values[0] + "x40"
		series[measure.Count.Name+"{"+pods+`,db_client_connection_state="idle"}`] = "1x40"
		series[measure.Pending.Name+"{"+pods+"}"] = values[1] + "x40"
		series[measure.Max.Name+"{"+pods+"}"] = values[2] + "x40"
		cache := strings.Replace(pods, `"orders"`, `"cache"`, 1)
		series[measure.Max.Name+"{"+cache+"}"] = "1x40"
	}
	return reading{"autoscaler", series, map[string]float64{`{pod="a"}`: 0.5, `{pod="b"}`: 2}, true}
}

// promtool's input, one test for each reading.
func (r reading) test(expr string) map[string]any {
	series := []any{}
	for name, values := range r.series {
		series = append(series, map[string]any{"series": name, "values": values})
	}
	samples := []any{}
	for labels, value := range r.want {
		samples = append(samples, map[string]any{"labels": labels, "value": value})
	}
	return map[string]any{
		"name": r.query, "interval": "15s", "input_series": series,
		"promql_expr_test": []any{map[string]any{"expr": "round(" + expr + ", 0.001)", "eval_time": "8m", "exp_samples": samples}},
	}
}

// The queries are read by Prometheus' own tool, and their answers judged by Argo's own code.
func TestQueriesJudgeACanaryRight(t *testing.T) {
	prod := objectsOf("prod", render(t, "prod"))
	metrics := map[string]rolloutsv1alpha1.Metric{}
	for _, m := range prod.templates[0].Spec.Metrics {
		metrics[m.Name] = m
	}
	args := strings.NewReplacer("{{args.namespace}}", "orders-prod", "{{args.canary}}", "new", "{{args.stable}}", "old")
	var tests []any
	judged := map[string]map[bool]bool{}
	for _, r := range readings() {
		tests = append(tests, r.test(args.Replace(metrics[r.query].Provider.Prometheus.Query)))
		result := []float64{}
		for _, v := range r.want {
			result = append(result, v)
		}
		good, err := evaluate.EvalCondition(result, metrics[r.query].SuccessCondition)
		if err != nil || good != r.good {
			t.Errorf("%s: %v is judged %v, %v", r.query, result, good, err)
		}
		if judged[r.query] == nil {
			judged[r.query] = map[bool]bool{}
		}
		judged[r.query][r.good] = true
	}
	for name := range metrics {
		if len(judged[name]) != 2 {
			t.Errorf("the query %s is not seen good and bad", name)
		}
	}
	rule, err := adapterRule()
	if err != nil {
		t.Fatal(err)
	}
	expr, err := rule.expanded()
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, append(tests, saturation().test(expr)))
}

func promtool(t *testing.T, tests []any) {
	t.Helper()
	file := map[string]any{"evaluation_interval": "15s", "tests": tests}
	text, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/tests.yaml", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := testserver.Promtool(t, dir, "test", "rules", "tests.yaml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
