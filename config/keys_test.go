package config_test

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/config"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// committed compares a text with the part of a file that holds it, or with a file as a whole.
func committed(t *testing.T, file, begin, end, want string) {
	t.Helper()
	have, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	before, after := "", ""
	part := string(have)
	if begin != "" {
		var ok bool
		if before, part, ok = strings.Cut(part, begin); !ok {
			t.Fatalf("%s has no %s", file, begin)
		}
		if part, after, ok = strings.Cut(part, end); !ok {
			t.Fatalf("%s has no %s", file, end)
		}
	}
	if part == want {
		return
	}
	if !*update {
		t.Errorf("%s is not up to date: go test -update ./config", file)
		return
	}
	if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSchemaIsUpToDate(t *testing.T) {
	schema := config.Schema()
	var any map[string]any
	if err := json.Unmarshal(schema, &any); err != nil {
		t.Fatal(err)
	}
	committed(t, "service.schema.json", "", "", string(schema))
}

func TestDocsListEveryKey(t *testing.T) {
	committed(t, "../docs/config.md", "<!-- keys -->\n", "<!-- /keys -->", config.KeyTable())
}

// codeOnly are the fields that no text can set. A field of a type that is new to this package must
// be a key, or be listed here on purpose.
var codeOnly = []string{
	"Options", "TLS", "Credentials", "Logger", "Configure", "Authorize", "Wrap", "DialContext", "Proxy", "Signals", "OnTransition",
}

// Every exported field of every Config is a key that sets it, or is known to be for code only.
func TestEveryFieldIsAKeyOrForCode(t *testing.T) {
	seen := 0
	for _, s := range config.Sections() {
		seen += everyField(t, s.Section, s.Config)
	}
	if seen < 150 {
		t.Errorf("only %d fields were seen", seen)
	}
}

func everyField(t *testing.T, section string, c reflect.Type) (n int) {
	t.Helper()
	keys := config.Keys(c)
	for f := range c.Fields() {
		if !f.IsExported() || f.Name == "Name" {
			continue
		}
		n++
		settable := slices.ContainsFunc(keys, func(k config.Key) bool { return k.Field == f.Name || strings.HasPrefix(k.Field, f.Name+".") })
		if code := slices.Contains(codeOnly, f.Name); settable == code {
			t.Errorf("%s: %s.%s, a %s: a key %v, for code only %v", section, c, f.Name, f.Type, settable, code)
		}
	}
	return n
}

// Each key of a pool, set to a value of its form, arrives in the field of its name.
func TestEveryKeySetsItsField(t *testing.T) {
	for _, s := range config.Sections() {
		for _, k := range config.Keys(s.Config) {
			if k.Value == "" {
				continue // a section of its own
			}
			got, err := config.Decode(s.Config, k.Name+": "+k.Value)
			if err != nil {
				t.Errorf("%s.%s: %v", s.Section, k.Name, err)
				continue
			}
			field := reflect.ValueOf(got)
			for part := range strings.SplitSeq(k.Field, ".") {
				field = field.FieldByName(part)
			}
			if field.IsZero() {
				t.Errorf("%s.%s: %s was not set by %s", s.Section, k.Name, k.Field, k.Value)
			}
		}
	}
}

// The logger of Load is that of the servers of a replicated pool too.
func TestLoggerReachesEveryPool(t *testing.T) {
	var log testkit.Log
	f, err := config.Load(write(t, "replicated_postgres: {a: {primary: {url: 'postgres://127.0.0.1:1/d', start: start-degraded}}}"), config.Logger(log.Logger()))
	if err != nil {
		t.Fatal(err)
	}
	a, err := f.ReplicatedPostgres("a")
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Start(t.Context())
	_ = a.Stop(t.Context())
	if !strings.Contains(log.String(), "a/primary") {
		t.Errorf("the log says %q", log.String())
	}
}
