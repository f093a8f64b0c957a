package httpclient

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

const maxMaxOpen = 65535

// Validate returns every fault of c, joined, or nil. It reads the files that c names; it changes
// nothing and dials nothing. New calls it.
func (c Config) Validate() error {
	_, err := c.resolve()
	return err
}

// target is what a configuration refers to.
type target struct {
	base *url.URL // nil: any host
	disk onfile.Contents
}

// resolve returns the server of c, and the contents of its files.
func (c Config) resolve() (target, error) {
	base, err := c.base()
	t := target{base: base}
	var fileErr error
	t.disk, fileErr = onfile.Read("httpclient: ", c.files())
	return t, errors.Join(err, c.faults(), c.files().Clash("httpclient: ", c.TLS, false), fileErr)
}

// base parses BaseURL. Its errors do not show the URL, which may hold a password.
func (c Config) base() (*url.URL, error) {
	if c.BaseURL == "" {
		return nil, nil //nolint:nilnil // any host
	}
	const allowed = `it must be like "https://host:port/path"`
	u, err := url.Parse(c.BaseURL)
	switch {
	case err != nil:
		return nil, errors.New("httpclient: BaseURL is no URL; " + allowed)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("httpclient: BaseURL has the scheme %q; %s, or http", u.Scheme, allowed)
	case u.Host == "":
		return nil, errors.New("httpclient: BaseURL has no host; " + allowed)
	case u.User != nil:
		return nil, errors.New("httpclient: BaseURL has a user; set the header in Authorize")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("httpclient: BaseURL has a query or a fragment; " + allowed)
	}
	return u, nil
}

// faults are those of the fields alone.
func (c Config) faults() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("httpclient: "+format, args...)) }
	limit := c.MaxOpen
	if limit == 0 {
		limit = DefaultMaxOpen
	}
	if c.MaxOpen < 0 || c.MaxOpen > maxMaxOpen {
		fault("MaxOpen is %d; it must be 0 (the default) to %d", c.MaxOpen, maxMaxOpen)
		limit = maxMaxOpen
	}
	if c.MaxIdle < 0 || c.MaxIdle > limit {
		fault("MaxIdle is %d; it must be 0 (MaxOpen) to MaxOpen, %d", c.MaxIdle, limit)
	}
	switch {
	case c.MaxWaiting < poolkeeper.NoWaiting:
		fault("MaxWaiting is %d; it must be NoWaiting, 0 (no limit) or positive", c.MaxWaiting)
	case c.MaxWaiting != 0 && c.BaseURL == "":
		fault("MaxWaiting is %d without BaseURL; MaxOpen is for each host, and so is the queue", c.MaxWaiting)
	}
	if c.Class < ClassStandard || c.Class > ClassStreaming {
		fault("Class is %s; it must be ClassStandard, ClassShort or ClassStreaming", c.Class)
	}
	if c.Start < poolkeeper.StartFailFast || c.Start > poolkeeper.StartDegraded {
		fault("Start is %s; it must be StartFailFast, StartWaitForServer or StartDegraded", c.Start)
	}
	if c.BaseURL == "" && c.FailFastAfter > 0 {
		fault("FailFastAfter is %s without BaseURL; a client of any host cannot know that one is down", c.FailFastAfter)
	}
	switch {
	case c.CheckPath == "":
	case c.BaseURL == "":
		fault("CheckPath is %q without BaseURL", c.CheckPath)
	case !strings.HasPrefix(c.CheckPath, "/"):
		fault("CheckPath is %q; it must begin with /", c.CheckPath)
	}
	return errors.Join(append(errs, c.hostFaults(), c.timeFaults())...)
}

// hostFaults returns the faults of Hosts and Isolation.
func (c Config) hostFaults() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("httpclient: "+format, args...)) }
	if len(c.Hosts) > 0 && c.BaseURL == "" {
		fault("Hosts are given without BaseURL; set BaseURL, which names their service")
	}
	if len(c.Hosts) > 0 && c.Proxy != nil {
		fault("Hosts and Proxy are given; leave one out, because a proxy chooses the server itself")
	}
	if c.Isolation.MinScore > 0 && len(c.Hosts) == 0 {
		fault("Isolation is given without Hosts; set Hosts, or leave Isolation out")
	}
	errs = append(errs, isolation.Validate("httpclient", c.Isolation, c.judgeEvery()))
	seen := map[string]bool{}
	for i, addr := range c.Hosts {
		const allowed = `it must be like "10.0.0.7:443", without scheme, user and path`
		name, port, err := net.SplitHostPort(addr)
		n, numeric := strconv.ParseUint(port, 10, 16)
		key := strings.ToLower(addr)
		switch {
		case strings.Contains(addr, "@"):
			fault("Hosts[%d] has a user; set the header in Authorize", i)
		case err != nil || name == "" || strings.ContainsAny(addr, "/?# "):
			fault("Hosts[%d] is %q; %s", i, addr, allowed)
		case numeric != nil || n == 0:
			fault("Hosts[%d] is %q; its port must be 1 to 65535", i, addr)
		case seen[key]:
			fault("Hosts[%d] is %q, which is given twice", i, addr)
		}
		seen[key] = true
	}
	return errors.Join(errs...)
}

// timeFaults are those of the durations.
func (c Config) timeFaults() error {
	return settings.Times("httpclient",
		settings.Time{Name: "MaxIdleTime", Value: c.MaxIdleTime, Off: true, Long: true},
		settings.Time{Name: "AcquireTimeout", Value: c.AcquireTimeout, Off: true},
		settings.Time{Name: "DialTimeout", Value: c.DialTimeout},
		settings.Time{Name: "TLSTimeout", Value: c.TLSTimeout},
		settings.Time{Name: "HeaderTimeout", Value: c.HeaderTimeout, Off: true},
		settings.Time{Name: "BodyTimeout", Value: c.BodyTimeout, Off: true},
		settings.Time{Name: "RequestTimeout", Value: c.RequestTimeout, Off: true},
		settings.Time{Name: "FailFastAfter", Value: c.FailFastAfter, Off: true},
		settings.Time{Name: "LeakThreshold", Value: c.LeakThreshold, Off: true, Long: true},
		settings.Time{Name: "FileInterval", Value: c.FileInterval, Off: true, Long: true},
	)
}
