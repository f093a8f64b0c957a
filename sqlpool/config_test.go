package sqlpool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestValidateReportsEveryFaultAtOnce(t *testing.T) {
	err := sqlpool.PostgresConfig{
		MaxOpen: -1, MinIdle: -1, MaxDials: -1, MaxIdleTime: -2, MaxLifetime: -2, KeepAlive: -2, AcquireTimeout: -2,
		LeakThreshold: -2, LifetimeJitter: math.NaN(), EvictionInterval: -1, DialTimeout: -1, Start: 99,
	}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{
		"MaxOpen", "MinIdle", "MaxDials", "MaxIdleTime", "MaxLifetime", "KeepAlive", "AcquireTimeout", "LeakThreshold",
		"LifetimeJitter", "EvictionInterval", "DialTimeout", "Start is StartPolicy(99)",
	} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not reported:\n%v", field, err)
		}
	}
}

func TestValidateAcceptsDefaultsAndOff(t *testing.T) {
	off := poolkeeper.Off
	for _, c := range []sqlpool.DBConfig{
		{},
		{MaxIdleTime: off, MaxLifetime: off, KeepAlive: off, AcquireTimeout: off, LeakThreshold: off, LifetimeJitter: poolkeeper.NoJitter},
		{MaxOpen: 5, MinIdle: 5},
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []sqlpool.DBConfig{{MinIdle: sqlpool.DefaultMaxOpen + 1}, {MaxOpen: 5, MinIdle: 6}, {MaxOpen: 1 << 20}} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

func TestConstructorsRefuseWhatIsNil(t *testing.T) {
	if _, err := sqlpool.NewDB(nil, sqlpool.DBConfig{}); err == nil {
		t.Error("NewDB accepts a nil connector")
	}
	if _, err := sqlpool.Adopt(nil, sqlpool.AdoptConfig{}); err == nil {
		t.Error("Adopt accepts a nil handle")
	}
	if _, err := sqlpool.AdoptPgxPool(nil, sqlpool.AdoptConfig{}); err == nil {
		t.Error("AdoptPgxPool accepts a nil handle")
	}
}

// Every field of a configuration must show in Settings or be known not to, so that a new one is not
// forgotten, and Settings must show no field that the configuration does not have.
func TestSettingsShowEveryFieldThatIsNoSecret(t *testing.T) {
	pg, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: "postgres://h/d", MaxOpen: 7, MaxIdleTime: poolkeeper.Off})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, pg)
	my, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: "u@tcp(h)/d", MaxOpen: 7, MaxIdleTime: poolkeeper.Off})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, my)
	db, err := sqlpool.NewDB(newFakeServer(), sqlpool.DBConfig{MaxOpen: 7, MaxIdleTime: poolkeeper.Off})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, db)
	for config, settings := range map[reflect.Type][]slog.Attr{
		reflect.TypeFor[sqlpool.PostgresConfig](): pg.Settings(),
		reflect.TypeFor[sqlpool.MySQLConfig]():    my.Settings(),
		reflect.TypeFor[sqlpool.DBConfig]():       db.Settings(),
	} {
		got := make(map[string]string)
		for _, a := range settings {
			got[strings.TrimSuffix(strings.ReplaceAll(a.Key, "_", ""), "given")] = a.Value.String()
		}
		if got["maxopen"] != "7" || got["maxidletime"] != "off" || got["acquiretimeout"] != sqlpool.DefaultAcquireTimeout.String() {
			t.Errorf("Settings are %v", got)
		}
		const notShown = "Name URL CheckQuery Configure Logger"
		for f := range config.Fields() {
			key := strings.ToLower(f.Name)
			_, ok := got[key]
			if hidden := strings.Contains(notShown, f.Name); ok == hidden {
				t.Errorf("%s.%s: in Settings %v, meant to be hidden %v", config, f.Name, ok, hidden)
			}
			delete(got, key)
		}
		delete(got, "kind")
		delete(got, "cutssockets")
		if len(got) > 0 {
			t.Errorf("Settings of %s has more: %v", config, got)
		}
	}
}

const secret = "s3cr3t-p4ss"

