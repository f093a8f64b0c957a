package httpclient

import (
	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/env"
)

// FromEnv returns a Config from environment variables, validated. Each is named after a field: with
// the prefix BILLING, BILLING_BASE_URL, BILLING_MAX_OPEN, BILLING_HEADER_TIMEOUT,
// BILLING_TLS_FILES_CA and so on. Durations are Go's (1m30s), or off where the field may be Off;
// BILLING_HOSTS is a list with commas, BILLING_CLASS one of standard, short, streaming,
// BILLING_START one of fail-fast, wait-for-server, start-degraded. A variable that is not set, or
// empty, means the default. TLS, Authorize, Wrap, DialContext, Proxy and Logger cannot be set this
// way; set them afterwards.
//
// Every fault is reported at once, with the variable, its value and what is allowed. Variables that
// it does not know are ignored.
func FromEnv(prefix string) (Config, error) {
	r := env.NewReader("httpclient", prefix)
	var c Config
	r.String("Name", &c.Name)
	r.String("BaseURL", &c.BaseURL)
	r.List("Hosts", &c.Hosts)
	r.Isolation("Isolation", &c.Isolation)
	env.Choose(r, "Class", &c.Class,
		env.Choice[Class]{Word: "standard", Value: ClassStandard},
		env.Choice[Class]{Word: "short", Value: ClassShort},
		env.Choice[Class]{Word: "streaming", Value: ClassStreaming})
	r.Int("MaxOpen", &c.MaxOpen)
	r.Int("MaxIdle", &c.MaxIdle)
	r.Waiting("MaxWaiting", &c.MaxWaiting)
	r.Duration("MaxIdleTime", &c.MaxIdleTime, poolkeeper.Off)
	r.Duration("AcquireTimeout", &c.AcquireTimeout, poolkeeper.Off)
	r.Duration("DialTimeout", &c.DialTimeout, 0)
	r.Duration("TLSTimeout", &c.TLSTimeout, 0)
	r.Duration("HeaderTimeout", &c.HeaderTimeout, poolkeeper.Off)
	r.Duration("BodyTimeout", &c.BodyTimeout, poolkeeper.Off)
	r.Duration("RequestTimeout", &c.RequestTimeout, poolkeeper.Off)
	r.Duration("FailFastAfter", &c.FailFastAfter, poolkeeper.Off)
	r.String("CheckPath", &c.CheckPath)
	r.StartPolicy("Start", &c.Start)
	r.Duration("LeakThreshold", &c.LeakThreshold, poolkeeper.Off)
	r.Bool("DisableLeakStacks", &c.DisableLeakStacks)
	r.TLSFiles("TLSFiles", &c.TLSFiles)
	r.Duration("FileInterval", &c.FileInterval, poolkeeper.Off)
	if err := r.Err(c.Validate()); err != nil {
		return Config{}, err
	}
	return c, nil
}
