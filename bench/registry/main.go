// Command registry measures the registry beside its peers and prints the tables of
// docs/benchmarks.md. All contenders run in turn in one process; ratios and counts are what to
// trust.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	size := flag.Int("size", 10_000, "components in the chain and flat graphs")
	rounds := flag.Int("rounds", 5, "rounds; the median counts")
	flag.Parse()
	if err := run(context.Background(), *size, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, size, rounds int) error {
	fmt.Printf("%s, %d processors, median of %d rounds, contenders in turn.\n", runtime.Version(), runtime.NumCPU(), rounds)
	if err := critical(ctx, rounds); err != nil {
		return err
	}
	for _, make := range []func(int) graph{chain, flat} {
		if err := overhead(ctx, make, size, rounds); err != nil {
			return err
		}
	}
	return nil
}

// critical compares wall time with the critical path on random graphs.
func critical(ctx context.Context, rounds int) error {
	fmt.Printf("\nRandom graphs of 200 components that take 1 to 20 ms each way: wall time ÷ critical path\n\n")
	fmt.Println("| | start | stop |\n|---|---|---|")
	all := contenders()
	starts, stops := make([][]float64, len(all)), make([][]float64, len(all))
	for round := range rounds {
		g := random(200, uint64(round)+1)
		bestStart, bestStop := g.critical()
		for k, c := range all {
			m, err := measure(ctx, c, g)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			starts[k] = append(starts[k], float64(m.start)/float64(bestStart))
			stops[k] = append(stops[k], float64(m.stop)/float64(bestStop))
		}
	}
	for k, c := range all {
		fmt.Printf("| %s | %.2f | %.2f |\n", c.name, median(starts[k]), median(stops[k]))
	}
	return nil
}

// overhead measures what building, starting and stopping costs when the components do nothing.
func overhead(ctx context.Context, make func(int) graph, size, rounds int) error {
	all := contenders()
	fmt.Printf("\n%s graph of components that do nothing: build, start and stop, per component\n\n",
		strings.ToUpper(make(1).name[:1])+make(1).name[1:])
	fmt.Println("| | components | µs | allocations | goroutines per idle component |\n|---|---|---|---|---|")
	for _, c := range all {
		n := size
		if c.most > 0 {
			n = min(n, c.most)
		}
		g := make(n)
		var micros, allocs []float64
		idle := 0.0
		for range rounds {
			m, err := measure(ctx, c, g)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			micros = append(micros, float64((m.build+m.start+m.stop).Nanoseconds())/1000/float64(n))
			allocs = append(allocs, float64(m.allocs)/float64(n))
			idle = float64(m.idle) / float64(n)
		}
		fmt.Printf("| %s | %d | %.2f | %.1f | %.2f |\n", c.name, n, median(micros), median(allocs), idle)
	}
	return nil
}

// figures are what one run of a graph took.
type figures struct {
	build, start, stop time.Duration
	allocs             uint64
	idle               int // goroutines that are there while everything is up
}

func measure(ctx context.Context, c contender, g graph) (figures, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	runtime.GC()
	goroutines := runtime.NumGoroutine()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var m figures
	t := time.Now()
	start, stop, err := c.build(g)
	if err != nil {
		return m, err
	}
	m.build = time.Since(t)
	t = time.Now()
	if err := start(ctx); err != nil {
		return m, err
	}
	m.start = time.Since(t)
	m.idle = runtime.NumGoroutine() - goroutines
	t = time.Now()
	if err := stop(ctx); err != nil {
		return m, err
	}
	m.stop = time.Since(t)
	runtime.ReadMemStats(&after)
	m.allocs = after.Mallocs - before.Mallocs
	return m, nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