// INV-12. Whatever is wrong with the URL, its password is in no error.
func TestNoErrorHasThePasswordInIt(t *testing.T) {
	var errs []error
	keep := func(_ any, err error) { errs = append(errs, err) }
	for _, url := range []string{
		"postgres://u:" + secret + "@host:notaport/db",
		"postgres://u:" + secret + "@[::1/db",
		"postgres://u:" + secret + "@host/db?sslmode=nonsense",
		"postgres://u:" + secret + "@host/db?pool_max_conns=many",
		"host=h password=" + secret + " port=notaport",
		"host=h password='" + secret + "' pool_max_conns=-1",
		"postgres://u:" + secret + "%zz@host/db",
	} {
		p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: url})
		keep(p, err)
		if err == nil {
			t.Errorf("%s is accepted", url)
			stop(t, p)
		}
	}
	for _, url := range []string{
		"mysql://u:" + secret + "@host:notaport/db",
		"mysql://u:" + secret + "%zz@host/db",
		"mysql://u:" + secret + "@host/db?tls=nonsense",
		"u:" + secret + "@tcp(host:3306",
		"u:" + secret + "@tcp(host:3306)/db?parseTime=perhaps",
		"postgres://u:" + secret + "@host/db",
		"",
	} {
		p, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: url})
		keep(p, err)
		if err == nil {
			t.Errorf("%s is accepted", url)
			stop(t, p)
		}
	}
	for _, err := range errs {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the password is in %q", err)
		}
	}
}

func TestNoSecretInSettingsAndDialErrors(t *testing.T) {
	log, logged := logTo()
	creds := func(context.Context) (string, string, error) { return "someone", secret, nil }
	pg, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: "postgres://u:" + secret + "@127.0.0.1:1/db", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	my, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: "mysql://u:" + secret + "@127.0.0.1:1/db", Logger: log, Credentials: creds})
	if err != nil {
		t.Fatal(err)
	}
	_, pgErr := pg.DB().ExecContext(t.Context(), "select 1")
	_, myErr := my.DB().ExecContext(t.Context(), "select 1")
	if pgErr == nil || myErr == nil {
		t.Fatal("somebody listens on port 1")
	}
	text := fmt.Sprint(pg.Settings(), my.Settings(), pgErr, myErr, pg.Start(t.Context()), my.Start(t.Context()),
		pg.Check(t.Context()), my.Check(t.Context()), logged(), fmt.Sprintf("%+v", pg.Stats()))
	stop(t, pg)
	stop(t, my)
	if strings.Contains(text, secret) {
		t.Errorf("the password is in %s", text)
	}
}

func TestMySQLTakesURLsAndDSNs(t *testing.T) {
	for url, want := range map[string]string{
		"mysql://root@127.0.0.1:3307/test":              "root@tcp(127.0.0.1:3307)/test",
		"mysql://root@db/test?parseTime=true&loc=Local": "root@tcp(db:3306)/test?loc=Local&parseTime=true",
		"mariadb://u:p%40ss%2Fw%3Ard@[::1]:3306/a%2Fb":  "u:p@ss/w:rd@tcp([::1]:3306)/a%2Fb",
		"mysql://": "tcp(127.0.0.1:3306)/",
		"root:pw@tcp(10.0.0.1:3306)/test?readTimeout=3s":             "root:pw@tcp(10.0.0.1:3306)/test?readTimeout=3s",
		"root@unix(/run/mysqld.sock)/x":                              "root@unix(/run/mysqld.sock)/x",
		"mysql://u@db.example.com/x?tls=true":                        "u@tcp(db.example.com:3306)/x?tls=true",
		"u:p://w@tcp(127.0.0.1:3306)/x":                              "u:p://w@tcp(127.0.0.1:3306)/x",
		"mysql://u@h/x?charset=utf8mb4&collation=utf8mb4_general_ci": "u@tcp(h:3306)/x?charset=utf8mb4&collation=utf8mb4_general_ci",
	} {
		var got *mysql.Config
		p, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: url, Configure: func(c *mysql.Config) error { got = c; return nil }})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		stop(t, p)
		if text := got.FormatDSN(); text != want {
			t.Errorf("%s\nis  %s\nnot %s", url, text, want)
		}
		if got.TLS != nil && got.TLS.ServerName != "db.example.com" {
			t.Errorf("%s: TLS expects the server %q", url, got.TLS.ServerName)
		}
	}
}

