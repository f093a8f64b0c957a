package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/env"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

// form is how a key's value is written.
type form uint8

const (
	inCode       form = iota // a function, a pointer, an interface: only code can set it
	formText                 // also a reference
	formTexts                // a list of them
	formFlag                 // true or false
	formWhole                // a whole number
	formWaiting              // a whole number, or none
	formPart                 // 0 to 1, or off
	formRatio                // 0 to 1
	formDuration             // 1m30s
	formMayBeOff             // 1m30s, or off
	formWord                 // one of words
	formSection              // keys of its own
	formSections             // a list of sections
)

// key is one key of a section, and the field that it sets.
type key struct {
	name  string // such as "tls_files_ca"
	field string // such as "TLSFiles.CA"
	index []int
	form  form
	words []env.Choice[int64] // of formWord
	typ   reflect.Type
}

// allowed says how a value must be written.
func (k *key) allowed() string {
	switch k.form {
	case formFlag:
		return "true or false"
	case formWhole:
		return "a whole number"
	case formWaiting:
		return "a whole number, or none"
	case formPart:
		return "a number from 0 to 1, or off"
	case formRatio:
		return "a number from 0 to 1"
	case formDuration:
		return "a duration such as 1m30s"
	case formMayBeOff:
		return "a duration such as 1m30s, or off"
	case formWord:
		return "one of " + strings.Join(k.wordList(), ", ")
	case formSection:
		return "a mapping"
	case formSections:
		return "a list of mappings"
	case inCode:
		return "set in code"
	case formTexts:
		return "a list of texts, or a text with commas"
	case formText:
	}
	return "a text, {env: NAME} or {file: PATH}"
}

func (k *key) wordList() []string {
	out := make([]string, len(k.words))
	for i, w := range k.words {
		out[i] = w.Word
	}
	return out
}

// wordsOf returns the words that set a value of an enumerated type, nil for other types.
func wordsOf(t reflect.Type) []env.Choice[int64] {
	choices := func(words ...string) []env.Choice[int64] {
		out := make([]env.Choice[int64], len(words))
		for i, w := range words {
			out[i] = env.Choice[int64]{Word: w, Value: int64(i)}
		}
		return out
	}
	switch t {
	case reflect.TypeFor[poolkeeper.StartPolicy]():
		return choices("fail-fast", "wait-for-server", "start-degraded")
	case reflect.TypeFor[httpclient.Class]():
		return choices("standard", "short", "streaming")
	case reflect.TypeFor[replica.Fallback]():
		return choices("primary", "stale", "none")
	case reflect.TypeFor[health.Impact]():
		return choices("critical", "degrading")
	case reflect.TypeFor[lifecycle.HangPolicy]():
		return choices("abandon", "hold")
	default:
		return nil
	}
}

// keysOf returns the keys of a configuration, in the order of its fields. The field Name is no key if
// the struct is named by the key above it (named).
func keysOf(t reflect.Type, named bool) []key {
	var out []key
	off := mayBeOff(t)
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() || named && f.Name == "Name" {
			continue
		}
		if f.Type == reflect.TypeFor[poolkeeper.TLSFiles]() {
			for j := range f.Type.NumField() {
				part := f.Name + "." + f.Type.Field(j).Name
				out = append(out, key{name: keyName(part), field: part, index: []int{i, j}, form: formText, typ: f.Type.Field(j).Type})
			}
			continue
		}
		k := key{name: keyName(f.Name), field: f.Name, index: []int{i}, typ: f.Type, words: wordsOf(f.Type)}
		k.form = formOf(f, len(k.words) > 0, off[f.Name])
		out = append(out, k)
	}
	return out
}

func keyName(field string) string { return strings.ToLower(env.Words(field)) }

func formOf(f reflect.StructField, chosen, off bool) form {
	switch t := f.Type; {
	case chosen:
		return formWord
	case t == reflect.TypeFor[time.Duration]() && off:
		return formMayBeOff
	case t == reflect.TypeFor[time.Duration]():
		return formDuration
	case t == reflect.TypeFor[string]():
		return formText
	case t == reflect.TypeFor[[]string]():
		return formTexts
	case t == reflect.TypeFor[bool]():
		return formFlag
	case t == reflect.TypeFor[int]() && f.Name == "MaxWaiting":
		return formWaiting
	case t == reflect.TypeFor[int]():
		return formWhole
	case t == reflect.TypeFor[float64]() && strings.HasSuffix(f.Name, "Jitter"):
		return formPart
	case t == reflect.TypeFor[float64]():
		return formRatio
	case t.Kind() == reflect.Struct:
		return formSection
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return formSections
	}
	return inCode
}

// mayBeOff asks a configuration which of its durations may be Off: it sets each by itself and looks
// whether Validate complains.
func mayBeOff(t reflect.Type) map[string]bool {
	out := map[string]bool{}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type != reflect.TypeFor[time.Duration]() {
			continue
		}
		c := reflect.New(t).Elem()
		c.Field(i).SetInt(int64(poolkeeper.Off))
		v, ok := reflect.TypeAssert[interface{ Validate() error }](c)
		if !ok {
			continue
		}
		err := v.Validate()
		out[f.Name] = err == nil || !strings.Contains(err.Error(), f.Name) || !strings.Contains(err.Error(), fmt.Sprint(poolkeeper.Off))
	}
	return out
}
