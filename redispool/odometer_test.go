package redispool_test

import (
	"math"
	"testing"

	"github.com/poolkeeper/poolkeeper/redispool"
)

// go-redis counts in 32 bits: 2³² checkouts are an hour's work of a busy service.
func TestTotalsGoOnWhenTheCounterBeginsAnew(t *testing.T) {
	var o redispool.Odometer
	for _, step := range []struct {
		counter uint32
		total   uint64
	}{
		{10, 10},
		{1 << 30, 1 << 30},
		{5 << 29, 5 << 29},
		{math.MaxUint32, math.MaxUint32},
		{4, math.MaxUint32 + 5},
		{3, math.MaxUint32 + 5}, // read before the last one, and reported after it
		{5, math.MaxUint32 + 6},
	} {
		if got := o.Total(step.counter); got != step.total {
			t.Errorf("at %d: %d, want %d", step.counter, got, step.total)
		}
	}
}
