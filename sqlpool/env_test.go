package sqlpool_test

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
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// codeOnly are the fields that no variable can set.
var codeOnly = map[string]bool{"TLS": true, "Credentials": true, "Configure": true, "Logger": true}

func TestEveryFieldCanBeSaidInTheEnvironment(t *testing.T) {
	ca := testcerts.New(t)
	cert, key := ca.Leaf(t, "app")
	dir := t.TempDir()
	at := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		write(t, path, content)
		return path
	}
	files := poolkeeper.TLSFiles{CA: at("ca", ca.PEM), Cert: at("cert", cert), Key: at("key", key)}
	secret := at("secret", []byte("app:x"))
	for name, value := range map[string]string{
		"URL": "postgres://h/db", "NAME": "orders", "MAX_OPEN": "5", "MAX_OPEN_CEILING": "9", "MIN_IDLE": "2", "MAX_IDLE_TIME": "1m",
		"MAX_LIFETIME": "2m", "LIFETIME_JITTER": "off", "KEEP_ALIVE": "off", "EVICTION_INTERVAL": "3s", "ACQUIRE_TIMEOUT": "4s",
		"DIAL_TIMEOUT": "5s", "MAX_DIALS": "3", "MAX_WAITING": "none", "QUERY_TIMEOUT": "9s", "FAIL_FAST_AFTER": "2s", "LEAK_THRESHOLD": "8s", "RECLAIM_AFTER": "1h", "DISABLE_LEAK_STACKS": "true", "SUSPECT_PING": "1s",
		"DISABLE_RESET_ON_READ_ONLY": "true", "DISABLE_PEEK": "true", "CLOSE_GRACE": "off", "START": "start-degraded", "INSTANCES": "3",
		"TLS_FILES_CA": files.CA, "TLS_FILES_CERT": files.Cert, "TLS_FILES_KEY": files.Key, "CREDENTIALS_FILE": secret,
		"FILE_INTERVAL": "9s", "CHECK_QUERY": "select 1",
	} {
		t.Setenv("ORDERS_"+name, value)
	}
	pg, err := sqlpool.PostgresConfigFromEnv("ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	want := sqlpool.PostgresConfig{
		URL: "postgres://h/db", Name: "orders", MaxOpen: 5, MaxOpenCeiling: 9, MinIdle: 2, MaxIdleTime: time.Minute,
		MaxLifetime: 2 * time.Minute, LifetimeJitter: poolkeeper.NoJitter, KeepAlive: poolkeeper.Off, EvictionInterval: 3 * time.Second,
		AcquireTimeout: 4 * time.Second, DialTimeout: 5 * time.Second, MaxDials: 3, MaxWaiting: poolkeeper.NoWaiting,
		QueryTimeout: 9 * time.Second, FailFastAfter: 2 * time.Second, LeakThreshold: 8 * time.Second, ReclaimAfter: time.Hour,
		DisableLeakStacks: true, SuspectPing: time.Second, DisableResetOnReadOnly: true, DisablePeek: true,
		CloseGrace: poolkeeper.Off, Start: poolkeeper.StartDegraded, Instances: 3, TLSFiles: files, CredentialsFile: secret,
		FileInterval: 9 * time.Second, CheckQuery: "select 1",
	}
	if !reflect.DeepEqual(pg, want) {
		t.Errorf("got  %+v\nwant %+v", pg, want)
	}
	for f, v := range reflect.ValueOf(want).Fields() { // a field that is added later must be readable too, or be in codeOnly
		if v.IsZero() != codeOnly[f.Name] {
			t.Errorf("PostgresConfigFromEnv does not read %s", f.Name)
		}
	}
	my, err := sqlpool.MySQLConfigFromEnv("ORDERS")
	sameFields(t, my, pg, err)
	db, err := sqlpool.DBConfigFromEnv("ORDERS")
	sameFields(t, db, pg, err)
}

// sameFields compares the fields of got with those of the same name.
func sameFields(t *testing.T, got any, want sqlpool.PostgresConfig, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	for f, v := range reflect.ValueOf(got).Fields() {
		if codeOnly[f.Name] {
			continue
		}
		if w := reflect.ValueOf(want).FieldByName(f.Name); v.IsZero() || !reflect.DeepEqual(v.Interface(), w.Interface()) {
			t.Errorf("%T.%s is %v, want %v", got, f.Name, v, w)
		}
	}
}

