package streams_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/streams"
)

func TestValidateReportsEveryFaultWithFieldValueAndWhatIsAllowed(t *testing.T) {
	cfg := streams.Config{
		Ping: -time.Second, PongWait: 5, MaxAge: -2, WriteTimeout: 200 * 365 * 24 * time.Hour, ReplayFor: -1, Retry: -1, DrainSpread: -3,
		Max: -1, MaxPerKey: -2, ReadLimit: -3, Buffer: -4, Replay: -5, Overflow: 7,
		Key:    func(*http.Request) string { return "" },
		Accept: websocket.AcceptOptions{OriginPatterns: []string{"[a-"}},
	}
	before := fmt.Sprintf("%+v", bare(cfg))
	_, err := streams.New(cfg)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"Ping is -1s; it must be positive or 0 (the default)",
		"PongWait is 5ns; it must be at least 1ms or 0 (the default); durations are time.Duration: did you mean 5*time.Second?",
		"MaxAge is -2ns; it must be positive, 0 (the default) or Off",
		"WriteTimeout is 1752000h0m0s; it must be at most 100 years",
		"ReplayFor is -1ns", "Retry is -1ns", "DrainSpread is -3ns",
		"Max is -1; it must be positive or 0 (the default)",
		"MaxPerKey is -2; it must be positive or 0 (no limit)",
		"ReadLimit is -3", "Buffer is -4", "Replay is -5; it must be positive or 0 (the default) or NoReplay",
		"Overflow is 7; it must be DropSlow or DropOldest",
		"MaxPerKey is -2 and Key is set: true; each needs the other",
		`Accept.OriginPatterns has "[a-"; it must be a pattern of path.Match`,
	} {
		if !strings.Contains(err.Error(), "streams: "+want) {
			t.Errorf("no fault %q in:\n%v", want, err)
		}
	}
	if after := fmt.Sprintf("%+v", bare(cfg)); after != before {
		t.Error("Validate has changed the configuration")
	}
	for _, c := range []struct {
		cfg  streams.Config
		want string
	}{
		{streams.Config{Ping: time.Minute}, "PongWait is 1m0s; it must be longer than Ping, 1m0s"},
		{streams.Config{MaxPerKey: 3}, "MaxPerKey is 3 and Key is set: false; each needs the other"},
		{streams.Config{MaxPerKey: 3, Max: 2, Key: cfg.Key}, "MaxPerKey is 3; it must be at most Max, 2"},
	} {
		if err := c.cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if err := (streams.Config{MaxAge: poolkeeper.Off, DrainSpread: poolkeeper.Off, Replay: streams.NoReplay}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestSettingsAreThoseInEffect(t *testing.T) {
	text := func(cfg streams.Config) string { return fmt.Sprint(started(t, cfg).Settings()) }
	want := "[kind=streams ping=30s pong_wait=1m0s max_age=24h0m0s write_timeout=10s max=10000 max_per_key=0 authorize=false " +
		"read_limit=32768 buffer=64 overflow=drop-slow replay=128 replay_for=2m0s retry=3s drain_spread=5s]"
	if got := text(streams.Config{}); got != want {
		t.Errorf("defaults: %s, want %s", got, want)
	}
	got := text(streams.Config{MaxAge: poolkeeper.Off, DrainSpread: poolkeeper.Off, Replay: streams.NoReplay, Overflow: streams.DropOldest})
	for _, want := range []string{"max_age=off", "drain_spread=off", "replay=0", "overflow=drop-oldest"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

func TestFromEnvReadsVariablesAndNamesThoseItCannotUse(t *testing.T) {
	for name, value := range map[string]string{
		"LIVE_NAME": "chat", "LIVE_PING": "10s", "LIVE_MAX_AGE": "off", "LIVE_MAX": "100", "LIVE_MAX_PER_KEY": "5",
		"LIVE_OVERFLOW": "drop-oldest", "LIVE_DRAIN_SPREAD": "2s",
	} {
		t.Setenv(name, value)
	}
	cfg, err := streams.FromEnv("LIVE")
	want := streams.Config{
		Name: "chat", Ping: 10 * time.Second, MaxAge: poolkeeper.Off, Max: 100, MaxPerKey: 5,
		Overflow: streams.DropOldest, DrainSpread: 2 * time.Second,
	}
	if err != nil || !reflect.DeepEqual(cfg, want) {
		t.Errorf("%+v %v", cfg, err)
	}
	t.Setenv("LIVE_PING", "ten")
	t.Setenv("LIVE_BUFFER", "-1")
	t.Setenv("LIVE_OVERFLOW", "block")
	_, err = streams.FromEnv("LIVE")
	for _, want := range []string{
		`LIVE_PING is "ten"; it must be a duration such as 1m30s`, "LIVE_BUFFER is -1; it must be positive",
		`LIVE_OVERFLOW is "block"; it must be one of drop-slow, drop-oldest`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// docs/streams.md has a row for every field, and no others.
func TestEverySettingIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/streams.md")
	if err != nil {
		t.Fatal(err)
	}
	for heading, config := range map[string]any{
		"`streams.Config`": streams.Config{}, "`streams.ClientConfig`": streams.ClientConfig{}, "`streams.Backoff`": streams.Backoff{},
	} {
		_, section, _ := strings.Cut(string(page), "\n## "+heading+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		rows := map[string]bool{}
		for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(section, -1) {
			rows[m[1]] = true
		}
		for f := range reflect.TypeOf(config).Fields() {
			if !rows[f.Name] {
				t.Errorf("%s has no row for %s", heading, f.Name)
			}
			delete(rows, f.Name)
		}
		for name := range rows {
			t.Errorf("%s has a row for %s, which is no field", heading, name)
		}
	}
}

func TestClientConfigReportsEveryFault(t *testing.T) {
	_, err := streams.NewClient("ftp://user:s3cret@host", streams.ClientConfig{
		HTTP: &http.Client{Timeout: time.Second}, Silence: -1, ConnectTimeout: 5, ReadLimit: -1,
		Backoff: streams.Backoff{Failures: -1, Min: -1, Max: 3, Jitter: math.NaN()},
	})
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Fatal(err)
	}
	for _, want := range []string{
		"the URL must begin with http://", "Receive is nil", "HTTP.Timeout is 1s; it must be 0", "Silence is -1ns", "ConnectTimeout is 5ns",
		"ReadLimit is -1", "Backoff.Failures is -1", "Backoff.Min is -1ns", "Backoff.Max is 3ns", "Backoff.Jitter is NaN",
	} {
		if !strings.Contains(err.Error(), "streams: "+want) {
			t.Errorf("no fault %q in:\n%v", want, err)
		}
	}
}

func TestStatsAndHoldersTellWhatIsOpen(t *testing.T) {
	h := started(t, streams.Config{Logger: testkit.Silent()})
	url := serve(t, both(h, "t"))
	dial(t, url+"/ws", nil)
	open(t, http.DefaultClient, url+"/sse")
	subscribed(t, h, "t", 2)
	s := h.StreamStats()
	if s.WebSocket != 1 || s.SSE != 1 || s.Opened != 2 || len(s.Ended) != 10 || len(s.Refused) != 6 || s.Buffered != 0 {
		t.Errorf("StreamStats = %+v", s)
	}
	holders := h.Holders()
	if len(holders) != 2 || holders[0].Kind != "websocket" || holders[1].Kind != "sse" {
		t.Fatalf("Holders = %+v", holders)
	}
	for _, holder := range holders {
		if !strings.Contains(holder.Describe(time.Now()), "by streams_test.both (slow_test.go:") {
			t.Errorf("a holder is %s", holder.Describe(time.Now()))
		}
	}
}

// bare is cfg without its functions, whose addresses print.
func bare(cfg streams.Config) streams.Config {
	cfg.Key = nil
	return cfg
}

// A client's URL may hold a token.
func TestClientPrintsWithoutItsURL(t *testing.T) {
	c, err := streams.NewClient("wss://user:s3cret@host/?token=s3cret", streams.ClientConfig{
		Receive: func(context.Context, streams.Event) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		if text := fmt.Sprintf(verb, c); strings.Contains(text, "s3cret") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
