package main

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testserver.Main(m)) }

func TestStagesLeaksAndReuse(t *testing.T) {
	t.Setenv("REDIS_URL", testserver.SharedRedis(t).URL())
	t.Setenv("DATABASE_URL", testserver.SharedPostgres(t).URL())
	var log testkit.Log
	if err := run(t.Context(), &log); err != nil {
		t.Fatal(err)
	}
	out := log.String()
	for _, want := range []string{
		`httpclient: "billing": no TCP connection within DialTimeout, 100ms`,
		`httpclient: "billing": no TLS handshake within TLSTimeout, 100ms`,
		`httpclient: "billing": no response header within HeaderTimeout, 100ms`,
		`httpclient: "billing": no more of the response's body within BodyTimeout, 100ms`,
		`httpclient: "billing": the request was not over within RequestTimeout, 100ms`,
		`event:   "billing": a connection is held for too long; is a Close missing?, request for`,
		`Holders: request for`,
		`Stop:    poolkeeper: stop "billing": cut off 1 connection held by request for`,
		`showLeak (main.go:`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %s:\n%s", want, out)
		}
	}
	ratios := regexp.MustCompile(`(\w+) +([\d.]+) times as long`).FindAllStringSubmatch(out, -1)
	if len(ratios) != 4 {
		t.Errorf("%d ratios, want 4:\n%s", len(ratios), out)
	}
	for _, m := range ratios { // a handshake costs many times a request; TCP alone some three times
		least := 3.4
		if m[1] == "HTTP" {
			least = 1
		}
		if ratio, err := strconv.ParseFloat(m[2], 64); err != nil || ratio <= least {
			t.Errorf("%s: %s, %v", m[1], m[2], err)
		}
	}
}
