package sqlpool_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestNoPoolPrintsItsPassword(t *testing.T) { // INV-12
	const pg, my = "postgres://u:s3cret@127.0.0.1:1/d", "u:s3cret@tcp(127.0.0.1:1)/d"
	cfg := sqlpool.Config{URL: pg, Logger: quiet()}
	pool, err := sqlpool.NewPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, pool)
	mysql, err := sqlpool.NewMySQL(sqlpool.Config{URL: my, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, mysql)
	both := sqlpool.ReplicatedConfig{Primary: cfg, Replicas: []sqlpool.Config{cfg}, Logger: quiet()}
	replicated, err := sqlpool.NewReplicated(both)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, replicated)
	for _, v := range []any{cfg, &cfg, both, &both, pool, mysql, replicated, struct{ P *sqlpool.Postgres }{pool}, []any{pool, mysql}} {
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
