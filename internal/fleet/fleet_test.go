package fleet_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/fleet"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemandIncludesChecksAndARollingUpdate(t *testing.T) {
	for _, c := range []struct{ maxOpen, instances, surge, total int }{
		{20, 1, 1, 42},
		{20, 4, 1, 105},
		{20, 5, 2, 147},
		{9, 3, 1, 40},
	} {
		if d := fleet.Of(c.maxOpen, c.instances); d.Surge != c.surge || d.Total != c.total {
			t.Errorf("%d × %d: %+v", c.instances, c.maxOpen, d)
		}
	}
	if got, want := fleet.Of(9, 1).String(), "1 instance, and 1 more in a rolling update, may open 10 connections each, 20 in all"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := fleet.Of(9, 3).String(), "3 instances, and 1 more in a rolling update, may open 10 connections each, 40 in all"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSilenceWarnsOfWhatWillBeFoundDead(t *testing.T) {
	const m, h = time.Minute, time.Hour
	const begin = "the server closes sessions that are silent for 1m0s, and KeepAlive "
	for _, c := range []struct {
		limit, keepAlive, lifetime time.Duration
		want                       string
	}{
		{0, 0, 0, ""},
		{m, m / 2, h, ""},
		{m, m / 2, 0, ""},
		{m, 0, m / 2, ""}, // nothing lives that long
		{m, m, h, begin + "is 1m0s: choose less"},
		{m, 0, h, begin + "is off, MaxLifetime 1h0m0s: idle connections will be found dead"},
		{m, 0, 0, begin + "and MaxLifetime are off: idle connections will be found dead"},
	} {
		if got := fleet.Silence("session", c.limit, c.keepAlive, c.lifetime); got != c.want {
			t.Errorf("%s, %s, %s: %q, want %q", c.limit, c.keepAlive, c.lifetime, got, c.want)
		}
	}
}

func TestWarningsNameThePoolAndCarryTheNumbers(t *testing.T) {
	var out testkit.Log
	log := event.NewLog("pkg", func() string { return "orders" }, out.Logger, nil)
	fleet.Warn(log, []string{"one", "two"}, errors.New("forbidden"), slog.Int("demand", 42))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("logged:\n%s", out.String())
	}
	for i, want := range []string{
		"level=DEBUG msg=\"pkg: cannot compare the limits\" pool=orders kind=limits error=forbidden",
		"level=WARN msg=\"pkg: one\" pool=orders kind=limits demand=42", "level=WARN msg=\"pkg: two\" pool=orders kind=limits demand=42",
	} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("%s, want %s", lines[i], want)
		}
	}
}
