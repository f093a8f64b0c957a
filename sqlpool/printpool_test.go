package sqlpool_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestNoPoolPrintsItsPassword(t *testing.T) { // INV-12
	const pg, my = "postgres://u:s3cret@127.0.0.1:1/d", "u:s3cret@tcp(127.0.0.1:1)/d"
	cfg := sqlpool.PostgresConfig{URL: pg, Logger: quiet()}
	pool, err := sqlpool.NewPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, pool)
	mysql, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: my, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, mysql)
	db, err := sqlpool.Adopt(sql.OpenDB(newFakeServer()), sqlpool.AdoptConfig{Name: "legacy", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, db)
	values := []any{cfg, &cfg, pool, mysql, db, struct{ P *sqlpool.Postgres }{pool}, []any{pool, mysql}}
	for _, p := range []any{pool, mysql, db} {
		values = append(values, reflect.ValueOf(p).Elem().Interface()) // its methods are those of a pointer
	}
	if got := fmt.Sprint(pool, mysql, db); got != `sqlpool.Postgres{"postgres", in use: 0 of 10} `+
		`sqlpool.MySQL{"mysql", in use: 0 of 10} sqlpool.Adopted{"legacy", in use: 0 of 0}` {
		t.Error(got)
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
