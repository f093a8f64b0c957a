package lifecycle

import (
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	compare "github.com/poolkeeper/poolkeeper/internal/settings"
)

// tuning are the fields of Config that can change while the registry works.
type tuning struct {
	ShutdownTimeout, DrainDelay time.Duration
	OnHang                      HangPolicy
}

func (c Config) tuning() *tuning { return &tuning{c.ShutdownTimeout, c.DrainDelay, c.OnHang} }

// errTooLate is the error of a Reload that comes when the shutdown has begun.
var errTooLate = errors.New("lifecycle: reload: the shutdown has begun")

// Plan returns the changes that Reload with cfg would make, and those that need a restart: the
// other fields of Config, and those of its Health, as "Health.Interval". Logger, Signals and
// functions are not compared. It changes nothing.
func (r *Registry) Plan(cfg Config) (now, restart []poolkeeper.Change, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, fmt.Errorf("lifecycle: plan: %w", err)
	}
	now = compare.Diff(r.tuned.Load(), cfg.withDefaults().tuning())
	start := struct{ StartTimeout time.Duration }{r.cfg.StartTimeout}
	restart = compare.Diff(&start, &struct{ StartTimeout time.Duration }{cfg.StartTimeout})
	health := r.cfg.Health
	cfg.Health.Logger, cfg.Health.OnTransition = health.Logger, health.OnTransition
	for _, c := range compare.Diff(&health, &cfg.Health) {
		c.Field = "Health." + c.Field
		restart = append(restart, c)
	}
	return now, restart, nil
}

// Reload puts ShutdownTimeout, DrainDelay and OnHang of cfg in effect, for the shutdown to come.
// The other fields stay as they are: see [Registry.Plan]. It fails if cfg has a fault or the
// shutdown has begun, and has then changed nothing. It does not block.
func (r *Registry) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("lifecycle: reload: nothing was changed: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase >= phaseClosing {
		return errTooLate
	}
	r.tuned.Store(cfg.withDefaults().tuning())
	return nil
}
