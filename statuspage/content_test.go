package statuspage_test

import (
	"context"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// shows fails the test for each text that the page does not show.
func shows(t *testing.T, page *statuspage.Page, texts ...string) {
	t.Helper()
	body := get(t, page, "/").Body.String()
	for _, want := range texts {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
}

// notices are the texts of what needs attention, by severity and component.
func notices(d statuspage.Document) string {
	var b strings.Builder
	for _, n := range d.Attention {
		b.WriteString(n.Severity + " " + n.Component + ": " + n.Text + "\n")
	}
	return b.String()
}

func TestAttentionNamesWhatAnOperatorShouldLookAt(t *testing.T) {
	now := time.Now()
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		change func(*fakePool)
		want   string // of a notice; empty: none
	}{
		"nothing": {func(*fakePool) {}, ""},
		"down":    {func(p *fakePool) { p.stats.DownSince = now.Add(-time.Minute) }, "error pool: its server has been down for 1 min"},
		"paused":  {func(p *fakePool) { p.stats.Paused = true }, "warning pool: it is paused"},
		"full": {
			func(p *fakePool) { p.stats.Max, p.stats.InUse, p.stats.Waiting = 10, 10, 1 },
			"warning pool: all 10 connections are in use, with 1 caller waiting",
		},
		"full, none waits": {func(p *fakePool) { p.stats.Max, p.stats.InUse = 10, 10 }, ""},
		"leak": {
			func(p *fakePool) { p.stats.OldestHold, p.settings = 41*time.Second, attrs("leak_threshold", "30s") },
			"warning pool: a connection is held for 41 s, longer than LeakThreshold 30 s",
		},
		"leak of a member": {
			func(p *fakePool) {
				p.stats.OldestHold = 41 * time.Second
				p.settings = []slog.Attr{slog.Group("primary", slog.Duration("leak_threshold", 30*time.Second))}
			}, "longer than LeakThreshold 30 s",
		},
		"long hold, no threshold": {func(p *fakePool) { p.stats.OldestHold, p.settings = time.Hour, attrs("leak_threshold", "off") }, ""},
		"eviction stuck":          {func(p *fakePool) { p.stats.SweepLate = time.Minute }, "warning pool: eviction is overdue by 1 min"},
		"fleet":                   {func(p *fakePool) { p.stats.Fleet.Warnings = []string{"too many"} }, "warning pool: too many"},
		"fleets of members": {func(p *fakePool) {
			warns := func(name, text string) poolkeeper.MemberStats {
				return poolkeeper.MemberStats{Name: name, InRotation: true, Stats: poolkeeper.Stats{Fleet: poolkeeper.FleetStats{Warnings: []string{text}}}}
			}
			p.stats.Members = []poolkeeper.MemberStats{warns("primary", "too many"), warns("replica-1", "far too many")}
			p.stats.Fleet = p.stats.Members[1].Stats.Fleet // as package sum does
		}, "warning pool: primary: too many\nwarning pool: replica-1: far too many\n"},
		"member": {
			func(p *fakePool) { p.stats.Members = []poolkeeper.MemberStats{{Name: "replica-1", State: "lagging"}} },
			"warning pool: replica-1 serves no callers: lagging",
		},
		"member isolated": {
			func(p *fakePool) {
				p.stats.Members = []poolkeeper.MemberStats{{
					Name: "replica-1", State: "isolated", Isolated: true, Why: "score 60", NextTrial: time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC),
				}}
			},
			"warning pool: replica-1 is isolated until a trial at 15:04:05 UTC: score 60",
		},
		"member on trial": {
			func(p *fakePool) {
				p.stats.Members = []poolkeeper.MemberStats{{Name: "replica-1", State: "trial", InRotation: true, Isolated: true, Why: "score 60"}}
			},
			"warning pool: replica-1 is on trial: score 60",
		},
		"expires": {
			func(p *fakePool) {
				p.expiries = []poolkeeper.Expiry{{Kind: poolkeeper.ExpiryCA, Subject: "our CA", NotAfter: now.Add(9*day + time.Hour)}}
			},
			"warning pool: ca of our CA: expires in 9 d",
		},
		"expired": {
			func(p *fakePool) {
				p.expiries = []poolkeeper.Expiry{{Kind: poolkeeper.ExpiryCredentials, NotAfter: now.Add(-time.Hour)}}
			},
			"error pool: credentials: expired 60 min ago",
		},
		"expires later": {func(p *fakePool) { p.expiries = []poolkeeper.Expiry{{NotAfter: now.Add(15 * day)}} }, ""},
	} {
		reg, pool := lifecycle.New(quiet()), &fakePool{}
		c.change(pool)
		page := statuspage.New(reg, open())
		reg.Add("pool", pool)
		got := notices(document(t, page))
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		for _, a := range document(t, page).Attention {
			shows(t, page, a.Text)
		}
		if c.want == "" {
			shows(t, page, "Nothing needs attention.")
		}
	}
}

