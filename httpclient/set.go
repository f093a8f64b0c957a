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
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/internal/sum"
)

// Set is several clients, by name, as one component. Make it with [NewSet]. All its methods are safe
// for concurrent use.
type Set struct {
	names   []string // sorted
	clients map[string]*Client
}

// NewSet returns a set of clients. Config.Name is the key if it is empty. Every fault of every
// configuration is reported at once.
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

// Get returns the client of that name, nil if there is none. [Client.HTTP] is its native handle.
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

// Stats returns the sums over all clients, and each client as a member.
func (s *Set) Stats() poolkeeper.Stats {
	out := poolkeeper.Stats{Evicted: map[string]uint64{}}
	for _, name := range s.names {
		st := s.clients[name].Stats()
		state := "ready"
		if !st.DownSince.IsZero() {
			state = "down"
		}
		out.Members = append(out.Members, poolkeeper.MemberStats{Name: name, State: state, InRotation: state == "ready", Stats: st})
		sum.Add(&out, &st)
	}
	return out
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

// Settings returns those of each client, as a group.
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