func TestVariablesOfFieldsThatDoNotExistAreIgnored(t *testing.T) {
	t.Setenv("ORDERS_URL", "postgres://app:hunter2@h/db")
	t.Setenv("ORDERS_CREDENTIALS_FILE", "/no/such/file")
	t.Setenv("ORDERS_DISABLE_PEEK", "perhaps")
	if c, err := sqlpool.DBConfigFromEnv("ORDERS"); err != nil || c != (sqlpool.DBConfig{}) {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := sqlpool.MySQLConfigFromEnv("ORDERS"); err == nil || strings.Contains(err.Error(), "PEEK") ||
		!strings.Contains(err.Error(), "ORDERS_CREDENTIALS_FILE: open /no/such/file") {
		t.Errorf("%v", err)
	}
}

func TestFaultsInTheEnvironmentAreAllNamed(t *testing.T) { // INV-12
	for name, value := range map[string]string{
		"URL": "postgres://app:hunter2@h/db", "MAX_OPEN": "many", "MIN_IDLE": "-1", "KEEP_ALIVE": "never", "START": "now", "DISABLE_PEEK": "maybe",
		"INSTANCES": "-2", "CREDENTIALS_FILE": "/no/such/file", "TLS_FILES_CERT": "/no/cert", "RECLAIM_AFTER": "off",
	} {
		t.Setenv("ORDERS_"+name, value)
	}
	c, err := sqlpool.PostgresConfigFromEnv("ORDERS")
	if err == nil || !reflect.DeepEqual(c, sqlpool.PostgresConfig{}) {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, want := range []string{
		`sqlpool: ORDERS_MAX_OPEN is "many"; it must be a whole number`, "ORDERS_MIN_IDLE is -1; it must be 0 to MaxOpen",
		`ORDERS_KEEP_ALIVE is "never"; it must be a duration such as 1m30s, or off`,
		`ORDERS_START is "now"; it must be one of fail-fast, wait-for-server, start-degraded`, `ORDERS_DISABLE_PEEK is "maybe"; it must be one of true, false`,
		"ORDERS_INSTANCES is -2; it must not be negative", "ORDERS_CREDENTIALS_FILE: open /no/such/file", "ORDERS_TLS_FILES_CERT: open /no/cert",
		`ORDERS_RECLAIM_AFTER is "off"; it must be a duration such as 1m30s`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("it tells the password: %v", err)
	}
	if _, err := sqlpool.PostgresConfigFromEnv(""); err == nil || !strings.Contains(err.Error(), "prefix") {
		t.Errorf("without a prefix: %v", err)
	}
}

func TestConfigurationDocNamesEveryVariable(t *testing.T) {
	doc, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	r := env.NewReader("sqlpool", "ORDERS")
	for f := range reflect.TypeFor[sqlpool.PostgresConfig]().Fields() {
		if codeOnly[f.Name] {
			continue
		}
		if f.Name == "TLSFiles" {
			f.Name += ".CA"
		}
		if name := r.Name(f.Name); !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/configuration.md does not name %s", name)
		}
	}
}

func ExamplePostgresConfigFromEnv() {
	for name, value := range map[string]string{"ORDERS_URL": "postgres://localhost/orders", "ORDERS_MAX_OPEN": "20", "ORDERS_KEEP_ALIVE": "off"} {
		_ = os.Setenv(name, value)
		defer func() { _ = os.Unsetenv(name) }()
	}
	cfg, err := sqlpool.PostgresConfigFromEnv("ORDERS")
	fmt.Println(cfg.MaxOpen, cfg.KeepAlive == poolkeeper.Off, err)

	_ = os.Setenv("ORDERS_MAX_OPEN", "lots")
	_ = os.Setenv("ORDERS_INSTANCES", "-3")
	defer func() { _ = os.Unsetenv("ORDERS_INSTANCES") }()
	_, err = sqlpool.PostgresConfigFromEnv("ORDERS")
	fmt.Println(err)
	// Output:
	// 20 true <nil>
	// sqlpool: ORDERS_MAX_OPEN is "lots"; it must be a whole number
	// sqlpool: ORDERS_INSTANCES is -3; it must not be negative
}
