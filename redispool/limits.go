package redispool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/fleet"
)

// Limits compares the server's limits with the demand of this configuration. On a Cluster it
// describes the node that grants least.
type Limits struct {
	Node           string // address of the node on a Cluster; else empty
	MaxConnections int    // the server's maxclients; 0: not known
	OnServer       int    // connections on the server now, of all its clients

	PerInstance int // MaxOpen, and one for checks; each subscription is one more
	Instances   int // Config.Instances
	Surge       int // more instances while a new version is rolled out: a quarter, rounded up, as Kubernetes does by default
	Demand      int // PerInstance × (Instances + Surge)

	IdleTimeout  time.Duration // after which the server closes a silent connection (timeout); 0: never, or not known
	TCPKeepAlive time.Duration // how often the server asks whether a client lives (tcp-keepalive); 0: never, or not known

	Warnings []string // each with its numbers; empty: all fits
	LeftOut  []string // what could not be asked, and why: a command that the user may not run, a node that does not answer
}

// Limits asks the server for its limits on connections and compares them with this configuration.
// It asks how many connections the server grants and after which silence it closes one. It compares
// that with the demand of all Instances. Start does the same and logs the warnings. It uses the
// health check's connection and blocks at most until ctx ends, or DialTimeout and ReadTimeout are
// over. What the user may not ask (CONFIG, which hosted servers forbid), and nodes of a Cluster
// that do not answer, are left out and named in LeftOut. It fails if no node answers.
func (p *Pool) Limits(ctx context.Context) (Limits, error) {
	ctx, cancel := context.WithTimeout(ctx, p.patience())
	defer cancel()
	if err := p.checker.begin(ctx); err != nil {
		return Limits{}, fmt.Errorf("redispool: limits of %q: %w", p.poolName(), err)
	}
	defer p.checker.end()
	nodes := p.liveNodes(ctx)
	found := make([]Limits, len(nodes))
	errs := p.checker.each(ctx, nodes, func(ctx context.Context, i int, own *redis.Client) (err error) {
		found[i], err = p.limitsOf(ctx, nodes[i], own)
		return err
	})
	var least Limits
	var leftOut []string
	known := false
	for i, l := range found {
		if errs[i] != nil {
			leftOut = append(leftOut, fmt.Sprintf("node %s: %v", nodes[i].addr(), errs[i]))
			continue
		}
		leftOut = append(leftOut, l.LeftOut...)
		if !known || l.MaxConnections > 0 && (least.MaxConnections == 0 || l.MaxConnections < least.MaxConnections) {
			least, known = l, true
		}
	}
	if err := errors.Join(errs...); err != nil && !known {
		return Limits{}, fmt.Errorf("redispool: limits of %q: %w", p.poolName(), asFault(err))
	}
	least.LeftOut = leftOut
	p.fleet.Note(poolkeeper.FleetStats{
		Demand: least.Demand, Limit: least.MaxConnections, OnServer: least.OnServer, Warnings: least.Warnings,
	})
	return least, nil
}

// limitsOf asks one node. It fails only if the node does not answer.
func (p *Pool) limitsOf(ctx context.Context, n *node, own *redis.Client) (Limits, error) {
	var l Limits
	node := ""
	if !n.ownsGate {
		l.Node, node = n.addr(), "node "+n.addr()+": "
	}
	leftOut := func(what string, err error) {
		l.LeftOut = append(l.LeftOut, fmt.Sprintf("%s%s: %v", node, what, err))
	}
	info, err := own.Info(ctx, "clients").Result()
	if err != nil {
		if allowed(ctx, own, err) != nil {
			return Limits{}, err
		}
		leftOut("INFO clients", err)
	}
	facts := infoFields(info)
	l.MaxConnections, l.OnServer = facts["maxclients"], facts["connected_clients"]
	v, err := configNumber(ctx, own, "timeout")
	l.IdleTimeout = time.Duration(v) * time.Second
	if err != nil {
		leftOut("CONFIG GET timeout", err)
	}
	v, err = configNumber(ctx, own, "tcp-keepalive")
	l.TCPKeepAlive = time.Duration(v) * time.Second
	if err != nil {
		leftOut("CONFIG GET tcp-keepalive", err)
	}
	l.judge(p.config(), err == nil)
	return l, nil
}

// infoFields returns the numbers of an INFO reply.
func infoFields(info string) map[string]int {
	out := map[string]int{}
	for line := range strings.Lines(info) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		if n, err := strconv.Atoi(v); err == nil {
			out[k] = n
		}
	}
	return out
}

// configNumber asks for a setting, which the user may not be allowed to.
func configNumber(ctx context.Context, c *redis.Client, setting string) (int, error) {
	got, err := c.ConfigGet(ctx, setting).Result()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(got[setting])
}

// judge fills in the demand and the warnings.
func (l *Limits) judge(cfg *Config, keepAliveKnown bool) {
	d := fleet.Of(cfg.MaxOpen, cfg.Instances)
	l.PerInstance, l.Instances, l.Surge, l.Demand = d.PerInstance, d.Instances, d.Surge, d.Total
	warn := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		if l.Node != "" {
			text = "node " + l.Node + ": " + text
		}
		l.Warnings = append(l.Warnings, text)
	}
	if l.MaxConnections > 0 && l.Demand > l.MaxConnections {
		warn("%s; the server grants %d (maxclients)", d, l.MaxConnections)
	}
	if w := fleet.Silence("connection", l.IdleTimeout, cfg.KeepAlive, cfg.MaxLifetime); w != "" {
		warn("%s", w)
	}
	if keepAliveKnown && l.TCPKeepAlive == 0 {
		warn("the server's tcp-keepalive is 0: it keeps the connections of a replica that has vanished, which count for its limit of %d",
			l.MaxConnections)
	}
}

// warnOfLimits logs what does not fit. Not to be able to ask is no reason not to start.
func (p *Pool) warnOfLimits(ctx context.Context) {
	l, err := p.Limits(ctx)
	fleet.Warn(p.events, l.Warnings, err, slog.Int("demand", l.Demand), slog.Int("granted", l.MaxConnections), slog.Int("on_server", l.OnServer))
}
