package sqlpool_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestAPrintedConfigShowsNoPassword(t *testing.T) { // INV-12
	c := sqlpool.Config{URL: "scheme://user:sesame@host/0", MaxOpen: 7}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("configured", "config", c)
	slog.New(slog.NewTextHandler(&log, nil)).Info("configured", "config", &c)
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %s %v %d", c, c, &c, &c, c), log.String()} {
		if strings.Contains(text, "sesame") || !strings.Contains(text, "MaxOpen:7") {
			t.Error(text)
		}
	}
	both := sqlpool.ReplicatedConfig{Primary: c, Replicas: []sqlpool.Config{c}, MaxLag: time.Second}
	const want = "sqlpool.ReplicatedConfig{Primary:sqlpool.Config{URL:… MaxOpen:7} Replicas:[sqlpool.Config{URL:… MaxOpen:7}] MaxLag:1s}"
	out, err := json.Marshal(both)
	if got := fmt.Sprintf("%d", both); got != want || err != nil || string(out) != `"`+want+`"` {
		t.Errorf("got %s and %s, %v, want %s", got, out, err, want)
	}
}
