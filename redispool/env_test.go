package redispool_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/env"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestEveryFieldCanBeSaidInTheEnvironment(t *testing.T) {
	ca := testcerts.New(t)
	cert, key := ca.Leaf(t, "127.0.0.1")
	dir := t.TempDir()
	paths := map[string]string{}
	for name, content := range map[string][]byte{"ca": ca.PEM, "cert": cert, "key": key, "secret": []byte("app:x")} {
		paths[name] = filepath.Join(dir, name)
		write(t, paths[name], content)
	}
	for name, value := range map[string]string{
		"URL": "rediss+cluster://h:7000?read_only=true", "NAME": "cache", "MAX_OPEN": "5", "MAX_OPEN_CEILING": "9", "MIN_IDLE": "2", "MAX_IDLE_TIME": "1m",
		"MAX_LIFETIME": "2m", "LIFETIME_JITTER": "off", "KEEP_ALIVE": "off", "EVICTION_INTERVAL": "3s", "ACQUIRE_TIMEOUT": "4s", "DIAL_TIMEOUT": "5s",
		"READ_TIMEOUT": "6s", "WRITE_TIMEOUT": "7s", "LEAK_THRESHOLD": "8s", "DISABLE_LEAK_STACKS": "true", "START": "wait-for-server",
		"TLS_FILES_CA": paths["ca"], "TLS_FILES_CERT": paths["cert"], "TLS_FILES_KEY": paths["key"], "CREDENTIALS_FILE": paths["secret"],
		"FILE_INTERVAL": "9s", "INSTANCES": "3", "MAX_WAITING": "11", "FAIL_FAST_AFTER": "12s", "SUSPECT_PING": "13s", "CHECK_COMMAND": "GET health",
		"ISOLATION_MIN_SCORE": "75", "ISOLATION_TRIAL_SHARE": "0.1",
	} {
		t.Setenv("CACHE_"+name, value)
	}
	got, err := redispool.FromEnv("CACHE")
	if err != nil {
		t.Fatal(err)
	}
	want := redispool.Config{
		URL: "rediss+cluster://h:7000?read_only=true", Name: "cache", MaxOpen: 5, MaxOpenCeiling: 9, MinIdle: 2, MaxIdleTime: time.Minute,
		MaxLifetime: 2 * time.Minute, LifetimeJitter: poolkeeper.NoJitter, KeepAlive: poolkeeper.Off, EvictionInterval: 3 * time.Second,
		AcquireTimeout: 4 * time.Second, MaxWaiting: 11, FailFastAfter: 12 * time.Second, DialTimeout: 5 * time.Second, SuspectPing: 13 * time.Second, ReadTimeout: 6 * time.Second, WriteTimeout: 7 * time.Second,
		LeakThreshold: 8 * time.Second, DisableLeakStacks: true, Start: poolkeeper.StartWaitForServer,
		TLSFiles:        poolkeeper.TLSFiles{CA: paths["ca"], Cert: paths["cert"], Key: paths["key"]},
		CredentialsFile: paths["secret"], FileInterval: 9 * time.Second, Instances: 3, CheckCommand: "GET health",
		Isolation: poolkeeper.Isolation{MinScore: 75, TrialShare: 0.1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// A field that is added later must be readable too, or be named here.
	codeOnly := map[string]bool{"Options": true, "TLS": true, "Credentials": true, "Logger": true}
	for f, v := range reflect.ValueOf(want).Fields() {
		if v.IsZero() != codeOnly[f.Name] {
			t.Errorf("FromEnv does not read %s", f.Name)
		}
	}
}

func TestFaultsInTheEnvironmentAreAllNamed(t *testing.T) { // INV-12
	for name, value := range map[string]string{
		"URL": "redis://app:hunter2@h:7000/x", "MAX_OPEN": "many", "MIN_IDLE": "-1", "KEEP_ALIVE": "never", "START": "now",
		"ISOLATION_MIN_SCORE": "101",
		"INSTANCES":           "-2", "CREDENTIALS_FILE": "/no/such/file", "TLS_FILES_CERT": "/no/cert",
	} {
		t.Setenv("CACHE_"+name, value)
	}
	c, err := redispool.FromEnv("CACHE")
	if err == nil || !reflect.DeepEqual(c, redispool.Config{}) {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, want := range []string{
		"redispool: CACHE_URL", `CACHE_MAX_OPEN is "many"; it must be a whole number`, "CACHE_MIN_IDLE is -1; it must be 0 to MaxOpen",
		`CACHE_KEEP_ALIVE is "never"; it must be a duration such as 1m30s, or off`,
		`CACHE_START is "now"; it must be one of fail-fast, wait-for-server, start-degraded`,
		"CACHE_INSTANCES is -2; it must not be negative", "CACHE_ISOLATION_MIN_SCORE is 101; it must be from 1 to 100, or 0 (off)",
		"CACHE_CREDENTIALS_FILE: open /no/such/file", "CACHE_TLS_FILES_CERT: open /no/cert",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("it tells the password: %v", err)
	}
	t.Setenv("CACHE_URL", "")
	if _, err := redispool.FromEnv("CACHE"); err == nil || !strings.Contains(err.Error(), "CACHE_URL is not set; it must be a URL such as") ||
		strings.Contains(err.Error(), "neither URL nor Options") || !strings.Contains(err.Error(), "CACHE_INSTANCES is -2") {
		t.Errorf("without a URL: %v", err)
	}
	if _, err := redispool.FromEnv(""); err == nil || !strings.Contains(err.Error(), "prefix") {
		t.Errorf("without a prefix: %v", err)
	}
}

func TestConfigurationDocNamesEveryVariable(t *testing.T) {
	doc, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	r := env.NewReader("redispool", "REDIS")
	for f := range reflect.TypeFor[redispool.Config]().Fields() {
		switch f.Name {
		case "Options", "TLS", "Credentials", "Logger":
			continue
		case "TLSFiles":
			f.Name += ".CA"
		case "Isolation":
			f.Name += ".MinScore"
		}
		if name := r.Name(f.Name); !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/configuration.md does not name %s", name)
		}
	}
}

func ExampleFromEnv() {
	for name, value := range map[string]string{"REDIS_URL": "redis://localhost:6379/0", "REDIS_MAX_OPEN": "20", "REDIS_KEEP_ALIVE": "off"} {
		_ = os.Setenv(name, value)
		defer func() { _ = os.Unsetenv(name) }()
	}
	cfg, err := redispool.FromEnv("REDIS")
	fmt.Println(cfg.MaxOpen, cfg.KeepAlive == poolkeeper.Off, err)

	_ = os.Setenv("REDIS_MAX_OPEN", "lots")
	_ = os.Setenv("REDIS_INSTANCES", "-3")
	defer func() { _ = os.Unsetenv("REDIS_INSTANCES") }()
	_, err = redispool.FromEnv("REDIS")
	fmt.Println(err)
	// Output:
	// 20 true <nil>
	// redispool: REDIS_MAX_OPEN is "lots"; it must be a whole number
	// redispool: REDIS_INSTANCES is -3; it must not be negative
}
