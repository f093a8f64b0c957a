package lifecycle_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

type noop struct{}

func (noop) Start(context.Context) error { return nil }
func (noop) Stop(context.Context) error  { return nil }

// BenchmarkComponent is what one component that does nothing costs: add, start and stop.
func BenchmarkComponent(b *testing.B) {
	const n = 10_000
	names := make([]string, n)
	for i := range names {
		names[i] = "component-" + strconv.Itoa(i)
	}
	for _, shape := range []struct {
		name string
		opts func(i int) []lifecycle.Option
	}{
		{"flat", func(int) []lifecycle.Option { return nil }},
		{"chain", func(i int) []lifecycle.Option {
			if i == 0 {
				return nil
			}
			return []lifecycle.Option{lifecycle.WithDependencies(names[i-1])}
		}},
	} {
		b.Run(shape.name, func(b *testing.B) {
			b.ReportAllocs()
			for done := 0; done < b.N; done += n {
				reg := lifecycle.New(quiet())
				for i := range min(n, b.N-done) {
					reg.Add(names[i], noop{}, shape.opts(i)...)
				}
				if err := reg.Start(b.Context()); err != nil {
					b.Fatal(err)
				}
				if err := reg.Shutdown(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
