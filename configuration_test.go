package poolkeeper_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/health/quality"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

// TestEverySettingIsDocumented compares the exported fields of each configuration with the rows of
// its table in docs/configuration.md: a field without a row is missing, a row without a field is
// stale.
func TestEverySettingIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for heading, config := range map[string]any{
		"lifecycle.Config": lifecycle.Config{},
		"health.Config":    health.Config{},
		"health.Check":     health.Check{},
		"quality.Policy":   quality.Policy{},
		"eviction.Policy":  eviction.Policy{},
		"redispool.Config": redispool.Config{},
		"sqlpool.Config":   sqlpool.Config{},
		"replica.Config":   replica.Config{},
	} {
		rows := settingRows(string(doc), heading)
		if len(rows) == 0 {
			t.Errorf("docs/configuration.md has no table under the heading ## %s", heading)
			continue
		}
		for f := range reflect.TypeOf(config).Fields() {
			if !f.IsExported() {
				continue
			}
			if !rows[f.Name] {
				t.Errorf("## %s has no row for %s", heading, f.Name)
			}
			delete(rows, f.Name)
		}
		for name := range rows {
			t.Errorf("## %s has a row for %s, which is no field", heading, name)
		}
	}
}

// settingRows returns the names in the first column below a heading, up to the next one.
func settingRows(doc, heading string) map[string]bool {
	_, section, found := strings.Cut(doc, "\n## `"+heading+"`\n")
	if !found {
		return nil
	}
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)`").FindAllStringSubmatch(section, -1) {
		rows[m[1]] = true
	}
	return rows
}
