package redispool

import (
	"errors"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/env"
)

// FromEnv returns a Config from environment variables, validated. Each is named after a field: with
// the prefix REDIS, REDIS_URL, which must be set, REDIS_MAX_OPEN, REDIS_MAX_IDLE_TIME,
// REDIS_TLS_FILES_CA, REDIS_CREDENTIALS_FILE, REDIS_ISOLATION_MIN_SCORE and so on. Durations are
// Go's (1m30s), or off where the field may be Off; REDIS_LIFETIME_JITTER may be off too;
// REDIS_MAX_WAITING may be none; REDIS_DISABLE_LEAK_STACKS is true or false, REDIS_START one of
// fail-fast, wait-for-server, start-degraded.
// A variable that is not set, or empty, means the default. Options, TLS, Credentials and Logger
// cannot be set this way; set them afterwards.
//
// Every fault is reported at once, with the variable, its value and what is allowed; the value of
// REDIS_URL, and what is in files, is never shown. Variables that it does not know are ignored:
// others may have the same prefix.
func FromEnv(prefix string) (Config, error) {
	r := env.NewReader("redispool", prefix)
	var c Config
	r.Required("URL", &c.URL, "a URL such as redis://host:6379/0, rediss://, unix://, redis+sentinel:// or redis+cluster://")
	r.String("Name", &c.Name)
	r.Int("MaxOpen", &c.MaxOpen)
	r.Int("MaxOpenCeiling", &c.MaxOpenCeiling)
	r.Int("MinIdle", &c.MinIdle)
	r.Duration("MaxIdleTime", &c.MaxIdleTime, poolkeeper.Off)
	r.Duration("MaxLifetime", &c.MaxLifetime, poolkeeper.Off)
	r.Part("LifetimeJitter", &c.LifetimeJitter, poolkeeper.NoJitter)
	r.Duration("KeepAlive", &c.KeepAlive, poolkeeper.Off)
	r.Duration("EvictionInterval", &c.EvictionInterval, 0)
	r.Duration("AcquireTimeout", &c.AcquireTimeout, poolkeeper.Off)
	r.Duration("SuspectPing", &c.SuspectPing, poolkeeper.Off)
	r.Waiting("MaxWaiting", &c.MaxWaiting)
	r.Duration("DialTimeout", &c.DialTimeout, 0)
	r.Duration("FailFastAfter", &c.FailFastAfter, poolkeeper.Off)
	r.Duration("ReadTimeout", &c.ReadTimeout, poolkeeper.Off)
	r.Duration("WriteTimeout", &c.WriteTimeout, poolkeeper.Off)
	r.Duration("LeakThreshold", &c.LeakThreshold, poolkeeper.Off)
	r.Bool("DisableLeakStacks", &c.DisableLeakStacks)
	r.String("CheckCommand", &c.CheckCommand)
	r.StartPolicy("Start", &c.Start)
	r.TLSFiles("TLSFiles", &c.TLSFiles)
	r.String("CredentialsFile", &c.CredentialsFile)
	r.Duration("FileInterval", &c.FileInterval, poolkeeper.Off)
	r.Int("Instances", &c.Instances)
	r.Isolation("Isolation", &c.Isolation)
	if err := r.Err(c.invalid()); err != nil {
		return Config{}, err
	}
	return c, nil
}

// invalid is Validate without the complaint that there is no URL.
func (c Config) invalid() error {
	if c.URL != "" {
		return c.Validate()
	}
	_, err := c.readFiles()
	return errors.Join(c.faults(), c.checkFaults(), c.fileFaults(), err)
}
