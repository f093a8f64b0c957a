package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// Options configure the pools, and bound the time for each server.
type Options struct {
	Instances int           // processes that run at once; at least 1
	MaxOpen   int           // 0: what the URL says, or the pool's default
	KeepAlive time.Duration // 0: the pool's default
	TLSFiles  poolkeeper.TLSFiles
	Timeout   time.Duration // for each server
	// Proxy returns the proxy of an HTTP URL, or nil. Default: none.
	Proxy func(*url.URL) (*url.URL, error)
}

// dialTimeout is shorter than Timeout, to leave time to find out why a dial failed.
func (o Options) dialTimeout() time.Duration { return min(o.Timeout/2, 5*time.Second) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Validate returns every fault of the options and of the targets, joined, or nil.
func (o Options) Validate(targets []Target) error {
	var errs []error
	if o.Instances < 1 {
		errs = append(errs, fmt.Errorf("instances is %d; it must be at least 1", o.Instances))
	}
	if o.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout is %s; it must be positive", o.Timeout))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, t := range targets {
		errs = append(errs, t.validate(o))
	}
	return errors.Join(errs...)
}

// Examine asks all targets at once. It blocks until each has answered, failed, or used up its
// timeout, or until ctx ends. The servers of the report are in the order of targets. done is called
// as each ends, not concurrently; it may be nil.
func Examine(ctx context.Context, targets []Target, o Options, done func()) Report {
	r := Report{Healthy: true, Servers: make([]Server, len(targets))}
	var wg sync.WaitGroup
	var mu sync.Mutex // serialises done
	for i, t := range targets {
		wg.Go(func() { // ends within the timeout, and is waited for below
			r.Servers[i] = examine(ctx, t, o)
			if done != nil {
				mu.Lock()
				defer mu.Unlock()
				done()
			}
		})
	}
	wg.Wait()
	for _, s := range r.Servers {
		for _, f := range s.Findings {
			r.Healthy = r.Healthy && f.Severity == SeverityNote
		}
	}
	return r
}

func examine(ctx context.Context, t Target, o Options) Server {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	s := Server{Target: t.Name, Kind: t.Kind}
	var err error
	switch t.Kind {
	case KindRedis:
		err = s.askRedis(ctx, o.redis(t))
	case KindPostgres:
		err = s.askPostgres(ctx, o.postgres(t))
	case KindMySQL:
		err = s.askMySQL(ctx, o.mysql(t))
	case KindHTTP:
		err = s.askHTTP(ctx, t, o)
	case KindGRPC:
		err = s.askGRPC(ctx, t, o)
	}
	s.Reachable = err == nil
	if err != nil {
		f := health.Classify(err)
		if t.Kind == KindHTTP || t.Kind == KindGRPC {
			err = fmt.Errorf("ask: %w", err) // reason takes the outer error off
		}
		s.Error, s.Cause, s.Advice = t.hide(reason(t.Name, err)), string(f.Kind), f.Advice
	}
	s.Findings = Advise(s, Circumstances{
		Now: time.Now(), MaxOpen: s.Budget.PerInstance - 1, KeepAlive: o.keepAlive(t.Kind),
		MaxLifetime: maxLifetime(t.Kind), ChoosesExecMode: t.modes, Local: t.local,
	})
	return s
}

// keepAlive is the KeepAlive in effect. The SQL pools choose their own default by the server's
// time-out: then it is 0.
func (o Options) keepAlive(kind string) time.Duration {
	if kind == KindRedis {
		return cmp.Or(o.KeepAlive, redispool.DefaultKeepAlive)
	}
	return o.KeepAlive
}

// maxLifetime is the pool's default. Redis' connections have no limit.
func maxLifetime(kind string) time.Duration {
	if kind == KindRedis {
		return 0
	}
	return sqlpool.DefaultMaxLifetime
}

func (s *Server) askRedis(ctx context.Context, cfg redispool.Config) error {
	a, err := redispool.Ask(ctx, cfg)
	s.info(a.ServerInfo)
	l := a.Limits
	s.Budget = Budget{PerInstance: l.PerInstance, Instances: l.Instances, Surge: l.Surge, Demand: l.Demand, Granted: l.MaxConnections}
	s.Limits = Limits{
		MaxConnections: l.MaxConnections, OnServer: l.OnServer, Node: l.Node, IdleTimeout: l.IdleTimeout.Seconds(),
	}
	s.silent = l.IdleTimeout
	return err
}

func (s *Server) askPostgres(ctx context.Context, cfg sqlpool.PostgresConfig) error {
	a, err := sqlpool.AskPostgres(ctx, cfg)
	s.sql(a)
	return err
}

func (s *Server) askMySQL(ctx context.Context, cfg sqlpool.MySQLConfig) error {
	a, err := sqlpool.AskMySQL(ctx, cfg)
	s.sql(a)
	return err
}

func (s *Server) sql(a sqlpool.Answer) {
	s.info(a.ServerInfo)
	l := a.Limits
	s.Budget = Budget{PerInstance: l.PerInstance, Instances: l.Instances, Surge: l.Surge, Demand: l.Demand, Granted: max(l.MaxConnections-l.Reserved, 0)}
	if l.UserLimit > 0 {
		s.Budget.Granted = min(cmp.Or(s.Budget.Granted, l.UserLimit), l.UserLimit)
	}
	if l.Pooled {
		s.Budget.Granted = 0 // connections end at the pooler
	}
	s.Limits = Limits{
		MaxConnections: l.MaxConnections, Reserved: l.Reserved, UserLimit: l.UserLimit, OnServer: l.OnServer,
		IdleTimeout: l.IdleTimeout.Seconds(), Pooled: l.Pooled, TransactionMode: l.TransactionMode, Proxied: l.Proxied,
	}
	s.silent = l.IdleTimeout
}

// info copies the answers that all kinds of servers give.
func (s *Server) info(i poolkeeper.ServerInfo) {
	s.Server, s.Version, s.TLS, s.Settings, s.LeftOut = i.Server, i.Version, i.TLS, i.Settings, i.LeftOut
	s.Latency = Latency{
		Connect: ms(i.Latency.Connect), TLS: ms(i.Latency.TLS), Login: ms(i.Latency.Login),
		Pings: i.Latency.Pings, PingP50: ms(i.Latency.PingP50), PingP99: ms(i.Latency.PingP99),
	}
	for _, c := range i.Certificates {
		s.Certificates = append(s.Certificates, Certificate(c))
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
