package redispool

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Validate returns every fault of c, joined, or nil. It reads the files that c names; it changes
// nothing and dials nothing. New calls it.
func (c Config) Validate() error {
	_, _, err := c.resolve()
	return err
}

// resolve returns c with its defaults, and where and how to connect.
func (c Config) resolve() (Config, target, error) {
	t, urlErr := c.target()
	if urlErr == nil {
		c = t.fill(c)
	}
	var fileErr error
	t.disk, fileErr = c.readFiles()
	errs := []error{urlErr, c.faults(), c.checkFaults(), c.fileFaults(), fileErr}
	if urlErr == nil {
		errs = append(errs, t.faults(), t.conflicts(c))
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, target{}, err
	}
	return c.withDefaults(), t, nil
}

// faults are those of the fields alone.
func (c Config) faults() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("redispool: "+format, args...)) }

	if !(c.LifetimeJitter >= 0 && c.LifetimeJitter <= 1) { // written so that NaN is refused too
		fault("LifetimeJitter is %v; it must be 0 to 1", c.LifetimeJitter)
	}
	errs = append(errs, c.sizeFaults()...)
	errs = append(errs, c.timeFaults(), isolation.Validate("redispool", c.Isolation, isolation.SampleEvery(c.Isolation)))
	if c.Start < poolkeeper.StartFailFast || c.Start > poolkeeper.StartDegraded {
		fault("Start is %s; it must be StartFailFast, StartWaitForServer or StartDegraded", c.Start)
	}
	return errors.Join(errs...)
}

// sizeFaults are those of the numbers of connections and processes.
func (c Config) sizeFaults() []error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("redispool: "+format, args...)) }
	limit := c.MaxOpen
	if limit == 0 {
		limit = defaultMaxOpen()
	}
	if c.MaxOpen < 0 || c.MaxOpen > maxMaxOpen {
		fault("MaxOpen is %d; it must be 0 (the default) to %d", c.MaxOpen, maxMaxOpen)
		limit = maxMaxOpen
	}
	if c.MinIdle < 0 || c.MinIdle > limit {
		fault("MinIdle is %d; it must be 0 to MaxOpen, %d", c.MinIdle, limit)
	}
	if c.MaxOpenCeiling != 0 && (c.MaxOpenCeiling < limit || c.MaxOpenCeiling > maxMaxOpen) {
		fault("MaxOpenCeiling is %d; it must be 0 (MaxOpen) or from MaxOpen, %d, to %d", c.MaxOpenCeiling, limit, maxMaxOpen)
	}
	if c.MaxWaiting < poolkeeper.NoWaiting {
		fault("MaxWaiting is %d; it must be NoWaiting, 0 (no limit) or positive", c.MaxWaiting)
	}
	if c.Instances < 0 {
		fault("Instances is %d; it must not be negative", c.Instances)
	}
	return errs
}

// timeFaults are those of the durations.
func (c Config) timeFaults() error {
	return settings.Times("redispool",
		settings.Time{Name: "MaxIdleTime", Value: c.MaxIdleTime, Off: true, Long: true},
		settings.Time{Name: "MaxLifetime", Value: c.MaxLifetime, Off: true, Long: true},
		settings.Time{Name: "KeepAlive", Value: c.KeepAlive, Off: true, Long: true},
		settings.Time{Name: "EvictionInterval", Value: c.EvictionInterval},
		settings.Time{Name: "AcquireTimeout", Value: c.AcquireTimeout, Off: true},
		settings.Time{Name: "DialTimeout", Value: c.DialTimeout},
		settings.Time{Name: "FailFastAfter", Value: c.FailFastAfter, Off: true},
		settings.Time{Name: "SuspectPing", Value: c.SuspectPing, Off: true},
		settings.Time{Name: "ReadTimeout", Value: c.ReadTimeout, Off: true},
		settings.Time{Name: "WriteTimeout", Value: c.WriteTimeout, Off: true},
		settings.Time{Name: "LeakThreshold", Value: c.LeakThreshold, Off: true, Long: true},
		settings.Time{Name: "FileInterval", Value: c.FileInterval, Off: true, Long: true},
	)
}

// ownTimes returns the durations of Options that stand in for no field of Config.
func ownTimes(o redis.UniversalOptions) []settings.Time {
	times := []settings.Time{
		{Name: "MinRetryBackoff", Value: o.MinRetryBackoff},
		{Name: "MaxRetryBackoff", Value: o.MaxRetryBackoff},
		{Name: "DialerRetryTimeout", Value: o.DialerRetryTimeout},
		{Name: "RouteByLatencyTolerance", Value: o.RouteByLatencyTolerance},
	}
	if m := o.MaintNotificationsConfig; m != nil {
		times = append(times,
			settings.Time{Name: "MaintNotificationsConfig.RelaxedTimeout", Value: m.RelaxedTimeout},
			settings.Time{Name: "MaintNotificationsConfig.HandoffTimeout", Value: m.HandoffTimeout},
			settings.Time{Name: "MaintNotificationsConfig.PostHandoffRelaxedDuration", Value: m.PostHandoffRelaxedDuration},
			settings.Time{Name: "MaintNotificationsConfig.CircuitBreakerResetTimeout", Value: m.CircuitBreakerResetTimeout},
		)
	}
	return times
}

