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
			_, _ = fmt.Fprintf(&b, "%v", field.Interface()) // a Builder does not fail
		}
	}
	b.WriteByte('}')
	return b.String()
}
