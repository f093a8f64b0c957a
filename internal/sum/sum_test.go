package sum_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/sum"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every field of Stats is summed, but for those that Add leaves to its caller: a new field is not
// forgotten.
func TestNoFieldIsForgotten(t *testing.T) {
	var s poolkeeper.Stats
	fill(reflect.ValueOf(&s).Elem())
	s.LastDialError, s.LastDialErrorTime = errors.New("refused"), time.Now()
	s.Fleet = poolkeeper.FleetStats{Asked: time.Now(), Demand: 9, Limit: 10}
	var total poolkeeper.Stats
	sum.Add(&total, &s)
	sum.Add(&total, &s)
	v := reflect.ValueOf(total)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		left := name == "DownSince" || name == "Members"
		if left != v.Field(i).IsZero() {
			t.Errorf("%s is %v", name, v.Field(i))
		}
	}
	if total.Open != 2 || total.Evicted["idle"] != 2 || total.Wait.Count != 2 || total.Wait.Buckets[0].Count != 2 || s.Wait.Buckets[0].Count != 1 {
		t.Errorf("%+v of twice %+v", total, s)
	}
	if total.OldestHold != 1 || total.SweepLate != 1 {
		t.Errorf("ages are summed: %+v", total)
	}
}

func fill(v reflect.Value) {
	for _, f := range v.Fields() {
		switch {
		case f.CanInt():
			f.SetInt(1)
		case f.CanUint():
			f.SetUint(1)
		case f.Kind() == reflect.Bool:
			f.SetBool(true)
		case f.Type() == reflect.TypeFor[map[string]uint64]():
			f.Set(reflect.ValueOf(map[string]uint64{"idle": 1}))
		case f.Type() == reflect.TypeFor[poolkeeper.Histogram]():
			f.Set(reflect.ValueOf(poolkeeper.Histogram{Count: 1, Sum: 1, Buckets: []poolkeeper.Bucket{{UpperBound: 1, Count: 1}}}))
		}
	}
}
