package redispool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/fleet"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Reload replaces the configuration while the pool works. It checks all of cfg first and returns
// every fault and every field that cannot change (see Plan). If address, TLS or credentials differ,
// it opens and checks a connection by the new ones. Only then does it change anything. Limits and
// times hold at once. Connections opened by the old address, TLS or credentials are replaced as
// they become idle, and no command fails by it. In this case Reload checks the server again, and
// puts the old configuration back if that fails. It blocks until then, at most until ctx ends. An
// empty Name, and a MaxOpenCeiling of 0, keep the old one.
//
// What can change: the address of a single node, user and password, TLS, Credentials and the files;
// MaxOpen, up to MaxOpenCeiling; MinIdle, MaxIdleTime, MaxLifetime, LifetimeJitter, KeepAlive,
// EvictionInterval; MaxWaiting, FailFastAfter, SuspectPing, Isolation, LeakThreshold,
// DisableLeakStacks, Instances, Logger. The rest go-redis fixes when the client is made.
func (p *Pool) Reload(ctx context.Context, cfg Config) error {
	if err := p.state.BeginChange(ctx); err != nil {
		return fmt.Errorf("redispool: reload %q: %w", p.poolName(), err)
	}
	defer p.state.EndChange()
	s, err := p.reload(ctx, cfg)
	switch {
	case err != nil:
		p.events.Emit(event.OfReloadRefused(err))
	case len(s.changes) > 0:
		p.events.Emit(event.OfReload(s.changes))
		if slices.ContainsFunc(s.changes, fleet.Concerns) {
			p.warnOfLimits(ctx)
		}
	}
	return err
}

// reload puts cfg in effect and returns what has changed. It needs the turn to reload.
func (p *Pool) reload(ctx context.Context, cfg Config) (staged, error) {
	s, err := p.stage(cfg)
	if err != nil {
		return s, fmt.Errorf("redispool: reload %q: nothing was changed: %w", p.poolName(), err)
	}
	if len(s.changes) == 0 {
		return s, nil
	}
	if s.leads {
		if err := p.try(ctx, s.endpoint); err != nil {
			return s, fmt.Errorf("redispool: reload %q: nothing was changed: %w", p.poolName(), asFault(err))
		}
	}
	return s, p.switchTo(ctx, s)
}

// Plan returns the changes that Reload with cfg would make. The Field of a change may also be "URL",
// for the address and the user in URL or Options. The error joins every fault of cfg and every
// field that cannot change. Plan changes nothing and does not dial.
func (p *Pool) Plan(cfg Config) ([]poolkeeper.Change, error) {
	s, err := p.stage(cfg)
	if err != nil {
		return s.changes, fmt.Errorf("redispool: plan for %q: %w", p.poolName(), err)
	}
	return s.changes, nil
}

// staged is a configuration that has been found possible, and not been put in effect.
type staged struct {
	cfg      Config // with defaults
	endpoint *endpoint
	changes  []poolkeeper.Change
	leads    bool // connections open already are of another kind
}

func (p *Pool) stage(cfg Config) (staged, error) {
	if cfg.Name == "" {
		cfg.Name = p.cfg.Name
	}
	given, ceiling := cfg.TLS, cfg.MaxOpenCeiling
	next, t, err := cfg.resolve()
	if err != nil {
		return staged{}, err
	}
	if ceiling == 0 {
		next.MaxOpenCeiling = p.cfg.MaxOpenCeiling
	}
	s := staged{cfg: next, endpoint: p.endpoint.Load()}
	s.changes, err = p.plan(&next, t, given)
	s.leads = slices.ContainsFunc(s.changes, leads)
	if s.leads {
		s.endpoint = p.newEndpoint(t, next, given)
	}
	return s, err
}

// leads says whether a change is about where and as whom connections are opened, so that those open
// already are of another kind.
func leads(c poolkeeper.Change) bool {
	switch c.Field {
	case "URL", "TLS", "Credentials", "TLSFiles", "CredentialsFile":
		return true
	default:
		return false
	}
}

