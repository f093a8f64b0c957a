package quality_test

import (
	"context"
	"fmt"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/health/quality"
)

func ExampleMeter() {
	ping := func(context.Context) error { return nil } // pool.Check
	stats := func() poolkeeper.Stats { return poolkeeper.Stats{Max: 20, InUse: 19} }

	meter, err := quality.NewMeter(ping, stats, quality.Policy{MaxSaturation: 0.9})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = meter.Probe(context.Background())
	fmt.Println(err)
	fmt.Println(health.Classify(err).Kind)
	// Output:
	// saturation 95% (limit 90%)
	// pool-exhausted
}
