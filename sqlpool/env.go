package sqlpool

import (
	"errors"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/env"
)

// FromEnv returns a Config from environment variables, validated. Each is named after a field: with
// the prefix ORDERS, ORDERS_URL, ORDERS_MAX_OPEN, ORDERS_MAX_IDLE_TIME, ORDERS_TLS_FILES_CA,
// ORDERS_CREDENTIALS_FILE and so on. Durations are Go's (1m30s), or off where the field may be Off;
// ORDERS_LIFETIME_JITTER may be off too; ORDERS_LEAK_STACKS, ORDERS_RECYCLE_READ_ONLY and
// ORDERS_PEEK are on or off; ORDERS_MAX_WAITING may be none; ORDERS_START is one of fail-fast,
// wait-for-server, start-degraded. What is not set, or empty, has its default. TLS, Credentials,
// Logger and the Configure functions have no variables; set them afterwards.
//
// Every fault that does not depend on the constructor is reported at once, with the variable, its
// value and what is allowed; the value of ORDERS_URL, and what is in files, is never shown. The
// constructor checks the content of ORDERS_URL, and whether it is required. Variables that FromEnv
// does not know are ignored: others may have the same prefix.
func FromEnv(prefix string) (Config, error) {
	r := env.NewReader("sqlpool", prefix)
	var c Config
	r.String("URL", &c.URL)
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
	r.Duration("QueryTimeout", &c.QueryTimeout, 0)
	r.Waiting("MaxWaiting", &c.MaxWaiting)
	r.Duration("DialTimeout", &c.DialTimeout, 0)
	r.Duration("FailFastAfter", &c.FailFastAfter, poolkeeper.Off)
	r.Int("MaxDials", &c.MaxDials)
	r.Duration("LeakThreshold", &c.LeakThreshold, poolkeeper.Off)
	r.Duration("ReclaimAfter", &c.ReclaimAfter, 0)
	r.Bool("DisableLeakStacks", &c.DisableLeakStacks)
	r.Duration("SuspectPing", &c.SuspectPing, poolkeeper.Off)
	onOff := []env.Choice[Switch]{{Word: "on", Value: Enabled}, {Word: "off", Value: Disabled}}
	env.Choose(r, "RecycleReadOnly", &c.RecycleReadOnly, onOff...)
	env.Choose(r, "Peek", &c.Peek, onOff...)
	r.Duration("CloseGrace", &c.CloseGrace, poolkeeper.Off)
	r.StartPolicy("Start", &c.Start)
	r.Int("Instances", &c.Instances)
	r.TLSFiles("TLSFiles", &c.TLSFiles)
	r.String("CredentialsFile", &c.CredentialsFile)
	r.Duration("FileInterval", &c.FileInterval, poolkeeper.Off)
	r.String("CheckQuery", &c.CheckQuery)
	if err := r.Err(errors.Join(c.Validate(), c.readFiles().err)); err != nil {
		return Config{}, err
	}
	return c, nil
}