func TestChecksAreShownWithCauseAndAdvice(t *testing.T) {
	cfg := quiet()
	cfg.Health = health.Config{FailureThreshold: 1, Interval: 50 * time.Millisecond, RetryInterval: 50 * time.Millisecond}
	reg, db, api := lifecycle.New(cfg), &fakePool{}, &fakePool{}
	page := statuspage.New(reg, statuspage.Config{Name: "x", Allow: everybody, Interval: 100 * time.Millisecond})
	reg.Add("db", db)
	reg.Add("api", api, lifecycle.WithDependencies("db"))
	start(t, reg)
	db.mu.Lock()
	db.check = context.DeadlineExceeded
	db.mu.Unlock()
	api.mu.Lock()
	api.check = textError("no database")
	api.mu.Unlock()
	testkit.Eventually(t, "both fail", func() bool {
		d := document(t, page)
		return len(d.Checks) == 2 && d.Checks[0].Status == "fail" && d.Checks[1].Status == "fail" && len(d.Checks[0].CausedBy) == 1
	})
	d := document(t, page)
	if c := d.Checks[0]; c.Name != "api" || c.CausedBy[0] != "db" || c.Runs == 0 {
		t.Errorf("%+v", c)
	}
	if c := d.Checks[1]; c.Kind != "timeout" || c.Advice == "" || c.FailedRuns == 0 {
		t.Errorf("%+v", c)
	}
	if said := notices(d); strings.Contains(said, "api") || !strings.Contains(said, "error db: its check has failed for") {
		t.Errorf("attention is not for the cause alone:\n%s", said)
	}
	if d.Overall.Ready != "fail" || d.Overall.Reason == "" || d.Overall.Advice != d.Checks[1].Advice {
		t.Errorf("%+v", d.Overall)
	}
	if d.Components[0].Health != "fail" {
		t.Errorf("the component's health is %q", d.Components[0].Health)
	}
	shows(t, page, "Not ready", "Caused by <strong><bdi>db</bdi></strong>", "up, failing", d.Checks[1].Advice)
}

func TestHoldersAreFoldedByTheirPlace(t *testing.T) {
	reg, pool := lifecycle.New(quiet()), &fakePool{settings: attrs("leak_threshold", "30s")}
	now := time.Now()
	const list, save = "example.com/api.(*Handler).List (/src/api/list.go:88)\nmain.main (/src/main.go:1)", "example.com/api.Save (/src/api/save.go:7)"
	pool.holders = []poolkeeper.Holder{
		{Kind: "tx", Since: now.Add(-time.Second), Stack: save},
		{Kind: "rows", Since: now.Add(-time.Second), Stack: list},
		{Kind: "rows", Since: now.Add(-time.Minute), Stack: list},
		{Kind: "conn", Since: now, Stack: ""},
	}
	page := statuspage.New(reg, open())
	reg.Add("pool", pool)
	d := document(t, page)
	if len(d.Holders) != 3 {
		t.Fatalf("%+v", d.Holders)
	}
	first := d.Holders[0]
	if first.Count != 2 || first.At != "api.(*Handler).List (list.go:88)" || first.Stack != list || first.Pool != "pool" || now.Sub(first.Oldest) != time.Minute {
		t.Errorf("%+v", first)
	}
	if last := d.Holders[2]; last.At != "unknown" || last.Stack != "" {
		t.Errorf("%+v", last)
	}
	shows(t, page, "2 holders, the oldest for <strong>1 min</strong>, longer than LeakThreshold", "The place of the acquisition is not known.", "/src/api/list.go:88")
}

func TestServersOfAReplicatedPoolAreShown(t *testing.T) {
	reg, pool := lifecycle.New(quiet()), &fakePool{}
	asked := time.Now().Add(-3 * time.Minute)
	pool.stats = poolkeeper.Stats{Max: 30, InUse: 4, Fleet: poolkeeper.FleetStats{Asked: asked, Demand: 240, Limit: 300, OnServer: 87}, Members: []poolkeeper.MemberStats{
		{Name: "primary", Primary: true, State: "ready", InRotation: true, Stats: poolkeeper.Stats{
			Max: 10, InUse: 3, Fleet: poolkeeper.FleetStats{Asked: asked, Demand: 240, Limit: 300, OnServer: 87},
		}},
		{Name: "replica-2", State: "isolated", Score: 60, HasScore: true, Isolated: true, Why: "score 60", NextTrial: asked.Add(time.Hour)},
		{Name: "replica-1", State: "lagging", HasLag: true, Lag: 12 * time.Second, Stats: poolkeeper.Stats{LastDialError: textError("refused"), LastDialErrorTime: asked}},
	}}
	page := statuspage.New(reg, open())
	reg.Add("orders", pool)
	m := document(t, page).Pools[0].Members
	if len(m) != 3 || !m[0].Primary || m[0].InUse != 3 || m[0].Lag != nil || *m[2].Lag != 12 || m[2].InRotation {
		t.Errorf("%+v", m)
	}
	if m[0].Score != nil || *m[1].Score != 60 || !m[1].Isolated || m[1].Why != "score 60" || !m[1].NextTrial.Equal(asked.Add(time.Hour)) {
		t.Errorf("%+v", m)
	}
	shows(t, page, "<bdi>primary</bdi>", "lagging, serves no callers", "isolated, score 60, serves no callers", ">12 s<", "Limit of primary",
		"together may open 240 connections. The server grants 300, and had 87 open when asked 3 min ago",
		"Last dial error of replica-1")
}

