package redispool

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// errURLSecret stands in for everything about a URL that cannot be said without showing a part of
// it that may belong to a password.
var errURLSecret = errors.New("redispool: URL cannot be parsed, and is not shown because it may hold a password: " +
	"percent-encode what is not a letter or digit in user and password")

// plainName is what a parameter's name may look like for it to be repeated in an error.
var plainName = regexp.MustCompile(`^[A-Za-z_]{1,40}$`)

// parseURL reads the forms that Config.URL names. No error of it holds anything of the URL but
// scheme and names of parameters (INV-12): net/url and go-redis quote what they could not parse,
// which for a password that is not percent-encoded is the password.
func parseURL(raw string) (target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, errURLSecret
	}
	if strings.Contains(raw, "@") && u.User == nil || strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
		return target{}, errURLSecret
	}
	scheme, kind, err := splitScheme(u)
	if err != nil {
		return target{}, err
	}
	if scheme != "unix" && kind != kindCluster && strings.Count(strings.Trim(u.Path, "/"), "/") > 0 {
		return target{}, errors.New("redispool: URL: the path is to be the number of a database, such as /0")
	}
	if kind == kindCluster && strings.Trim(u.Path, "/") != "" {
		return target{}, errors.New("redispool: URL: a Cluster has no databases; the path is to be empty")
	}
	u.Scheme = scheme
	var opts redis.UniversalOptions
	switch kind {
	case kindSentinel:
		opts, err = sentinelURL(u)
	case kindCluster:
		opts, err = clusterURL(u)
	case kindNode:
		opts, err = nodeURL(u)
	}
	if err != nil {
		return target{}, describe(err)
	}
	return target{kind: kind, url: true, opts: opts}, nil
}

// splitScheme tells the kind of client a URL asks for and returns the scheme that go-redis knows
// for it.
func splitScheme(u *url.URL) (string, clientKind, error) {
	q := u.Query()
	switch base, suffix, _ := strings.Cut(u.Scheme, "+"); {
	case base == "unix" && suffix == "":
		return base, kindNode, nil
	case base != "redis" && base != "rediss":
	case suffix == "sentinel" || suffix == "" && q.Has("master_name"):
		if q.Get("master_name") == "" {
			return "", 0, errors.New("redispool: URL: Sentinel needs the parameter master_name")
		}
		return base, kindSentinel, nil
	case suffix == "cluster" || suffix == "" && q.Has("addr"):
		return base, kindCluster, nil
	case suffix == "":
		return base, kindNode, nil
	case suffix == "ring":
		return "", 0, errors.New("redispool: URL: a Ring is not supported; give each shard a Pool of its own, or use a Cluster")
	}
	scheme := u.Scheme
	if !plainName.MatchString(strings.ReplaceAll(scheme, "+", "_")) {
		scheme = ""
	}
	return "", 0, fmt.Errorf("redispool: URL: unknown scheme %q; known are redis, rediss, unix, redis+sentinel, "+
		"rediss+sentinel, redis+cluster and rediss+cluster", scheme)
}

// describe passes on what go-redis says about parameters, as far as it repeats only their names.
func describe(err error) error {
	text := strings.TrimPrefix(err.Error(), "redis: ")
	if names, ok := strings.CutPrefix(text, "unexpected option: "); ok {
		list := strings.Split(names, ", ")
		if slices.ContainsFunc(list, func(n string) bool { return !plainName.MatchString(n) }) {
			return errURLSecret
		}
		return fmt.Errorf("redispool: URL: unknown parameter %s", strings.Join(list, ", "))
	}
	if rest, ok := strings.CutPrefix(text, "invalid "); ok {
		if name, _, _ := strings.Cut(rest, " "); plainName.MatchString(name) && name != "URL" {
			return fmt.Errorf("redispool: URL: the value of %s is not valid", name)
		}
	}
	if strings.HasPrefix(text, "empty unix socket path") {
		return errors.New("redispool: URL: unix:// needs the path of a socket")
	}
	if strings.HasPrefix(text, "unable to parse addr param") {
		return errors.New("redispool: URL: each addr is to be host:port")
	}
	return errURLSecret
}

func nodeURL(u *url.URL) (redis.UniversalOptions, error) {
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return redis.UniversalOptions{}, err
	}
	return redis.UniversalOptions{
		Addrs: []string{o.Addr}, ClientName: o.ClientName, DB: o.DB, Protocol: o.Protocol,
		Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
		MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout, MaxConcurrentDials: o.MaxConcurrentDials,
		MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime, ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter,
		PipelinePoolSize:       o.PipelinePoolSize,
		PipelineReadBufferSize: o.PipelineReadBufferSize, PipelineWriteBufferSize: o.PipelineWriteBufferSize,
	}, nil
}

func sentinelURL(u *url.URL) (redis.UniversalOptions, error) {
	o, err := redis.ParseFailoverURL(u.String())
	if err != nil {
		return redis.UniversalOptions{}, err
	}
	if o.UseDisconnectedReplicas {
		return redis.UniversalOptions{}, errors.New("redis: unexpected option: use_disconnected_replicas")
	}
	return redis.UniversalOptions{
		MasterName: o.MasterName, Addrs: o.SentinelAddrs,
		SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
		ClientName: o.ClientName, DB: o.DB, Protocol: o.Protocol,
		Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
		RouteByLatency: o.RouteByLatency, RouteByLatencyTolerance: o.RouteByLatencyTolerance,
		RouteRandomly: o.RouteRandomly, ReadOnly: o.ReplicaOnly,
		MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		DialerRetries: o.DialerRetries, DialerRetryTimeout: o.DialerRetryTimeout,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout, MaxConcurrentDials: o.MaxConcurrentDials,
		MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime, ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter,
		PipelinePoolSize:       o.PipelinePoolSize,
		PipelineReadBufferSize: o.PipelineReadBufferSize, PipelineWriteBufferSize: o.PipelineWriteBufferSize,
		DisableIdentity: o.DisableIdentity, IdentitySuffix: o.IdentitySuffix,
	}, nil
}

func clusterURL(u *url.URL) (redis.UniversalOptions, error) {
	o, err := redis.ParseClusterURL(u.String())
	if err != nil {
		return redis.UniversalOptions{}, err
	}
	return redis.UniversalOptions{
		IsClusterMode: true, Addrs: o.Addrs, ClientName: o.ClientName, Protocol: o.Protocol,
		Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
		MaxRedirects: o.MaxRedirects, ReadOnly: o.ReadOnly, RouteByLatency: o.RouteByLatency,
		RouteByLatencyTolerance: o.RouteByLatencyTolerance, RouteRandomly: o.RouteRandomly,
		MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		DialerRetries: o.DialerRetries, DialerRetryTimeout: o.DialerRetryTimeout,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout, MaxConcurrentDials: o.MaxConcurrentDials,
		MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime, ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter,
		PipelinePoolSize:       o.PipelinePoolSize,
		PipelineReadBufferSize: o.PipelineReadBufferSize, PipelineWriteBufferSize: o.PipelineWriteBufferSize,
		FailingTimeoutSeconds: o.FailingTimeoutSeconds,
	}, nil
}
