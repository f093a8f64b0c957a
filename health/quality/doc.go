// Package quality judges how well a pool serves while its server answers: slow round trips, a
// saturated pool and failing dials are warnings long before a probe fails.
//
//	pool.Check ──round trip──▶ Meter ──averages──▶ Reading ──limits of Policy──▶ nil or a warning
//	pool.Stats ──counters───────▲
//
// A [Meter] wraps the probe of a pool and takes its place in a [health.Check]:
//
//	meter, err := quality.NewMeter(pool.Check, pool.Stats, quality.Policy{MaxSaturation: 0.9})
//	...
//	_, err = monitor.Register(health.Check{Name: "orders", Probe: meter.Probe})
//
// It only ever warns: a pool that is slow or saturated still serves, so readiness stays true.
package quality
