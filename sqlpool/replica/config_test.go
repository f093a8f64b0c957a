package replica_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

func TestConstructorsNameTheSetInEveryFault(t *testing.T) {
	for name, build := range map[string]func(name string) error{
		"NewPostgres": func(name string) error {
			primary := sqlpool.PostgresConfig{MaxOpen: -1, MaxDials: -1}
			_, err := replica.NewPostgres(replica.PostgresConfig{Name: name, Primary: primary, PollTimeout: -1})
			return err
		},
		"NewMySQL": func(name string) error {
			primary := sqlpool.MySQLConfig{MaxOpen: -1, MaxDials: -1}
			_, err := replica.NewMySQL(replica.MySQLConfig{Name: name, Primary: primary, PollTimeout: -1})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprint(build("orders"))
			lines := strings.Split(text, "\n")
			for _, line := range lines {
				if !strings.HasPrefix(line, `replica: new "orders": `) || strings.HasPrefix(line, `replica: new "orders": replica:`) {
					t.Errorf("%q does not say which set", line)
				}
			}
			if len(lines) < 3 || !strings.Contains(text, "MaxOpen is -1") || !strings.Contains(text, "MaxDials is -1") {
				t.Errorf("%q", text)
			}
			plain := fmt.Sprint(build(""))
			if strings.Contains(plain, "new ") || strings.Count(plain, "\n") != strings.Count(text, "\n") {
				t.Errorf("without a name: %q", plain)
			}
		})
	}
}

// Each duration of Config, those of Primary included, is refused under its name, or the set works
// with it.
func TestEveryDurationIsRefusedOrWorks(t *testing.T) {
	srv := sqlpooltest.ServePostgres(t)
	var all replica.PostgresConfig
	for field := range testkit.Durations(&all) {
		for _, d := range testkit.Extremes {
			one := sqlpool.PostgresConfig{URL: srv.URL(), Logger: quiet(), Start: poolkeeper.StartDegraded}
			cfg := replica.PostgresConfig{Primary: one, Replicas: []sqlpool.PostgresConfig{one}, Logger: quiet()}
			*testkit.Durations(&cfg)[field] = d
			set, err := replica.NewPostgres(cfg)
			if err != nil {
				if !strings.Contains(err.Error(), field+" is ") {
					t.Errorf("%s %s: the error does not name it: %v", field, d, err)
				}
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := set.Start(ctx); err != nil && d != 1 { // a nanosecond is enough for nothing, but it ends
				t.Errorf("%s %s: accepted, and Start fails: %v", field, d, err)
			}
			if err := set.Stop(ctx); err != nil {
				t.Errorf("%s %s: Stop: %v", field, d, err)
			}
			cancel()
		}
	}
}

func TestTooLongAndTooShortDurationsAreRefused(t *testing.T) {
	for d, want := range map[time.Duration]string{100*365*24*time.Hour + 1: "100 years", 30: "30*time.Second"} {
		var all replica.PostgresConfig
		for field := range testkit.Durations(&all) {
			var cfg replica.PostgresConfig
			*testkit.Durations(&cfg)[field] = d
			err := cfg.Validate()
			refused := err != nil && strings.Contains(err.Error(), field+" is "+d.String()) && strings.Contains(err.Error(), want)
			switch field {
			case "MaxIdleTime", "MaxLifetime", "KeepAlive", "LeakThreshold", "FileInterval", "ReclaimAfter", "After", "Retry", "MaxRetry":
			default:
				if d == 30 { // tests shorten it
					refused = err == nil || field == "MaxLag"
				}
			}
			if !refused {
				t.Errorf("%s %s: got %v", field, d, err)
			}
		}
	}
}

func TestPrintedConfigShowsNoPassword(t *testing.T) { // INV-12
	const url, want = "scheme://user:sesame@host/0", "replica.KConfig{Primary:sqlpool.KConfig{URL:… MaxOpen:7} " +
		"Replicas:[sqlpool.KConfig{URL:… MaxOpen:7}] MaxLag:1s}"
	pg, my := sqlpool.PostgresConfig{URL: url, MaxOpen: 7}, sqlpool.MySQLConfig{URL: url, MaxOpen: 7}
	for kind, cfg := range map[string]any{
		"Postgres": replica.PostgresConfig{Primary: pg, Replicas: []sqlpool.PostgresConfig{pg}, MaxLag: time.Second},
		"MySQL":    replica.MySQLConfig{Primary: my, Replicas: []sqlpool.MySQLConfig{my}, MaxLag: time.Second},
	} {
		want := strings.ReplaceAll(want, "KConfig", kind+"Config")
		out, err := json.Marshal(cfg)
		if got := fmt.Sprintf("%d", cfg); got != want || err != nil || string(out) != `"`+want+`"` {
			t.Errorf("got %s and %s, %v, want %s", got, out, err, want)
		}
	}
}

func TestNoSetPrintsItsPasswords(t *testing.T) { // INV-12
	const pg, my = "postgres://u:s3cret@127.0.0.1:1/d", "u:s3cret@tcp(127.0.0.1:1)/d"
	one := sqlpool.PostgresConfig{URL: pg, Logger: quiet()}
	ofPostgres := replica.PostgresConfig{Primary: one, Replicas: []sqlpool.PostgresConfig{one}, Logger: quiet()}
	postgres, err := replica.NewPostgres(ofPostgres)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = postgres.Stop(t.Context()) }()
	ofMySQL := replica.MySQLConfig{Primary: sqlpool.MySQLConfig{URL: my, Logger: quiet()}, Logger: quiet()}
	mysql, err := replica.NewMySQL(ofMySQL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mysql.Stop(t.Context()) }()
	values := []any{ofPostgres, &ofPostgres, ofMySQL, postgres, mysql, struct{ P *replica.Postgres }{postgres}, []any{postgres, mysql}}
	for _, p := range []any{postgres, mysql} {
		values = append(values, reflect.ValueOf(p).Elem().Interface()) // its methods are those of a pointer
	}
	for _, v := range values {
		var b bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%d", "%s", "%q", "%x"} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&b, nil)).Info("", "value", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("", "value", v)
		if out, err := json.Marshal(v); err == nil {
			b.Write(out)
		}
		if strings.Contains(b.String(), "s3cret") || strings.Contains(b.String(), fmt.Sprintf("%x", "s3cret")) {
			t.Errorf("%T shows the password:\n%s", v, b.String())
		}
	}
}
