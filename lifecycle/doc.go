// Package lifecycle starts the parts of a service in the order of their dependencies, watches them,
// and stops them in reverse, so that nothing is lost when one of them is slow, hangs, panics or
// dies.
//
//	             Add("orders", pool)   Add("api", server, WithDependencies("orders"))
//	                         ╲            ╱
//	                          ▼          ▼
//	  Start        ┌────────────────────────────┐        Shutdown
//	 ────────▶     │          Registry          │     ◀────────
//	orders ─▶ api  │  health.Monitor  Status()  │   api ─▶ orders
//	               └────────────────────────────┘
//	                 │              │         │
//	           check loops       events     deaths: shut down, ignore, restart
//
// A [Component] is anything with Start and Stop. What else it can do it says by implementing an
// optional interface: [Drainer], [Aborter], [Checker], [MultiChecker], [DoneNotifier] and
// [Restartable] for its own life, [NameSetter] and [ObserverSetter] for what the registry tells it,
// [StatsProvider], [SettingsProvider] and [HolderLister] for pools. There are adapters for the
// usual components: [HTTPServer], [HTTPClient], [Worker], [Group], [Hooks], [Closer], and
// [Registry.Go].
//
//	reg := lifecycle.New(lifecycle.Config{DrainDelay: 5 * time.Second})
//	reg.Add("orders", orders)
//	reg.Add("api", lifecycle.HTTPServer(srv), lifecycle.WithDependencies("orders"))
//	reg.Add("probes", lifecycle.HTTPServer(probes), lifecycle.WithOps())
//	return reg.Run(ctx)
//
// What it promises, whatever a component does: nothing starts before what it needs is up, and
// nothing stops before what needs it has stopped or was given up; Shutdown returns by its deadline,
// and what is not down by then is named in its error, with the stack of the goroutines that did not
// come back; readiness is false before anything stops. What happens is logged, and told to
// subscribers by the types of package event.
//
// The goroutines of a component, those it starts included, carry the pprof label
// poolkeeper.component with its name, so that a profile can be cut to one component:
//
//	go tool pprof -tagfocus poolkeeper.component=orders http://localhost:6060/debug/pprof/goroutine
//
// # What it refuses to do
//
// It does not construct components and knows no dependency injection: you call constructors, it
// calls Start. It does not add components while it runs. It does not kill goroutines, because Go
// cannot: one that ignores its context is given up, named, and left behind. It is not a supervisor
// of trees of actors: a component that dies either takes the service down, which is what an
// orchestrator is there for, or is restarted together with what depends on it.
package lifecycle
