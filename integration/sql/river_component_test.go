package integration_test

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// riverWorker makes a component of River's client. The client's SoftStopTimeout must be set, and be
// shorter than the time that the registry has for it.
type riverWorker struct{ client *river.Client[pgx.Tx] }

var _ lifecycle.Component = riverWorker{}

// Start begins to fetch jobs. River stops when the context of its Start ends, and a component's
// Start has one that ends as soon as it returns.
func (w riverWorker) Start(ctx context.Context) error {
	return w.client.Start(context.WithoutCancel(ctx))
}

// Stop fetches no more and waits for the jobs under way; after SoftStopTimeout their contexts end.
// Without Start it does nothing.
func (w riverWorker) Stop(ctx context.Context) error { return w.client.Stop(ctx) }