// plan says what a reload would change, and refuses what cannot change while the pool lives.
func (p *Pool) plan(next *Config, t target, givenTLS *tls.Config) ([]poolkeeper.Change, error) {
	was := p.endpoint.Load()
	out := changes(p.config(), next)
	if givenTLS != was.given {
		out = append(out, poolkeeper.Change{Field: "TLS", From: "…", To: "…"})
	}
	var errs []error
	for _, c := range out {
		switch c.Field {
		case "Name", "Start", "MaxOpenCeiling", "AcquireTimeout", "DialTimeout", "ReadTimeout", "WriteTimeout":
			errs = append(errs, fmt.Errorf("redispool: %s is fixed when the pool is made (%s, wanted %s)", c.Field, c.From, c.To))
		}
	}
	if ceiling := p.cfg.MaxOpenCeiling; next.MaxOpen > ceiling {
		errs = append(errs, fmt.Errorf("redispool: MaxOpen %d is above MaxOpenCeiling, %d: go-redis cannot grow beyond it", next.MaxOpen, ceiling))
	}
	if t.kind != p.target.kind {
		errs = append(errs, fmt.Errorf("redispool: the kind of client is fixed when the pool is made (%s, wanted %s)", p.target.kind, t.kind))
	}
	fixed, led := compareOptions(was.target, t)
	for _, name := range fixed {
		errs = append(errs, fmt.Errorf("redispool: %s of URL or Options is fixed when the pool is made", name))
	}
	if led {
		out = append(out, poolkeeper.Change{Field: "URL", From: "…", To: "…"})
	}
	for _, c := range onfile.Differ(was.target.disk, t.disk) {
		if !slices.ContainsFunc(out, func(o poolkeeper.Change) bool { return o.Field == c.Field }) {
			out = append(out, c)
		}
	}
	return out, errors.Join(errs...)
}

// changes compares field by field. URL and Options are left to compareOptions, and TLS, which is a
// copy, to the caller.
func changes(from, to *Config) []poolkeeper.Change {
	return slices.DeleteFunc(settings.Diff(from, to), func(c poolkeeper.Change) bool {
		return c.Field == "URL" || c.Field == "Options" || c.Field == "TLS"
	})
}

// ours are the fields of go-redis' options that stand in for fields of Config, which are compared
// by themselves.
//
//nolint:gochecknoglobals // a constant table
var ours = []string{
	"PoolSize", "MinIdleConns", "PoolTimeout", "ConnMaxIdleTime", "ConnMaxLifetime", "ConnMaxLifetimeJitter",
	"DialTimeout", "ReadTimeout", "WriteTimeout", "PipelinePoolSize", "ContextTimeoutEnabled", "DialerRetries", "DialerRetryTimeout",
}

// compareOptions returns the fields of go-redis' options that differ but cannot change, and whether
// any differs that says where and as whom to connect.
func compareOptions(from, to target) (fixed []string, led bool) {
	a, b := reflect.ValueOf(from.opts), reflect.ValueOf(to.opts)
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		if slices.Contains(ours, name) || settings.Equal(a.Field(i), b.Field(i)) ||
			name == "TLSConfig" && sameSchemeTLS(from, to) {
			continue
		}
		switch name {
		case "Username", "Password", "TLSConfig", "CredentialsProvider", "CredentialsProviderContext", "Dialer":
			led = true
		case "Addrs":
			if from.kind == kindNode {
				led = true
			} else {
				fixed = append(fixed, name)
			}
		default:
			fixed = append(fixed, name)
		}
	}
	return fixed, led
}

// sameSchemeTLS reports whether both are what a URL's scheme says about TLS, and it is the same.
func sameSchemeTLS(from, to target) bool {
	x, y := from.opts.TLSConfig, to.opts.TLSConfig
	return from.url && to.url && x != nil && y != nil && x.ServerName == y.ServerName && x.InsecureSkipVerify == y.InsecureSkipVerify
}