func TestEventsAreShownNewestFirstAndBounded(t *testing.T) {
	reg, pool := lifecycle.New(quiet()), &fakePool{}
	cfg := open()
	cfg.Events = 3
	page := statuspage.New(reg, cfg)
	reg.Add("pool", pool)
	for _, kind := range []poolkeeper.EventKind{"one", "two", "three", "leak"} {
		pool.onEvent(poolkeeper.Event{
			Time: time.Now(), Pool: "pool/primary", Kind: kind, Level: slog.LevelWarn, Text: "text of " + string(kind), Skipped: 4,
			Holder: &poolkeeper.Holder{Kind: "tx", Since: time.Now(), Stack: "a.B (b.go:1)"}, Advice: "look there",
		})
	}
	testkit.Eventually(t, "all are delivered", func() bool {
		events := document(t, page).Events
		return len(events) == 3 && events[0].Kind == "leak" && events[2].Kind == "two"
	})
	e := document(t, page).Events[0]
	if e.Component != "pool/primary" || e.Level != "WARN" || e.Skipped != 4 || e.Advice != "look there" || !strings.Contains(e.Text, "tx for 0s by a.B (b.go:1)") {
		t.Errorf("%+v", e)
	}
}

func TestStartAndShutdownHaveTheirReports(t *testing.T) {
	reg := lifecycle.New(quiet())
	page := statuspage.New(reg, statuspage.Config{Allow: everybody, Interval: 100 * time.Millisecond})
	shows(t, page, "The registry has not been started.", "Not started")
	reg.Add("db", lifecycle.Hooks{OnStop: failing("still busy")})
	reg.Add("api", lifecycle.Hooks{}, lifecycle.WithDependencies("db"))
	reg.Add("page", page, lifecycle.WithOps())
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the start has a report", func() bool { return document(t, page).Start != nil })
	r := document(t, page).Start
	if len(r.Steps) != 3 || r.Error != "" || len(r.Critical) == 0 {
		t.Errorf("%+v", r)
	}
	if err := reg.Shutdown(t.Context()); err == nil {
		t.Error("Shutdown reported nothing")
	}
	testkit.Eventually(t, "the shutdown has a report", func() bool { return document(t, page).Shutdown != nil })
	r = document(t, page).Shutdown
	if !strings.Contains(r.Error, "still busy") || len(r.Steps) != 3 {
		t.Errorf("%+v", r)
	}
	shows(t, page, "Shutdown at", "still busy", "Stopped")
}

func TestAServerIsShownWithItsRequests(t *testing.T) {
	reg := lifecycle.New(quiet())
	page := statuspage.New(reg, open())
	reg.Add("api", serverStats{})
	d := document(t, page)
	if len(d.Servers) != 1 || d.Servers[0].InFlight != 5 || d.Servers[0].Requests != 12345 || len(d.Pools) != 0 {
		t.Errorf("%+v", d)
	}
	shows(t, page, "Refused at drain", "12\u202f345")
}

type serverStats struct{ lifecycle.Hooks }

func (serverStats) Stats() poolkeeper.ServerStats {
	return poolkeeper.ServerStats{InFlight: 5, Streams: 1, Connections: 7, Requests: 12345}
}

func TestStreamsAreShownWithTheReasonsThatOccurred(t *testing.T) {
	reg := lifecycle.New(quiet())
	page := statuspage.New(reg, open())
	reg.Add("live", hub{})
	d := document(t, page)
	want := []statuspage.Streams{{
		Name: "live", WebSocket: 3, SSE: 4, Buffered: 5, Opened: 12345, Sent: 6, Dropped: 7, Replayed: 8,
		Ended: map[string]uint64{"slow": 2}, Refused: map[string]uint64{"key": 1},
	}}
	if !reflect.DeepEqual(d.Streams, want) {
		t.Errorf("%+v", d.Streams)
	}
	shows(t, page, "WebSockets", "12\u202f345", "<bdi>slow</bdi> 2", "<bdi>key</bdi> 1")
}

type hub struct{ lifecycle.Hooks }

func (hub) StreamStats() poolkeeper.StreamStats {
	return poolkeeper.StreamStats{
		WebSocket: 3, SSE: 4, Buffered: 5, Opened: 12345, Sent: 6, Dropped: 7, Replayed: 8,
		Ended: map[string]uint64{"slow": 2, "age": 0}, Refused: map[string]uint64{"key": 1, "max": 0},
	}
}

func TestEmptyStatesAreWorded(t *testing.T) {
	page := statuspage.New(lifecycle.New(quiet()), open())
	shows(t, page, "Nothing needs attention.", "No component depends on another.", "No component has a health check.",
		"No holder is listed now.", "No events yet.", "The registry has no components.")
}
