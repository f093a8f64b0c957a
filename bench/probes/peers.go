package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	gosundheit "github.com/AppsFlyer/go-sundheit"
	"github.com/AppsFlyer/go-sundheit/checks"
	sundheithttp "github.com/AppsFlyer/go-sundheit/http"
	alexliesenfeld "github.com/alexliesenfeld/health"
	hellofresh "github.com/hellofresh/health-go/v5"

	"github.com/poolkeeper/poolkeeper/internal/test/healthtrials"
)

// unsupported answers for what a library has no equivalent of.
type unsupported struct{}

func (unsupported) Remove(context.Context, string) error { return errors.ErrUnsupported }
func (unsupported) Drain() error                         { return errors.ErrUnsupported }
func (unsupported) Live() http.Handler                   { return nil }
func (unsupported) Causes(string) ([]string, error)      { return nil, errors.ErrUnsupported }
func (unsupported) Observe(string, error) error          { return errors.ErrUnsupported }
func (unsupported) Listen(func(string)) error            { return errors.ErrUnsupported }
func (unsupported) Freeze() error                        { return errors.ErrUnsupported }

// helloFresh puts hellofresh/health-go on trial. It runs its checks when it is asked.
type helloFresh struct {
	unsupported

	health *hellofresh.Health
}

func newHelloFresh() healthtrials.Subject {
	h, err := hellofresh.New()
	if err != nil {
		panic(err) // without options nothing can be wrong
	}
	return &helloFresh{health: h}
}

func (s *helloFresh) Add(c healthtrials.Check) error {
	return s.health.Register(hellofresh.Config{Name: c.Name, Timeout: c.Timeout, Check: c.Probe})
}

func (s *helloFresh) Start(context.Context) error { return nil }
func (s *helloFresh) Stop(context.Context) error  { return nil }
func (s *helloFresh) Ready() http.Handler         { return s.health.Handler() }

// alexLiesenfeld puts alexliesenfeld/health on trial, with checks that run in the background.
type alexLiesenfeld struct {
	unsupported

	options []alexliesenfeld.CheckerOption
	checker alexliesenfeld.Checker
}

func newAlexLiesenfeld() healthtrials.Subject { return &alexLiesenfeld{} }

func (s *alexLiesenfeld) Add(c healthtrials.Check) error {
	s.options = append(s.options, alexliesenfeld.WithPeriodicCheck(c.Interval, 0, alexliesenfeld.Check{
		Name: c.Name, Timeout: c.Timeout, Check: c.Probe,
	}))
	return nil
}

func (s *alexLiesenfeld) Listen(f func(string)) error {
	s.options = append(s.options, alexliesenfeld.WithStatusListener(
		func(_ context.Context, state alexliesenfeld.CheckerState) {
			for name := range state.CheckState {
				f(name)
			}
		},
	))
	return nil
}

func (s *alexLiesenfeld) Start(context.Context) error {
	s.checker = alexliesenfeld.NewChecker(append(s.options, alexliesenfeld.WithDisabledAutostart())...)
	s.checker.Start()
	return nil
}

func (s *alexLiesenfeld) Stop(context.Context) error {
	if s.checker != nil {
		s.checker.Stop()
	}
	return nil
}

func (s *alexLiesenfeld) Ready() http.Handler { return alexliesenfeld.NewHandler(s.checker) }

// works is a check that always works.
func works(context.Context) error { return nil }

// handlers of peers with n healthy checks, for the measurement.

func alexLiesenfeldHandler(n int, details bool) http.Handler {
	options := []alexliesenfeld.CheckerOption{alexliesenfeld.WithDisabledAutostart()}
	if !details {
		options = append(options, alexliesenfeld.WithDisabledDetails())
	}
	for i := range n {
		options = append(options, alexliesenfeld.WithPeriodicCheck(time.Hour, 0, alexliesenfeld.Check{Name: checkName(i), Check: works}))
	}
	checker := alexliesenfeld.NewChecker(options...)
	checker.Start()
	for checker.GetRunningPeriodicCheckCount() < n {
		time.Sleep(time.Millisecond)
	}
	return alexliesenfeld.NewHandler(checker)
}

func helloFreshHandler(n int) http.Handler {
	h, err := hellofresh.New()
	if err != nil {
		panic(err) // without options nothing can be wrong
	}
	for i := range n {
		if err := h.Register(hellofresh.Config{Name: checkName(i), Check: works}); err != nil {
			panic(err) // names are unique
		}
	}
	return h.Handler()
}

func sundheitHandler(n int) http.Handler {
	h := gosundheit.New()
	for i := range n {
		check := &checks.CustomCheck{CheckName: checkName(i), CheckFunc: func(context.Context) (any, error) { return nil, nil }}
		if err := h.RegisterCheck(check, gosundheit.ExecutionPeriod(time.Hour)); err != nil {
			panic(err) // names are unique
		}
	}
	for !h.IsHealthy() {
		time.Sleep(time.Millisecond)
	}
	return sundheithttp.HandleHealthJSON(h)
}
