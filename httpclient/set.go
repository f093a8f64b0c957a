package httpclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/expiry"
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/internal/sum"
)

// Set keeps several clients, by name, as one component. Make it with [NewSet]. All its methods are
// safe for concurrent use.
type Set struct {
	names   []string // sorted
	clients map[string]*Client
}

// NewSet returns a set of clients, one for each configuration. An empty Config.Name becomes the key.
// The error reports every fault of every configuration at once.
func NewSet(configs map[string]Config) (*Set, error) {
	s := &Set{names: slices.Sorted(maps.Keys(configs)), clients: make(map[string]*Client, len(configs))}
	var errs []error
	for _, name := range s.names {
		cfg := configs[name]
		if name == "" {
			errs = append(errs, errors.New("httpclient: a client of the set has no name"))
		}
		if cfg.Name == "" {
			cfg.Name = name
		}
		c, err := New(cfg)
		errs = append(errs, err)
		s.clients[name] = c
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Get returns the client with that name, or nil. [Client.HTTP] is its native handle.
func (s *Set) Get(name string) *Client { return s.clients[name] }

// each calls f for every client, side by side, and joins the errors.
func (s *Set) each(f func(*Client) error) error {
	errs := make([]error, len(s.names))
	var wg sync.WaitGroup
	for i, name := range s.names {
		wg.Go(func() { errs[i] = f(s.clients[name]) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Start starts all clients side by side. If one fails, the others stay as they are until Stop.
func (s *Set) Start(ctx context.Context) error {
	return s.each(func(c *Client) error { return c.Start(ctx) })
}

// Drain drains all clients side by side.
func (s *Set) Drain(ctx context.Context) error {
	return s.each(func(c *Client) error { return c.Drain(ctx) })
}

// Stop stops all clients side by side.
func (s *Set) Stop(ctx context.Context) error {
	return s.each(func(c *Client) error { return c.Stop(ctx) })
}

// Abort aborts all clients.
func (s *Set) Abort() error { return s.each((*Client).Abort) }

// Checks returns one check for each client with BaseURL, named after it. A client that fails makes
// the service degraded, not unready. If the service cannot work without its servers, give
// lifecycle.WithHealthCheck another Impact.
func (s *Set) Checks() []health.Check {
	var out []health.Check
	for _, name := range s.names {
		if c := s.clients[name]; c.config().BaseURL != "" {
			out = append(out, health.Check{Name: name, Probe: c.Check, Impact: health.ImpactDegrading})
		}
	}
	return out
}

// SetName names the clients below the set: "outgoing/billing". An empty name changes nothing.
func (s *Set) SetName(name string) {
	if name == "" {
		return
	}
	for key, c := range s.clients {
		c.SetName(name + "/" + key)
	}
}

// Stats returns the sums over all clients. Its Members are the clients. In place of a client with
// Hosts it lists the hosts, such as "billing/10.0.0.7:443".
func (s *Set) Stats() poolkeeper.Stats {
	out := poolkeeper.Stats{Evicted: map[string]uint64{}}
	for _, name := range s.names {
		st := s.clients[name].Stats()
		hosts := st.Members
		st.Members = nil
		sum.Add(&out, &st)
		for _, h := range hosts {
			h.Name = name + "/" + h.Name
			out.Members = append(out.Members, h)
		}
		if len(hosts) > 0 {
			continue
		}
		state := "ready"
		if !st.DownSince.IsZero() {
			state = "down"
		}
		out.Members = append(out.Members, poolkeeper.MemberStats{Name: name, State: state, InRotation: state == "ready", Stats: st})
	}
	return out
}

// Plan returns the changes that Reload with configs would make, such as "billing.MaxOpen". The error
// holds every fault for which Reload would refuse configs without asking a server. Plan dials
// nothing.
func (s *Set) Plan(configs map[string]Config) ([]poolkeeper.Change, error) {
	errs := []error{s.sameNames(configs)}
	var out []poolkeeper.Change
	for _, name := range s.names {
		cfg, given := configs[name]
		if !given {
			continue
		}
		changes, err := s.clients[name].Plan(cfg)
		for _, c := range changes {
			c.Field = name + "." + c.Field
			out = append(out, c)
		}
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// Reload replaces the configurations of all clients or of none. It checks them side by side, as
// [Client.Reload] does, before it puts any in effect. The names are fixed. It blocks at most until
// ctx ends.
func (s *Set) Reload(ctx context.Context, configs map[string]Config) error {
	if err := s.sameNames(configs); err != nil {
		return err
	}
	ready := make([]*staged, len(s.names))
	errs := make([]error, len(s.names))
	var wg sync.WaitGroup
	for i, name := range s.names {
		wg.Go(func() { ready[i], errs[i] = s.clients[name].prepare(ctx, configs[name]) })
	}
	wg.Wait()
	err := errors.Join(errs...)
	for _, r := range ready {
		switch {
		case r == nil:
		case err != nil:
			r.drop()
		default:
			r.commit()
		}
	}
	return err
}

// sameNames refuses configurations of other clients than those of the set.
func (s *Set) sameNames(configs map[string]Config) error {
	if names := slices.Sorted(maps.Keys(configs)); !slices.Equal(names, s.names) {
		return fmt.Errorf("httpclient: reload a set: the configurations are of %s, the clients of %s; "+
			"make a new set to change the clients", strings.Join(names, ", "), strings.Join(s.names, ", "))
	}
	return nil
}

// Reset replaces every connection of every client, as [Client.Reset] does.
func (s *Set) Reset() {
	for _, name := range s.names {
		s.clients[name].Reset()
	}
}

// ObserveWith reports failed requests of all clients to o. It leaves out successes, because the
// success of one client says nothing about another. A nil o ends the reports. It does not block.
func (s *Set) ObserveWith(o poolkeeper.Observer) {
	if o != nil {
		o = failures{o}
	}
	for _, c := range s.clients {
		c.ObserveWith(o)
	}
}

// failures passes on failures alone.
type failures struct{ o poolkeeper.Observer }

// Observe passes on an error.
func (f failures) Observe(err error) {
	if err != nil {
		f.o.Observe(err)
	}
}

// Expiries lists when the certificates of all clients expire. It lists a certificate that several
// clients share once. It does no I/O and does not block.
func (s *Set) Expiries() []poolkeeper.Expiry {
	var all []poolkeeper.Expiry
	for _, name := range s.names {
		all = append(all, s.clients[name].Expiries()...)
	}
	return expiry.Sorted(all)
}

// Holders lists the requests in flight of all clients, the oldest first.
func (s *Set) Holders() []poolkeeper.Holder {
	var out []poolkeeper.Holder
	for _, c := range s.clients {
		out = append(out, c.Holders()...)
	}
	slices.SortStableFunc(out, func(a, b poolkeeper.Holder) int { return a.Since.Compare(b.Since) })
	return out
}

// Subscribe calls fn for every event of every client from now on, until cancel is called. See
// [Client.Subscribe].
func (s *Set) Subscribe(fn func(poolkeeper.Event)) (cancel func()) {
	var cancels []func()
	for _, name := range s.names {
		cancels = append(cancels, s.clients[name].Subscribe(fn))
	}
	return func() {
		for _, each := range cancels {
			each()
		}
	}
}

// Settings returns the settings of each client, as a group.
func (s *Set) Settings() []slog.Attr {
	out := make([]slog.Attr, 0, len(s.names))
	for _, name := range s.names {
		out = append(out, slog.GroupAttrs(name, s.clients[name].Settings()...))
	}
	return out
}

// String returns the names of the clients.
func (s *Set) String() string { return fmt.Sprintf("httpclient.Set{%s}", strings.Join(s.names, ", ")) }

// Format prints String, whatever the verb.
func (s *Set) Format(f fmt.State, _ rune) { printing.Format(f, s) }

// LogValue is String, for slog.
func (s *Set) LogValue() slog.Value { return printing.LogValue(s) }
