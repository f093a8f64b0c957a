package metrics_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// Whatever a component is called: a scrape can be read, its labels are UTF-8 and of bounded length, and
// a name that fits comes back as it is.
func FuzzLabels(f *testing.F) {
	for _, s := range []string{"cache", "a\"b\\c\nd", "\xff\xc2", strings.Repeat("é", 150), "x\"} 1\nevil{a=\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" || strings.TrimSpace(name) != name {
			return
		}
		reg := lifecycle.New(lifecycle.Config{Logger: testkit.Silent()})
		reg.Add(name, lifecycle.Hooks{})
		if reg.Validate() != nil {
			return
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(text(t, reg)))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for family, m := range families {
			if !strings.HasPrefix(family, "poolkeeper_") {
				t.Fatalf("%q makes a metric %q", name, family)
			}
			for _, each := range m.GetMetric() {
				for _, label := range each.GetLabel() {
					value := label.GetValue()
					if !utf8.ValidString(value) || len(value) > 3*201 {
						t.Fatalf("%q is the label %q", name, value)
					}
					found = found || value == name
				}
			}
		}
		if !found && utf8.ValidString(name) && len(name) <= 201 {
			t.Fatalf("%q is no label", name)
		}
	})
}
