package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// addLab adds the components: an API on a mailer, a consumer and a reporter, which depend on two
// databases.
//
//	probes (ops)
//	api ──▶ mailer ───▶ redis
//	   ├──▶ consumer ─▶ redis, postgres
//	   └──▶ reports ──▶ postgres
//
// How long things take is given in hundredths of the budget.
func addLab(reg *lifecycle.Registry, hundredth time.Duration) {
	reg.Add("postgres", &database{
		closing: 2 * hundredth, leaked: "1 of 20 connections still held, for 3m12s by reports.(*Exporter).Run (export.go:41)",
	})
	reg.Add("redis", &database{closing: hundredth})
	reg.Add("mailer", &mailer{}, lifecycle.WithDependencies("redis"))
	reg.Add("consumer", newConsumer(), lifecycle.WithDependencies("redis", "postgres"))
	reg.Add("reports", &slow{takes: 12 * hundredth}, lifecycle.WithDependencies("postgres"))
	reg.Add("api", &slow{takes: hundredth}, lifecycle.WithDependencies("mailer", "consumer", "reports"))
	reg.Add("probes", &slow{}, lifecycle.WithOps())
}

var errLeak = errors.New("connection leaked")

// database closes in order, and says so if a connection was not given back.
type database struct {
	closing time.Duration
	leaked  string
}

func (*database) Start(context.Context) error { return nil }

func (d *database) Stop(ctx context.Context) error {
	if err := pause(ctx, d.closing); err != nil {
		return err
	}
	if d.leaked != "" {
		return fmt.Errorf("%w: %s", errLeak, d.leaked)
	}
	return nil
}

// slow takes its time, and listens when told to hurry.
type slow struct{ takes time.Duration }

func (*slow) Start(context.Context) error      { return nil }
func (s *slow) Stop(ctx context.Context) error { return pause(ctx, s.takes) }

// mailer has a bug that shows only when it is stopped. No test has stopped it before.
type mailer struct{ unsent map[string]int }

func (*mailer) Start(context.Context) error { return nil }

func (m *mailer) Stop(context.Context) error {
	m.unsent["welcome"]++ // panics: the map was never made
	return nil
}

// consumer waits for a message that never comes, and ignores its context.
type consumer struct{ messages chan string }

func newConsumer() *consumer { return &consumer{messages: make(chan string)} }

func (*consumer) Start(context.Context) error { return nil }

func (c *consumer) Stop(context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.finishBatch()
	}()
	<-done
	return nil
}

func (c *consumer) finishBatch() { <-c.messages }

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
