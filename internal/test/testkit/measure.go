package testkit

import "os"

// MeasureEnv is the variable that asks for benchmarks of behaviour at the length and breadth that
// docs/benchmarks.md shows, which takes minutes; without it each is short, to show that it works.
// It may name the directory for charts.
const MeasureEnv = "POOLKEEPER_MEASURE"

// Measuring reports whether MeasureEnv is set.
func Measuring() bool { return os.Getenv(MeasureEnv) != "" }
