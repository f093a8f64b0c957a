package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// passTransitions returns a health.Config.OnTransition that publishes each change of a check as an
// event, once the service's own function has seen it. Groups change because of checks, holds and
// shutdowns, which have events of their own.
func (r *Registry) passTransitions(own func(health.Transition)) func(health.Transition) {
	return func(t health.Transition) {
		defer r.emitTransition(t) // also if own panics
		if own != nil {
			own(t)
		}
	}
}

func (r *Registry) emitTransition(t health.Transition) {
	if t.Check != "" && r.events.heard.Load() {
		r.emit(&event.Health{Info: event.Info{Time: t.At, Name: t.Check, Phase: event.PhaseRun, Err: t.Err}, Transition: t})
	}
}

// checkFaults finds what is wrong with the check of a component before it starts. The checks of a
// MultiChecker are known later only.
func (r *Registry) checkFaults(n *node) []error {
	if _, checks := n.comp.(Checker); !checks && n.check == nil {
		return nil
	}
	c, ok := n.ownCheck()
	if ok {
		if err := r.monitor.Validate(c); err != nil {
			return []error{&optionError{Name: n.name, Option: "WithHealthCheck", Reason: without(fmt.Sprintf("health: check %q: ", n.name), err), Err: err}}
		}
		return nil
	}
	if _, multi := n.comp.(MultiChecker); n.check != nil && !multi {
		return []error{&optionError{Name: n.name, Option: "WithHealthCheck", Reason: fmt.Sprintf(
			"no Probe is given, and %T has no Check", n.comp,
		)}}
	}
	return nil
}

// without is the text of err on one line, without what each of its lines begins with.
func without(prefix string, err error) string {
	return strings.ReplaceAll(strings.ReplaceAll(err.Error(), prefix, ""), "\n", "; ")
}

// ownCheck returns the check named after the component, and false if it has none.
func (n *node) ownCheck() (health.Check, bool) {
	var c health.Check
	if checker, ok := n.comp.(Checker); ok {
		c.Probe = checker.Check
	}
	if n.check != nil {
		override(&c, *n.check)
	}
	c.Name = n.name
	return c, c.Probe != nil
}

// override replaces the fields of c that are not zero in o. Name and DependsOn are not for the user
// to say.
func override(c *health.Check, o health.Check) {
	if o.Probe != nil {
		c.Probe = o.Probe
	}
	if len(o.Groups) > 0 {
		c.Groups = o.Groups
	}
	replace(&c.Impact, o.Impact)
	replace(&c.Interval, o.Interval)
	replace(&c.RetryInterval, o.RetryInterval)
	replace(&c.Timeout, o.Timeout)
	replace(&c.InitialDelay, o.InitialDelay)
	replace(&c.MaxAge, o.MaxAge)
	replace(&c.Jitter, o.Jitter)
	replace(&c.FailureThreshold, o.FailureThreshold)
	replace(&c.SuccessThreshold, o.SuccessThreshold)
	replace(&c.TrafficCounts, o.TrafficCounts)
}

func replace[T comparable](field *T, value T) {
	var zero T
	if value != zero {
		*field = value
	}
}

// checks returns all checks of a component that is up.
func (n *node) allChecks() []health.Check {
	var checks []health.Check
	if c, ok := n.ownCheck(); ok {
		checks = append(checks, c)
	}
	m, ok := n.comp.(MultiChecker)
	if !ok {
		return checks
	}
	for _, c := range m.Checks() {
		c.Name = n.name + "/" + c.Name
		if n.check != nil {
			o := *n.check
			o.Probe = nil // one probe cannot stand for all parts
			override(&c, o)
		}
		checks = append(checks, c)
	}
	return checks
}

// watchHealth registers the checks of a component that has come up, and gives it its observer. It
// runs on the component's goroutine.
func (r *Registry) watchHealth(n *node) error {
	checks := n.allChecks()
	if len(checks) == 0 {
		return nil
	}
	causes := r.causes(n)
	var own observers
	for _, c := range checks {
		c.DependsOn = append(slices.Clip(c.DependsOn), causes...)
		reg, err := r.monitor.Register(c)
		if err != nil {
			return err // those registered so far go with the component
		}
		own = append(own, reg)
		r.mu.Lock()
		n.checks = append(n.checks, reg)
		r.mu.Unlock()
	}
	if o, ok := n.comp.(ObserverSetter); ok {
		if len(own) == 1 {
			o.ObserveWith(own[0])
		} else {
			o.ObserveWith(own)
		}
	}
	return nil
}

// removeChecks takes the checks of a component out. A probe that is running is cancelled and not
// waited for: one that hangs must not keep its component from stopping. The monitor waits for it in
// the end.
func removeChecks(ctx context.Context, checks []*health.Registration) {
	if len(checks) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel() // nothing is waited for
	for _, c := range checks {
		_ = c.Remove(ctx)
	}
}

// causes names the checks that a failure of n can come from: those of the components it depends on,
// and where one has none, of those it depends on in turn.
func (r *Registry) causes(n *node) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	seen := map[int32]bool{n.id: true}
	todo := []*node{n}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, id := range r.graph.Deps(at.id) {
			d := r.nodes[id]
			if seen[id] || d.comp == nil {
				continue
			}
			seen[id] = true
			if len(d.checks) == 0 {
				todo = append(todo, d)
			}
			for _, c := range d.checks {
				names = append(names, c.Name())
			}
		}
	}
	return names
}

// observers passes what live traffic saw on to several checks.
type observers []poolkeeper.Observer

// Observe passes err on.
func (o observers) Observe(err error) {
	for _, each := range o {
		each.Observe(err)
	}
}
