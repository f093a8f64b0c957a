package healthtrials_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/healthtrials"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// naive is the health endpoint that most services start with: every request runs every check and
// shows what came of it.
type naive struct {
	lock   chan struct{} // guards checks, and is held while they run, as is usual; a channel, for synctest's sake
	checks map[string]func(context.Context) error
}

func newNaive() healthtrials.Subject {
	return &naive{lock: make(chan struct{}, 1), checks: make(map[string]func(context.Context) error)}
}

func (s *naive) Add(c healthtrials.Check) error {
	s.checks[c.Name] = c.Probe
	return nil
}

func (s *naive) Remove(_ context.Context, name string) error {
	s.lock <- struct{}{}
	defer func() { <-s.lock }()
	delete(s.checks, name)
	return nil
}

func (s *naive) Start(context.Context) error     { return nil }
func (s *naive) Stop(context.Context) error      { return nil }
func (s *naive) Drain() error                    { return errors.ErrUnsupported }
func (s *naive) Causes(string) ([]string, error) { return nil, errors.ErrUnsupported }
func (s *naive) Observe(string, error) error     { return errors.ErrUnsupported }
func (s *naive) Listen(func(string)) error       { return errors.ErrUnsupported }
func (s *naive) Freeze() error                   { return nil }
func (s *naive) Ready() http.Handler             { return s }
func (s *naive) Live() http.Handler              { return s }
func (s *naive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.lock <- struct{}{}
	defer func() { <-s.lock }()
	failures := map[string]string{}
	for name, probe := range s.checks {
		if err := probe(r.Context()); err != nil {
			failures[name] = err.Error()
		}
	}
	if len(failures) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(failures)
}

// The naive endpoint must fail every trial but the few it holds because nothing runs unasked. This
// shows that the trials can fail.
func TestNaiveEndpointFailsTrials(t *testing.T) {
	holds := map[string]bool{
		"each check has its own timeout":      true, // it has no timeout at all
		"removing a hung check twice returns": true,
		"stop returns while a check hangs":    true,
	}
	for _, trial := range healthtrials.All() {
		if trial.Fatal {
			continue // the process would go with it
		}
		t.Run(trial.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := trial.Run(t.Context(), newNaive)
				if (err == nil) != holds[trial.Name] {
					t.Errorf("naive endpoint: %v", err)
				}
			})
		})
	}
}
