package schema_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/poolkeeper/poolkeeper/config"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

const schemaFile = "../../config/service.schema.json"

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bySchema is the verdict of the schema on a file, as an editor reads it.
func bySchema(s *jsonschema.Schema, text string) error {
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	if v == nil {
		v = map[string]any{} // an empty file
	}
	return s.Validate(v)
}

// byLoad is the verdict of config.Load in all environments, without the values that references name.
func byLoad(t *testing.T, dir, text string) error {
	t.Helper()
	path := filepath.Join(dir, "service.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := config.Environments(path)
	errs := []error{err}
	for _, environment := range append(all, "") {
		f, err := config.Load(path, config.Environment(environment), config.Offline(), config.Logger(slog.New(slog.DiscardHandler)))
		if err == nil {
			err = f.Abort()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// needs are keys without which Load refuses an entry of a section.
var needs = map[string]map[string]string{
	"redis":               {"url": "redis://cache"},
	"postgres":            {"url": "postgres://db/orders"},
	"mysql":               {"url": "mysql://db/orders"},
	"replicated_postgres": {"primary": `{url: "postgres://db/orders"}`, "replicas": `[{url: "postgres://db2/orders"}]`},
	"replicated_mysql":    {"primary": `{url: "mysql://db/orders"}`, "replicas": `[{url: "mysql://db2/orders"}]`},
	"http":                {"base_url": "http://billing"},
	"servers":             {"addr": "':8080'"},
}

// values are what a key may be given, of every form and of none.
var values = []string{
	"", "null", "~", "true", "false", "yes", "on", "off", "none", "0", "1", "7", "-1", "0.5", "1.5", "1e3", "0x10", "1_000", ".inf", ".nan",
	"1s", "1m30s", "1.5h", "-1s", "+1s", "1", "1 s", "1d", "1S", "s", ".5s", "1.s", "1µs", "1μs", "0s", "00", "1h1h", "OFF", "None", "Primary",
	"fail-fast", "wait-for-server", "start-degraded", "short", "standard", "streaming", "primary", "stale", "abandon", "hold", "critical", "degrading",
	"some text", "/healthz", "http://h", "{env: NAME}", "{file: /run/secret}", "{env: NAME, file: x}", "{env: 1}", "{env: }", "{}", "{x: y}", "[]", "[a]",
	"[1]", "[[a]]", "[{}]", "[null]", "2026-11-30", "!!str x", "*x", "'off'", "\"1s\"", "|\n      1s", ">-\n      off",
}

// loose are values that Load alone may accept: see the doc comment of the package.
var loose = []string{
	"0", "1", "7", "-1", "0.5", "1.5", "1e3", "0x10", "1_000", ".inf", ".nan", "00", "true", "false", "[1]", "{env: 1}",
	"OFF", "None", "Primary", "|\n      1s", ">-\n      off",
}

// undecimal are numbers that Load alone refuses.
var undecimal = []string{"0x10", "1_000"}

// form is what Load says of a value that is written in the wrong form.
var form = regexp.MustCompile(`is not a (key|section)|must be a (whole|duration|mapping|list)|must be true or false|must be one of|is a (scalar|mapping|list);|true or false`)

// agree fails if the two disagree about a file in a way that is not documented.
func agree(t *testing.T, s *jsonschema.Schema, dir, what, text, value string) {
	t.Helper()
	load, schema := byLoad(t, dir, text), bySchema(s, text)
	switch {
	case load == nil && schema != nil && !slices.Contains(loose, value):
		t.Errorf("%s: Load accepts it, and the schema does not: %v\n%s", what, schema, text)
	case load != nil && schema == nil && form.MatchString(load.Error()) && !slices.Contains(undecimal, value):
		t.Errorf("%s: the schema accepts it, and Load does not: %v\n%s", what, load, text)
	}
}

// sectionsOf returns the keys of each section, from the schema: those of an entry if the section has
// names.
func sectionsOf(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Defs struct {
			Sections struct {
				Properties map[string]struct {
					Properties           map[string]any `json:"properties"`
					AdditionalProperties any            `json:"additionalProperties"`
				} `json:"properties"`
			} `json:"sections"`
		} `json:"$defs"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for name, section := range doc.Defs.Sections.Properties {
		keys := section.Properties
		if entry, ok := section.AdditionalProperties.(map[string]any); ok {
			keys, _ = entry["properties"].(map[string]any)
		}
		out[name] = slices.Sorted(maps.Keys(keys))
	}
	return out
}

// one returns a file in which one key of a section has a value.
func one(section, key, value string) string {
	if needs[section] == nil {
		return fmt.Sprintf("%s:\n  %s: %s\n", section, key, value)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s:\n  a:\n", section)
	for _, k := range slices.Sorted(maps.Keys(needs[section])) {
		if k != key {
			fmt.Fprintf(&b, "    %s: %s\n", k, needs[section][k])
		}
	}
	fmt.Fprintf(&b, "    %s: %s\n", key, value)
	return b.String()
}

func TestSchemaAndLoadAgreeOnEveryKey(t *testing.T) {
	testkit.Slow(t)
	s, dir := compiled(t), t.TempDir()
	files := 0
	for section, keys := range sectionsOf(t) {
		for _, key := range append(keys, "nonsense", "name", "Max_open", "tls") {
			for _, value := range values {
				files++
				agree(t, s, dir, section+"."+key, one(section, key, value), value)
			}
		}
	}
	if files < 5000 {
		t.Errorf("only %d files were compared: has the schema another shape?", files)
	}
}

func TestSchemaAndLoadAgreeOnSections(t *testing.T) {
	s, dir := compiled(t), t.TempDir()
	for section := range sectionsOf(t) {
		for _, value := range values {
			agree(t, s, dir, section, fmt.Sprintf("%s: %s\n", section, value), value)
			if needs[section] != nil {
				agree(t, s, dir, section+".a", fmt.Sprintf("%s:\n  a: %s\n", section, value), value)
			}
		}
	}
	for _, value := range values {
		agree(t, s, dir, "environments", fmt.Sprintf("environments: %s\n", value), value)
		agree(t, s, dir, "nonsense", fmt.Sprintf("nonsense: %s\n", value), value)
	}
}

// Whole files: those that are good pass both, and those that are bad pass neither.
func TestSchemaAndLoadAgreeOnWholeFiles(t *testing.T) {
	s, dir := compiled(t), t.TempDir()
	good := map[string]string{"nothing": "", "a comment": "# nothing\n"}
	for _, path := range []string{"../../examples/reload/service.yaml", "../../examples/reload/testdata/service.yaml"} {
		if text, err := os.ReadFile(path); err == nil {
			good[path] = string(text)
		}
	}
	page, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	good["docs/config.md"], _, _ = strings.Cut(rest, "```")
	for name, text := range good {
		if err := errors.Join(byLoad(t, dir, text), bySchema(s, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{
		"redis: {cache: {url: 'redis://h', max_opne: 1}}", "redis: [cache]", "- redis", "redis: {cache: [url]}",
		"redis: {cache: {url: 'redis://h', max_open: many}}", "postgres: {a: {url: 'postgres://h/d', depends_on: b}}",
		"servers: {api: {addr: ':80', ops: perhaps}}", "lifecycle: {health: {interval: 1s}}", "health: {jitter: 2}",
		"http: {a: {base_url: 'http://h', class: tiny}}", "environments: {prod: [redis]}", "environments: [prod]",
		"replicated_mysql: {a: {primary: {url: 'mysql://h/d', nam: x}}}",
	} {
		if load, schema := byLoad(t, dir, text), bySchema(s, text); load == nil || schema == nil {
			t.Errorf("%q is accepted: by Load %t, by the schema %t", text, load == nil, schema == nil)
		}
	}
}
