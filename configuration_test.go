package poolkeeper_test

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/health/quality"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// TestEverySettingIsDocumented compares the exported fields of each configuration with the rows of
// its table in docs/configuration.md: a field without a row is missing, a row without a field is
// stale.
func TestEverySettingIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for heading, configs := range map[string][]any{
		"`lifecycle.Config`":      {lifecycle.Config{}},
		"`health.Config`":         {health.Config{}},
		"`health.Check`":          {health.Check{}},
		"`quality.Policy`":        {quality.Policy{}},
		"`eviction.Policy`":       {eviction.Policy{}},
		"`httpclient.Config`":     {httpclient.Config{}},
		"`redispool.AdoptConfig`": {redispool.AdoptConfig{}},
		"`redispool.Config`":      {redispool.Config{}},
		"`sqlpool.PostgresConfig`, `MySQLConfig`, `DBConfig`, `AdoptConfig`": {
			sqlpool.PostgresConfig{}, sqlpool.MySQLConfig{}, sqlpool.DBConfig{}, sqlpool.AdoptConfig{},
		},
		"`statuspage.Config`":                     {statuspage.Config{}},
		"`poolkeeper.Isolation`":                  {poolkeeper.Isolation{}},
		"`replica.PostgresConfig`, `MySQLConfig`": {replica.PostgresConfig{}, replica.MySQLConfig{}},
	} {
		rows := settingRows(string(doc), heading)
		if len(rows) == 0 {
			t.Errorf("docs/configuration.md has no table under the heading ## %s", heading)
			continue
		}
		stale := maps.Clone(rows)
		for _, config := range configs {
			kind := reflect.TypeOf(config)
			for f := range kind.Fields() {
				if !f.IsExported() {
					continue
				}
				if !rows[f.Name].of(kind) {
					t.Errorf("## %s has no row for %s.%s", heading, kind, f.Name)
				}
				delete(stale, f.Name)
			}
			for name, r := range rows {
				if _, ok := kind.FieldByName(name); !ok && r.of(kind) {
					t.Errorf("## %s has a row for %s.%s, which is no field", heading, kind, name)
				}
			}
		}
		for name := range stale {
			t.Errorf("## %s has a row for %s, which is no field", heading, name)
		}
	}
}

// settingRow is a row of a table. Its second column may say which kinds of configuration have the
// field.
type settingRow struct {
	found bool
	kinds []string // empty: all of them
}

func (r settingRow) of(config reflect.Type) bool {
	return r.found && (len(r.kinds) == 0 || slices.Contains(r.kinds, strings.TrimSuffix(config.Name(), "Config")))
}

// settingRows returns the rows below a heading, up to the next one, by the names in the first
// column.
func settingRows(doc, heading string) map[string]settingRow {
	_, section, found := strings.Cut(doc, "\n## "+heading+"\n")
	if !found {
		return nil
	}
	section, _, _ = strings.Cut(section, "\n## ")
	ofKinds := strings.Contains(section, "| Field | Of |")
	rows := map[string]settingRow{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]*) ?\\|").FindAllStringSubmatch(section, -1) {
		row := settingRow{found: true}
		if ofKinds {
			row.kinds = strings.Split(strings.TrimSpace(m[2]), ", ")
		}
		rows[m[1]] = row
	}
	return rows
}