// faults are what the pool cannot honour, and what go-redis would ignore without a word.
func (t target) faults() error {
	o := t.opts
	var errs []error
	fault := func(is bool, text string) {
		if is {
			errs = append(errs, errors.New("redispool: "+text))
		}
	}
	fault(o.MaxIdleConns != 0, "MaxIdleConns (max_idle_conns) is set; idle connections are bounded by demand, see MaxIdleTime")
	fault(o.MaxActiveConns != 0, "MaxActiveConns (max_active_conns) is set; MaxOpen is the limit")
	fault(o.PipelinePoolSize > 0 || o.PipelineReadBufferSize > 0 || o.PipelineWriteBufferSize > 0,
		"go-redis' pool for pipelines is configured (PipelinePoolSize, Pipeline…BufferSize); it has no eviction, so pipelines run on the one pool")
	fault(o.ClientSideCache != nil || o.ClientSideCacheConfig != nil, "client-side caching is configured; it is not supported on a managed pool")
	fault(o.ReadTimeout < -1 || o.WriteTimeout < -1, "ReadTimeout or WriteTimeout is below -1; a connection without deadlines cannot be bounded")
	fault(o.MinRetryBackoff < -1, fmt.Sprintf("MinRetryBackoff is %s; it must be -1 (none) or more", o.MinRetryBackoff))
	fault(o.MaxRetryBackoff < -1, fmt.Sprintf("MaxRetryBackoff is %s; it must be -1 (none) or more", o.MaxRetryBackoff))
	fault(o.MaxRetries < -1, "MaxRetries is below -1")
	for _, d := range ownTimes(o) {
		fault(d.Value > settings.Longest, fmt.Sprintf("%s is %s; it must be at most 100 years", d.Name, d.Value))
	}
	fault(o.DB < 0, "the number of the database is negative")
	fault(t.kind == kindCluster && o.DB != 0, "a database is chosen, but a Cluster has only database 0")
	fault(t.kind == kindSentinel && (o.RouteByLatency || o.RouteRandomly || o.IsClusterMode),
		"Sentinel with RouteByLatency, RouteRandomly or IsClusterMode: go-redis does not close that client's connections to the sentinels")
	fault(t.kind != kindNode && len(o.Addrs) == 0, fmt.Sprintf("no address of a %s is given", t.kind))
	return errors.Join(errs...)
}

// conflicts are contradictions between c and what URL or Options say.
func (t target) conflicts(c Config) error {
	o := t.opts
	var errs []error
	secure := c.TLS != nil || c.TLSFiles != (poolkeeper.TLSFiles{})
	if secure && o.Dialer != nil {
		errs = append(errs, errors.New("redispool: TLS is set, but Options.Dialer makes the connections; let it speak TLS"))
	}
	if secure && t.kind == kindNode && len(o.Addrs) > 0 && strings.HasPrefix(o.Addrs[0], "/") {
		errs = append(errs, errors.New("redispool: TLS is set, but the server is a local socket"))
	}
	if c.Isolation.MinScore > 0 && !t.readsReplicas() {
		errs = append(errs, fmt.Errorf("redispool: Isolation.MinScore is %d; it must be 0 (off) unless the pool is a Cluster with reads from replicas: "+
			"set ReadOnly, RouteByLatency or RouteRandomly in Options or in the URL", c.Isolation.MinScore))
	}
	if (c.Credentials != nil || c.CredentialsFile != "") && o.StreamingCredentialsProvider != nil {
		errs = append(errs, errors.New("redispool: Credentials, or CredentialsFile, and Options.StreamingCredentialsProvider are both set"))
	}
	return errors.Join(errs...)
}

// checkFaults are those of CheckCommand.
func (c Config) checkFaults() error {
	words := c.checkCommand()
	if len(words) == 0 {
		if c.CheckCommand != "" {
			return errors.New("redispool: CheckCommand is blank; it must be a command, or empty for PING")
		}
		return nil
	}
	switch first := strings.ToLower(words[0].(string)); first { //nolint:errcheck,forcetypeassert // all of them are
	case "auth", "hello", "select", "reset", "quit", "multi", "exec", "discard", "watch", "monitor", "subscribe", "psubscribe",
		"ssubscribe", "sync", "psync", "shutdown", "client":
		return fmt.Errorf("redispool: CheckCommand is %q; it must leave the connection as it is, as GET does", first)
	}
	return nil
}

func (c Config) fileFaults() error {
	return c.files().Clash("redispool: ", c.TLS, c.Credentials != nil)
}
