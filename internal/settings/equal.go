package settings

import (
	"reflect"
	"slices"
	"unsafe"

	"github.com/poolkeeper/poolkeeper"
)

// Diff compares two structs of one type, given as pointers, field by field, and does not tell the
// values of those that are named as secret.
func Diff(from, to any, secret ...string) []poolkeeper.Change {
	var out []poolkeeper.Change
	a, b := reflect.ValueOf(from).Elem(), reflect.ValueOf(to).Elem()
	for i := range a.NumField() {
		x, y := a.Field(i), b.Field(i)
		if Equal(x, y) {
			continue
		}
		c := poolkeeper.Change{Field: a.Type().Field(i).Name, From: "…", To: "…"}
		if k := x.Kind(); k != reflect.Func && k != reflect.Pointer && !slices.Contains(secret, c.Field) {
			c.From, c.To = text(x), text(y)
		}
		out = append(out, c)
	}
	return out
}

// Equal compares a field of two configurations. Functions, pointers, and what interfaces hold of
// these, are equal only if they are the same ones.
func Equal(x, y reflect.Value) bool {
	if x.Kind() == reflect.Interface && !x.IsNil() && !y.IsNil() {
		x, y = x.Elem(), y.Elem()
	}
	if x.Kind() != y.Kind() {
		return false
	}
	switch x.Kind() { //nolint:exhaustive // the rest can be compared
	case reflect.Func:
		return closure(x) == closure(y)
	case reflect.Pointer:
		return x.Pointer() == y.Pointer()
	default:
		return reflect.DeepEqual(x.Interface(), y.Interface())
	}
}

// closure tells functions apart that are made by the same line of code and have got hold of
// different variables, such as two passwords; reflect's Pointer is that of the code, which they
// share. A function value is a pointer to its closure.
func closure(f reflect.Value) unsafe.Pointer {
	v := reflect.New(f.Type())
	v.Elem().Set(f)
	return *(*unsafe.Pointer)(v.UnsafePointer())
}
