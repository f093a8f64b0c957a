package fleet

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/retry"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// Scenario describes an event and how long to record the fleet. Before the event the fleet works,
// unless Cold is set.
type Scenario struct {
	Name  string
	Cold  bool
	Lasts time.Duration // how long to record, from the event on
	// Event changes the fleet or its server. It returns the instances that run afterwards.
	Event func(ctx context.Context, f *Fleet, all []*instance) ([]*instance, error)
	Over  time.Duration // from the event until the server can serve again
}

// settle is the time in which a fleet has opened all its connections.
const settle = 90 * time.Second

// Scenarios returns all scenarios but Renewal.
func Scenarios() []Scenario {
	return []Scenario{
		{Name: "cold start", Cold: true, Lasts: 60 * time.Second},
		{Name: "rolling update", Lasts: 200 * time.Second, Event: rollingUpdate},
		{Name: "failover", Lasts: 60 * time.Second, Over: 10 * time.Second, Event: outage(10 * time.Second)},
		{Name: "restart", Lasts: 50 * time.Second, Over: 200 * time.Millisecond, Event: outage(200 * time.Millisecond)},
		{Name: "outage", Lasts: 350 * time.Second, Over: 300 * time.Second, Event: outage(300 * time.Second)},
	}
}

// Renewal returns the scenario of renewed credentials on disk. Only the pools of Postgres read files.
func Renewal() Scenario {
	return Scenario{Name: "credentials change", Lasts: 120 * time.Second, Event: func(_ context.Context, f *Fleet, all []*instance) ([]*instance, error) {
		return all, os.WriteFile(f.files, []byte("user:second"), 0o600)
	}}
}

func outage(lasts time.Duration) func(context.Context, *Fleet, []*instance) ([]*instance, error) {
	return func(ctx context.Context, f *Fleet, all []*instance) ([]*instance, error) {
		f.server.Kill()
		retry.Sleep(ctx, lasts)
		f.server.Run()
		return all, nil
	}
}

// waves is the number of parts in which a rolling update replaces a fleet.
const waves = 4

// rollingUpdate launches a quarter of the fleet anew, stops as many of the old, and so on.
func rollingUpdate(ctx context.Context, f *Fleet, all []*instance) ([]*instance, error) {
	for wave := range slices.Chunk(slices.Clone(all), (len(all)+waves-1)/waves) {
		young, err := f.launchAll(ctx, len(wave), 20*time.Second)
		if err != nil {
			return all, err
		}
		retry.Sleep(ctx, 20*time.Second) // ready, and not only just
		if err := stopAll(ctx, wave); err != nil {
			return all, err
		}
		all = append(all[len(wave):], young...)
	}
	return all, nil
}

// Second counts the events of one second.
type Second struct {
	Logins, Refused, Full, Open int
	Succeeded, Failed           int
}

// Result holds the counts of a Scenario, second by second from the event on.
type Result struct {
	Size    int
	Over    int // the second in which the server could serve again
	Seconds []Second
}

// Peak returns the most logins that were begun in one second.
func (r Result) Peak() (most int) {
	for _, s := range r.Seconds {
		most = max(most, s.Logins)
	}
	return most
}

// Full returns how many logins were refused because the server had MaxConnections.
func (r Result) Full() (n int) {
	for _, s := range r.Seconds {
		n += s.Full
	}
	return n
}

// FailedAfter returns how many calls failed after the server could serve again.
func (r Result) FailedAfter() (n int) {
	for _, s := range r.Seconds[r.Over:] {
		n += s.Failed
	}
	return n
}

// Back returns after how many seconds 99 % of the connections were open and stayed open. It counts
// from the end of the fault, or from a cold start. -1: they never were.
func (r Result) Back() int {
	back := -1
	for i := len(r.Seconds) - 1; i >= r.Over && r.Seconds[i].Open*100 >= 99*r.Size*MaxOpen; i-- {
		back = i - r.Over + 1
	}
	return back
}

// Run runs a scenario on a fleet of size instances of kind, in a bubble.
func Run(t *testing.T, s Scenario, kind Kind, size int) (out Result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		surge := (size + waves - 1) / waves
		server := &Server{
			MaxConnections:  (size + surge) * (MaxOpen + 1), // one for the checks
			LoginsPerSecond: size * MaxOpen / 10,            // twice what the fleet may ask for
			RoundTrip:       time.Millisecond,
		}
		server.Run()
		f := &Fleet{kind: kind, size: size, server: server}
		if kind == Postgres {
			f.answers = sqlpooltest.ServePostgresInMemory(t)
			f.answers.Answer("work", sqlpooltest.Answer{})
			f.answers.Slow(hold)
			f.files = t.TempDir() + "/credentials"
			testkit.Replace(t, f.files, []byte("user:first"))
		}
		out = f.run(t, s)
	})
	return out
}

func (f *Fleet) run(t *testing.T, s Scenario) Result {
	t.Helper()
	ctx, out := context.WithoutCancel(t.Context()), Result{Size: f.size, Over: int(s.Over / time.Second)}
	var all []*instance
	var err error
	launch := func() { all, err = f.launchAll(ctx, f.size, 20*time.Second) }
	event := launch
	if !s.Cold {
		launch()
		testkit.Advance(settle)
		event = func() { all, err = s.Event(ctx, f, all) }
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { out.Seconds = f.record(s.Lasts) })
	event()
	wg.Wait()
	if err != nil {
		t.Error(err)
	}
	if err := stopAll(ctx, all); err != nil {
		t.Error(err)
	}
	if n := f.server.Counts().Open; n != 0 {
		t.Errorf("%d connections are left", n)
	}
	return out
}

// record notes what happens in each second.
func (f *Fleet) record(lasts time.Duration) (out []Second) {
	last := f.server.Counts()
	f.succeeded.Store(0)
	f.failed.Store(0)
	for range lasts / time.Second {
		testkit.Advance(time.Second)
		now := f.server.Counts()
		out = append(out, Second{
			Logins: now.Logins - last.Logins, Refused: now.Refused - last.Refused, Full: now.Full - last.Full,
			Open: now.Open, Succeeded: int(f.succeeded.Swap(0)), Failed: int(f.failed.Swap(0)),
		})
		last = now
	}
	return out
}
