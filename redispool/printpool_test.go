package redispool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestNoPoolPrintsItsPassword(t *testing.T) { // INV-12
	byURL := redispool.Config{URL: "redis://u:s3cret@127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)}
	byOptions := redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}, Password: "s3cret"}, Logger: slog.New(slog.DiscardHandler),
	}
	values := []any{byURL, &byURL, byOptions, &byOptions}
	for _, cfg := range []redispool.Config{byURL, byOptions} {
		p, err := redispool.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Stop(context.WithoutCancel(t.Context())) }()
		values = append(values, p, reflect.ValueOf(p).Elem().Interface(), struct{ P *redispool.Pool }{p}, []any{p})
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