func TestParametersOfThePostgresURLStandInForFields(t *testing.T) {
	const url = "postgres://h/d?pool_max_conns=7&pool_min_idle_conns=2&pool_max_conn_lifetime=10m&pool_max_conn_idle_time=1m" +
		"&pool_health_check_period=5s&pool_max_conn_lifetime_jitter=2m&connect_timeout=3"
	settings := func(c sqlpool.PostgresConfig) map[string]string {
		p, err := sqlpool.NewPostgres(c)
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, p)
		out := make(map[string]string)
		for _, a := range p.Settings() {
			out[a.Key] = a.Value.String()
		}
		return out
	}
	got := settings(sqlpool.PostgresConfig{URL: url})
	for key, want := range map[string]string{
		"max_open": "7", "min_idle": "2", "max_lifetime": "10m0s", "max_idle_time": "1m0s", "lifetime_jitter": "0.2",
		"dial_timeout": "3s", "eviction_interval": "5s",
	} {
		if got[key] != want {
			t.Errorf("%s is %s, want %s", key, got[key], want)
		}
	}
	if got := settings(sqlpool.PostgresConfig{URL: url, MaxOpen: 3, DialTimeout: time.Second}); got["max_open"] != "3" || got["dial_timeout"] != "1s" {
		t.Errorf("a field must win: %v", got)
	}
	if _, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: "postgres://h/d?pool_max_conns=2&pool_min_conns=3"}); err == nil {
		t.Error("faults in the URL's parameters are accepted")
	}
}

func TestConfigureHooksMayFail(t *testing.T) {
	_, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: "postgres://h/d", Configure: func(*pgxpool.Config) error { return errFake }})
	if !errors.Is(err, errFake) {
		t.Errorf("NewPostgres: %v", err)
	}
	_, err = sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: "root@/x", Configure: func(*mysql.Config) error { return errFake }})
	if !errors.Is(err, errFake) {
		t.Errorf("NewMySQL: %v", err)
	}
	_, err = sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: "root@/x", Configure: func(c *mysql.Config) error {
		c.TLSConfig = "unknown"
		return nil
	}})
	if err == nil {
		t.Error("NewMySQL accepts what the driver refuses")
	}
}

// INV-12: what drivers say about a URL that they do not understand may repeat any part of it,
// whatever it was meant to be.
func TestFaultyURLIsReportedWithoutItsPassword(t *testing.T) {
	check := func(url string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s is accepted", url)
		} else if strings.Contains(err.Error(), "s3c") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, u := range []string{
		"root:s3cret/db", "root:s3cret#tcp(h)/db", "root:s3cret@tcp(h:1", "root:s3cret", "root:s3cret@h/db",
		"root:p@s3cret/db", "mysql://root:s3cret@h:s3cret/db", "mysql:root:s3cret@h/db", "root:x/y?z=%zzs3cret@tcp(h)", "mysql://u@h/db?x=%zz@s3cret",
	} {
		_, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: u})
		check(u, err)
	}
	for _, u := range []string{
		"postgres://u:s3cret x@h/db", "host=h password='s3cret", "host=h password = s3cret port=x", "postgres://u:s3%zzcret@h/db", "u:s3cret@h/db",
		"postgres://u:s3c/ret@h/db", "postgres://u:s3cret@h:s3x/db", "host=h port=y password='a s3cret'", "postgres://u@h/db?password=s3cret&port=x",
		`host=h port=x password="a s3cret"`, `host=h port=x password='it\'s s3cret'`, "postgres://u:p@s3cret@h:x/db",
		`host=h port=x password=a\ s3cret`, "host=h port=x sslpassword=s3cret", "host=h pool_max_conns=x password=s3cret", "postgres://h/db?PASSWORD=s3cret&port=x",
	} {
		_, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: u})
		check(u, err)
	}
	_, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: "root:s3cret@/db?parseTime=maybe"})
	check("parseTime", err)
	if !strings.Contains(err.Error(), "invalid bool value: maybe") {
		t.Errorf("what is wrong with a parameter is not said: %v", err)
	}
	_, err = sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: "host=h port=x password=s3cret"})
	check("port", err)
	if !strings.Contains(err.Error(), "invalid port") {
		t.Errorf("what is wrong with the port is not said: %v", err)
	}
}
