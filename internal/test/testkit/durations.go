package testkit

import (
	"math"
	"reflect"
	"time"
)

// Extremes are the values that a duration is tried with: the ends, and both sides of zero.
var Extremes = []time.Duration{0, 1, -1, -2 * time.Second, math.MaxInt64, math.MaxInt64 - 1} //nolint:gochecknoglobals // a constant

// Durations returns the addresses of all durations among the exported fields of a struct, by their
// names. config points to the struct. It follows structs and pointers to structs.
func Durations(config any) map[string]*time.Duration {
	out := map[string]*time.Duration{}
	durations(reflect.ValueOf(config).Elem(), out)
	return out
}

func durations(v reflect.Value, out map[string]*time.Duration) {
	for i := range v.NumField() {
		f, field := v.Type().Field(i), v.Field(i)
		if !f.IsExported() {
			continue
		}
		if field.Kind() == reflect.Pointer && !field.IsNil() {
			field = field.Elem()
		}
		switch d, isDuration := reflect.TypeAssert[*time.Duration](field.Addr()); {
		case isDuration:
			out[f.Name] = d
		case field.Kind() == reflect.Struct:
			durations(field, out)
		}
	}
}
