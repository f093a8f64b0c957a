// Package integration shows asynq, a queue of jobs in Redis, on a client that redispool keeps. It
// has tests and examples only. It is a module of its own, so a service that imports poolkeeper does
// not get asynq.
//
//	registry   redis ◀── worker      (asynq.Server: Drain stops pulling, Stop gives back what is unfinished)
//	                 ◀── producer    (asynq.Client)
//	start      redis, then worker and producer
//	shutdown   worker and producer, then redis
//
// The component of the example is all that is needed, and is meant to be copied:
//
//	func (w worker) Start(context.Context) error { return w.server.Start(w.handler) }
//	func (w worker) Drain(context.Context) error { w.server.Stop(); return nil }
//	func (w worker) Stop(context.Context) error  { w.server.Shutdown(); return nil }
//
// The order is not a matter of taste: asynq's subscriber panics when its client is closed under it,
// and jobs that are done at that moment stay marked as under way for a minute. So the worker
// depends on the pool, and its own ShutdownTimeout is shorter than the registry's.
//
// It refuses to promise more than asynq does: a job is done at least once, not exactly once.
package integration
