// Package settings prints and compares configurations.
package settings

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Config prints the fields of the struct v that are not zero, under the given type name. Of
// functions, pointers and interfaces, and of the fields that are named as secret, it says only that
// they are set.
func Config(name string, v any, secret ...string) string {
	var b strings.Builder
	b.WriteString(name)
	b.WriteByte('{')
	value := reflect.ValueOf(v)
	for i := range value.NumField() {
		f, field := value.Type().Field(i), value.Field(i)
		if field.IsZero() || !f.IsExported() {
			continue
		}
		if b.Len() > len(name)+1 {
			b.WriteByte(' ')
		}
		b.WriteString(f.Name)
		b.WriteByte(':')
		switch kind := field.Kind(); {
		case slices.Contains(secret, f.Name), kind == reflect.Func, kind == reflect.Pointer, kind == reflect.Interface:
			b.WriteString("…")
		default:
			b.WriteString(text(field))
		}
	}
	b.WriteByte('}')
	return b.String()
}

// text prints a field: of a struct only what is not zero. One that prints itself is left to it.
func text(field reflect.Value) string {
	v := field.Interface()
	if _, prints := v.(fmt.Formatter); field.Kind() == reflect.Struct && !prints {
		if _, prints = v.(fmt.Stringer); !prints {
			return Config("", v)
		}
	}
	return fmt.Sprint(v)
}
