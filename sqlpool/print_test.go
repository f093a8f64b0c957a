package sqlpool_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

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
}
