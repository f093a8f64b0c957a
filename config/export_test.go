package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// IsFirst reports whether an instance of that name is among the first by Stage(percent).
func IsFirst(name string, percent int) bool { return (&Watcher{name: name, stage: percent}).first() }

// Schema is the JSON schema.
func Schema() []byte { return schema() }

// Section is a section of the file and the type that it fills.
type Section struct {
	Section string
	Config  reflect.Type
}

// Sections returns all of them.
func Sections() []Section {
	var out []Section
	for _, k := range kinds() {
		out = append(out, Section{k.section, k.config})
	}
	return append(out, Section{serversKey, reflect.TypeFor[server]()},
		Section{lifecycleKey, reflect.TypeFor[lifecycle.Config]()}, Section{healthKey, reflect.TypeFor[health.Config]()})
}

// Key is a key, its field, and a value of its form; Value is empty for sections.
type Key struct{ Name, Field, Value string }

// Keys returns the keys that a file can set.
func Keys(t reflect.Type) []Key {
	values := map[form]string{
		formText: "x", formTexts: "a:1,b:2", formFlag: "true", formWhole: "7", formWaiting: "none", formPart: "off", formRatio: "0.5", formDuration: "1m30s", formMayBeOff: "off",
	}
	var out []Key
	for _, k := range keysOf(t, true) {
		if k.form == inCode {
			continue
		}
		v := values[k.form]
		if k.form == formWord {
			v = k.wordList()[1]
		}
		out = append(out, Key{k.name, k.field, v})
	}
	return out
}

// Decode fills a configuration.
func Decode(t reflect.Type, text string) (any, error) {
	d := &decoder{faults: &faults{file: "test"}}
	v := reflect.New(t).Elem()
	d.fill(v, parse([]byte(text), d.faults), true)
	return v.Interface(), d.err()
}

// KeyTable is the table of docs/config.md.
func KeyTable() string {
	var b strings.Builder
	for _, s := range Sections() {
		of := s.Config.String()
		if s.Section == serversKey {
			of = "http.Server"
		}
		fmt.Fprintf(&b, "\n### %s\n\n| Key | Field of `%s` | Value |\n|---|---|---|\n", s.Section, of)
		for _, k := range keysOf(s.Config, true) {
			if k.form == inCode || s.Section == lifecycleKey && k.name == healthKey {
				continue
			}
			fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", k.name, k.field, k.allowed())
		}
		switch s.Section {
		case lifecycleKey, healthKey:
		case serversKey:
			fmt.Fprintf(&b, "| `%s` | | a list of names |\n", dependsKey)
		default:
			fmt.Fprintf(&b, "| `%s` | | a list of names |\n| `%s` | | one of critical, degrading |\n", dependsKey, impactKey)
		}
	}
	return b.String() + "\n"
}

// Sample is what a pool has counted.
type Sample struct {
	Acquired, Errors, Waits uint64
	Waited                  time.Duration
	Down                    bool
	Crowded                 int
}

// Worse says why after is worse than before.
func Worse(before, after Sample) string {
	of := func(s Sample) sample { return sample{s.Acquired, s.Errors, s.Waits, s.Waited, s.Down, s.Crowded} }
	return of(after).worse(of(before))
}
