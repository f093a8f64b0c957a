package sqlpool_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestAPrintedConfigShowsNoPassword(t *testing.T) { // INV-12
	const url, want = "scheme://user:sesame@host/0", "Config{URL:… MaxOpen:7 KeepAlive:1s}"
	own := func(*pgxpool.Config) error { return nil }
	pg := sqlpool.PostgresConfig{URL: url, MaxOpen: 7, KeepAlive: time.Second}
	my := sqlpool.MySQLConfig{URL: url, MaxOpen: 7, KeepAlive: time.Second}
	for kind, c := range map[string]any{"Postgres": pg, "MySQL": my, "Postgres ": &pg, "MySQL ": &my} {
		want := "sqlpool." + strings.TrimSpace(kind) + want
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("configured", "config", c)
		slog.New(slog.NewTextHandler(&log, nil)).Info("configured", "config", c)
		out, err := json.Marshal(c)
		if err != nil {
			t.Error(err)
		}
		for _, text := range append(strings.Split(fmt.Sprintf("%v|%+v|%#v|%s|%d", c, c, c, c, c), "|"), log.String(), string(out)) {
			if strings.Contains(text, "sesame") || !strings.Contains(text, want) {
				t.Errorf("%s, want %s", text, want)
			}
		}
	}
	pg.Configure = own
	if got := pg.String(); !strings.Contains(got, "Configure:…}") {
		t.Error(got)
	}
}
