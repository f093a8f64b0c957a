package integration_test

import (
	"context"

	"github.com/hibiken/asynq"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// worker makes a component of an asynq.Server. The server must come from NewServerFromRedisClient,
// so that it leaves the client to the pool, and its ShutdownTimeout be shorter than the time that
// the registry has for it.
type worker struct {
	server  *asynq.Server
	handler asynq.Handler
}

var (
	_ lifecycle.Component = worker{}
	_ lifecycle.Drainer   = worker{}
)

// Start begins to pull jobs.
func (w worker) Start(context.Context) error { return w.server.Start(w.handler) }

// Drain pulls no more jobs.
func (w worker) Drain(context.Context) error {
	w.server.Stop()
	return nil
}

// Stop waits for the jobs under way and, after ShutdownTimeout, pushes the rest back to the queue.
// Without Start it does nothing.
func (w worker) Stop(context.Context) error {
	w.server.Shutdown()
	return nil
}
