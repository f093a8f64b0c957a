// Package event has the events of a lifecycle.Registry, and the report of a start or a shutdown.
//
//	           Starting ─▶ Started          Draining ─▶ Drained ─▶ Stopping ─▶ Stopped
//	component     └─▶ Failed      │                                    └─▶ Aborting, Abandoned,
//	                              └─▶ Completed, Died ─▶ Restarting        Holding, Held, Late
//	pool, check   Pool{Event}, Health{Transition}
//	registry      AllUp           SignalReceived ─▶ ShuttingDown ─▶ AllDown{Report}
//
// The registry logs every event but those of pools and checks, which log them themselves. A
// subscriber gets all of them, typed:
//
//	reg.Subscribe(func(e event.Event) {
//		switch e := e.(type) {
//		case *event.Died:
//			deaths.WithLabelValues(e.Name).Inc()
//		case *event.AllDown:
//			fmt.Fprint(os.Stderr, e.Report)
//		}
//	})
//
// Events only tell. To change what happens, give the registry or the component an option.
package event