// try opens a connection by a, logs in and asks for a sign of life. Behind Sentinel it asks the
// sentinels by a too.
func (p *Pool) try(ctx context.Context, a *endpoint) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience())
	defer cancel()
	nodes := p.liveNodes(ctx)
	if len(nodes) == 0 {
		return nil // a Cluster that no caller has used yet: the check afterwards will tell
	}
	connect := func(ctx context.Context, network, addr string) (net.Conn, error) {
		return p.connect(ctx, a, network, addr)
	}
	credentials := func(ctx context.Context) (user, password string, err error) { return p.ask(ctx, a) }
	var c *redis.Client
	if p.target.kind == kindSentinel {
		o := a.target.universal(*p.cfg)
		o.Dialer, o.Username, o.Password = connect, "", ""
		o.CredentialsProvider, o.CredentialsProviderContext = nil, credentials
		o.PoolSize, o.MaxConcurrentDials, o.MaxRetries = checkPoolSize, 0, -1
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		c = redis.NewFailoverClient(o.Failover())
	} else {
		o := nodes[0].ownOptions()
		o.Dialer, o.CredentialsProviderContext = connect, credentials
		c = redis.NewClient(o)
	}
	c.AddHook(newCheckHook(nodes[0])) // so that Stop closes it too
	err := nodes[0].ask(ctx, c)
	return errors.Join(err, c.Close())
}

// switchTo puts a configuration in effect, and the old one back if the check that follows fails.
func (p *Pool) switchTo(ctx context.Context, s staged) error {
	oldAim, old := p.endpoint.Load(), p.config()
	p.put(s.endpoint, &s.cfg)
	if s.leads {
		if err := p.checkAnew(ctx); err != nil {
			p.put(oldAim, old)
			p.checker.hangUp(ctx)
			p.recycle(context.WithoutCancel(ctx), func(c *conn) bool { return c.endpoint != oldAim })
			return fmt.Errorf("redispool: reload %q: the check failed, and the old configuration is back: %w", p.poolName(), asFault(err))
		}
		p.countGeneration()
		p.recycle(ctx, func(c *conn) bool { return c.endpoint != s.endpoint })
	}
	for _, n := range p.allNodes() {
		n.trim(ctx, s.cfg.MaxOpen)
	}
	return nil
}

// put makes a configuration the one in effect.
func (p *Pool) put(to *endpoint, cfg *Config) {
	p.live.Store(cfg)
	p.endpoint.Store(to)
	p.held.SetStacks(!cfg.DisableLeakStacks)
	p.watchFor(cfg.LeakThreshold)
	p.isolator.configure(cfg.Isolation)
	for _, n := range p.allNodes() {
		n.obeyLimit()
		_ = n.evictor.SetPolicy(p.policy()) // Validate has accepted every part of it
	}
	p.watchFiles()
}

// checkAnew is a check on connections that are opened by what is in effect now.
func (p *Pool) checkAnew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience())
	defer cancel()
	p.checker.hangUp(ctx)
	_, err := p.checker.check(ctx)
	return err
}

// trim closes idle connections above a limit. If they are too few, as many more are closed when
// they come back.
func (n *node) trim(ctx context.Context, limit int) {
	if n.Open() <= limit || n.upkeep.Lock(ctx) != nil {
		return
	}
	defer n.upkeep.Unlock()
	_, _ = n.visitIdle(ctx, nil, func(idle []*idleConn) { // what it does not get is condemned below
		over := min(max(n.Open()-limit, 0), len(idle))
		for _, l := range idle[len(idle)-over:] {
			l.closeFor = reload
		}
	})
	over := n.Open() - limit
	for _, c := range n.list() {
		if over > 0 && c.condemn(reload) {
			over--
		}
	}
}

// watchFor replaces the watch for leaks.
func (p *Pool) watchFor(limit time.Duration) {
	p.mu.Lock()
	old := p.watch
	p.watch = nil
	if limit > 0 {
		p.watch = holders.NewWatch(p.held, limit, p.reportLeaks)
		if p.state.At() == life.Running {
			p.watch.Start()
		}
	}
	p.mu.Unlock()
	if old != nil {
		old.Stop()
	}
}
