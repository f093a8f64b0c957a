package eviction_test

import (
	"context"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
)

// busyPool has 10,000 connections, all in use: there is nothing to close and nothing to add. It
// answers as the real pools do, from counters.
type busyPool struct {
	gate *inflight.Gate
	open int
}

func newBusyPool() *busyPool {
	p := &busyPool{gate: inflight.New(), open: 10_000}
	for range p.open {
		p.gate.Join()
	}
	return p
}

func (p *busyPool) Open() int { return p.open }
func (p *busyPool) Peak() int { return p.gate.Peak() }

func (*busyPool) Sweep(context.Context, eviction.Sweep) time.Time {
	panic("a sweep, with nothing to do")
}

func (*busyPool) Fill(context.Context, int) error { return nil }

// A tick is what the timer runs once per interval, setting itself included. With nothing to do its
// cost must not depend on how many connections there are.
func BenchmarkTickWithNothingToDo(b *testing.B) {
	for name, policy := range map[string]eviction.Policy{
		"idle":    {MaxIdleTime: time.Hour},
		"minidle": {MaxIdleTime: time.Hour, MinIdle: 2},
	} {
		b.Run(name+"/open=10000", func(b *testing.B) {
			e := eviction.New(newBusyPool(), policy)
			if err := e.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				e.Tick()
			}
			if err := e.Stop(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
