package healthtrials

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// HealthJSON wants application/health+json to be answered when it is asked for, with a status in
// its words.
func HealthJSON(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var g gauge
	g.fail(errBroken)
	if err := b.start(ctx, Check{Name: "down", Probe: g.probe}); err != nil {
		return err
	}
	pause(3 * interval)
	a, err := ask(ctx, b.Ready(), "application/health+json")
	if err != nil {
		return err
	}
	if !strings.HasPrefix(a.contentType, "application/health+json") {
		return fmt.Errorf("answered with %q", a.contentType)
	}
	var doc struct{ Status string }
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if doc.Status != "fail" {
		return fmt.Errorf("status is %q, not fail", doc.Status)
	}
	return nil
}

// NotReadyWhenDraining wants readiness to end when the service is about to stop, at once and
// although all is well.
func NotReadyWhenDraining(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var g gauge
	if err := b.start(ctx, Check{Name: "works", Probe: g.probe}); err != nil {
		return err
	}
	if err := b.mustBecome(ctx, true, soon, "it works"); err != nil {
		return err
	}
	if err := b.Drain(); err != nil {
		return fmt.Errorf("cannot be told to stop: %w", err)
	}
	for range 10 {
		if err := b.mustBe(ctx, false, "told to stop"); err != nil {
			return err
		}
		pause(interval)
	}
	return nil
}

// ErrorTextHidden requires that no format of the page shows the text of an error.
func ErrorTextHidden(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var g gauge
	g.fail(errors.New("dial postgres://admin:hunter2@10.0.0.7:5432: refused"))
	if err := b.start(ctx, Check{Name: "db", Probe: g.probe}); err != nil {
		return err
	}
	pause(5 * interval)
	for _, accept := range []string{"", "application/json", "application/health+json", "text/html"} {
		a, err := ask(ctx, b.Ready(), accept)
		if err != nil {
			return err
		}
		if a.ok() {
			return fmt.Errorf("a failed check answers %d", a.code)
		}
		if strings.Contains(a.body, "hunter2") || strings.Contains(a.body, "10.0.0.7") {
			return fmt.Errorf("with Accept %q it shows the error: %.200s", accept, a.body)
		}
	}
	return nil
}

// LivenessIgnoresChecks wants a failed dependency not to have the process killed.
func LivenessIgnoresChecks(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var g gauge
	g.fail(errBroken)
	if err := b.start(ctx, Check{Name: "db", Probe: g.probe}, Check{Name: "hangs", Probe: b.hang}); err != nil {
		return err
	}
	if err := b.mustBecome(ctx, false, soon, "a check fails"); err != nil {
		return err
	}
	pause(5 * interval)
	a, err := ask(ctx, b.Live(), "")
	if err != nil {
		return err
	}
	if !a.ok() {
		return fmt.Errorf("liveness answers %d because a check fails", a.code)
	}
	return nil
}

// AskingRunsNoCheck requires that a thousand requests run no check. Otherwise a client that may ask
// could load the database.
func AskingRunsNoCheck(ctx context.Context, fresh func() Subject) error {
	b, end := begin(ctx, fresh)
	defer end()
	var g gauge
	if err := b.start(ctx, Check{Name: "works", Probe: g.probe}); err != nil {
		return err
	}
	if err := b.mustBecome(ctx, true, soon, "it works"); err != nil {
		return err
	}
	before := g.runs.Load()
	for range 1000 {
		if _, err := b.ready(ctx); err != nil {
			return err
		}
	}
	if n := g.runs.Load() - before; n > 100 { // a slow machine may take some intervals for it
		return fmt.Errorf("1,000 requests caused %d runs", n)
	}
	return nil
}
