package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/grafana/dskit/services"
	"github.com/samber/do/v2"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// contender runs a graph. build makes everything ready and returns how to start and to stop it; all
// three are timed.
type contender struct {
	name  string
	build func(g graph) (start, stop func(context.Context) error, err error)
	most  int // largest graph it is asked to run; 0: any
}

func contenders() []contender {
	return []contender{
		{name: "poolkeeper", build: poolkeeper},
		{name: "bare per-node code", build: bare},
		{name: "dskit services, wired by hand", build: dskit, most: 1000},
		{name: "fx, hooks in topological order", build: fxHooks, most: 1000},
		{name: "samber/do", build: samberDo, most: 1000},
	}
}

// part is component i for poolkeeper.
type part struct {
	g *graph
	i int
}

func (p *part) Start(context.Context) error { p.g.up(p.i); return nil }
func (p *part) Stop(context.Context) error  { p.g.down(p.i); return nil }

func poolkeeper(g graph) (start, stop func(context.Context) error, err error) {
	reg := lifecycle.New(lifecycle.Config{Logger: slog.New(slog.DiscardHandler)})
	parts := make([]part, g.size())
	for i := range parts {
		parts[i] = part{&g, i}
		if len(g.deps[i]) == 0 {
			reg.Add(g.names[i], &parts[i])
			continue
		}
		names := make([]string, len(g.deps[i]))
		for k, d := range g.deps[i] {
			names[k] = g.names[d]
		}
		reg.Add(g.names[i], &parts[i], lifecycle.WithDependencies(names...))
	}
	return reg.Start, reg.Shutdown, nil
}

// bare is what a person would write by hand: a counter and a goroutine per component. It has no
// timeouts, no errors, no panics caught, no report: it is the limit, not a rival.
func bare(g graph) (start, stop func(context.Context) error, err error) {
	dependents := g.dependents()
	return func(context.Context) error { perNode(g.deps, dependents, g.up); return nil },
		func(context.Context) error { perNode(dependents, g.deps, g.down); return nil }, nil
}

func perNode(blockers, blocked [][]int, act func(int)) {
	left := make([]atomic.Int32, len(blockers))
	var all sync.WaitGroup
	all.Add(len(blockers))
	var run func(i int)
	run = func(i int) {
		act(i)
		for _, k := range blocked[i] {
			if left[k].Add(-1) == 0 {
				go run(k)
			}
		}
		all.Done()
	}
	var ready []int
	for i := range blockers {
		left[i].Store(int32(len(blockers[i])))
		if len(blockers[i]) == 0 {
			ready = append(ready, i)
		}
	}
	for _, i := range ready {
		go run(i)
	}
	all.Wait()
}

// dskit wires services by hand: each start waits for what the service depends on, and each stop for
// what depends on it. Its module manager would do that by itself, but needs exponential time to
// resolve a graph in layers.
func dskit(g graph) (start, stop func(context.Context) error, err error) {
	all := make([]services.Service, g.size())
	dependents := g.dependents()
	for i := range all {
		all[i] = services.NewIdleService(
			func(ctx context.Context) error {
				for _, d := range g.deps[i] {
					if err := all[d].AwaitRunning(ctx); err != nil { //nolint:govet // its own error
						return err
					}
				}
				g.up(i)
				return nil
			},
			func(error) error {
				for _, d := range dependents[i] {
					if err := all[d].AwaitTerminated(context.Background()); err != nil { //nolint:govet // its own error; dskit gives no context
						return err
					}
				}
				g.down(i)
				return nil
			},
		)
	}
	manager, err := services.NewManager(all...)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context) error {
			return services.StartManagerAndAwaitHealthy(ctx, manager)
		}, func(ctx context.Context) error {
			return services.StopManagerAndAwaitStopped(ctx, manager)
		}, nil
}

// fxHooks appends hooks in an order that satisfies the graph, which is the cheapest way to use fx:
// its dependency injection costs several times as much on top.
func fxHooks(g graph) (start, stop func(context.Context) error, err error) {
	app := fx.New(
		fx.WithLogger(func() fxevent.Logger { return fxevent.NopLogger }),
		fx.Invoke(func(lc fx.Lifecycle) {
			for i := range g.size() {
				lc.Append(fx.Hook{
					OnStart: func(context.Context) error { g.up(i); return nil },
					OnStop:  func(context.Context) error { g.down(i); return nil },
				})
			}
		}),
	)
	return app.Start, app.Stop, app.Err()
}

// service is component i for samber/do.
type service struct {
	g *graph
	i int
}

func (s *service) Shutdown() { s.g.down(s.i) }

func samberDo(g graph) (start, stop func(context.Context) error, err error) {
	injector := do.NewWithOpts(&do.InjectorOpts{Logf: func(string, ...any) {}})
	for i := range g.size() {
		do.ProvideNamed(injector, g.names[i], func(in do.Injector) (*service, error) {
			for _, d := range g.deps[i] {
				if _, err := do.InvokeNamed[*service](in, g.names[d]); err != nil {
					return nil, err
				}
			}
			g.up(i)
			return &service{&g, i}, nil
		})
	}
	return func(context.Context) error {
			for _, name := range g.names {
				if _, err := do.InvokeNamed[*service](injector, name); err != nil {
					return err
				}
			}
			return nil
		}, func(ctx context.Context) error {
			if report := injector.ShutdownWithContext(ctx); report != nil && !report.Succeed {
				return errors.New(report.Error())
			}
			return nil
		}, nil
}
