package sqlpool_test

import "reflect"

// like returns the fields of one kind of configuration as those of another, by their names. It
// panics if a field is set that the other does not have.
func like[To any](from any) To {
	var out To
	to := reflect.ValueOf(&out).Elem()
	for f, v := range reflect.ValueOf(from).Fields() {
		if v.IsZero() {
			continue
		}
		into := to.FieldByName(f.Name)
		if !into.IsValid() || into.Type() != v.Type() {
			panic("no such field: " + f.Name)
		}
		into.Set(v)
	}
	return out
}
