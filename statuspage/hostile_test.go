package statuspage_test

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// hostile are texts that would be markup, script, or another text than they look like.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(2)>`, `' onload='alert(3)`, `</style><b>`, `</svg></title><i>`,
	`{{.Style}}`, "\u202egnp.exe", "a\u2066b\u2069", "\x00\x1b[31m", "\xff\xfe", `javascript:alert(4)`, `&lt;u&gt;`,
	strings.Repeat("W", 100), strings.Repeat("é", 50),
}

// hostilePool says them everywhere.
func hostilePool() *fakePool {
	p := &fakePool{}
	for _, h := range hostile {
		p.holders = append(p.holders, poolkeeper.Holder{Kind: h, Stack: h + " (" + h + ")\n" + h, Since: time.Now()})
		p.settings = append(p.settings, slog.String(h, h), slog.Group(h, slog.String(h, h)))
		p.expiries = append(p.expiries, poolkeeper.Expiry{Kind: h, Subject: h})
		p.stats.Members = append(p.stats.Members, poolkeeper.MemberStats{Name: h, State: h})
		p.stats.Fleet.Warnings = append(p.stats.Fleet.Warnings, h)
	}
	p.stats.Evicted = map[string]uint64{hostile[0]: 1, hostile[1]: 1}
	p.stats.LastDialError = textError(strings.Join(hostile, " "))
	p.check = p.stats.LastDialError
	return p
}

// INV-15.
func TestHostileTextsAreShownAsText(t *testing.T) {
	cfg := quiet()
	cfg.Health = health.Config{FailureThreshold: 1}
	reg := lifecycle.New(cfg)
	pool := hostilePool()
	page := statuspage.New(reg, statuspage.Config{Name: hostile[0], Allow: everybody})
	var names []string
	for _, h := range hostile {
		reg.Add(h, pool, lifecycle.WithDependencies(names...)) // those that Add refuses have an event
		names = append(names, h)
	}
	for _, h := range hostile {
		pool.onEvent(poolkeeper.Event{Pool: h, Kind: poolkeeper.EventKind(h), Text: h, Err: textError(h), Advice: h, Cause: h})
	}
	_ = reg.Start(t.Context()) // it fails: names were refused
	shutdown(t, reg)
	for _, path := range []string{"/", "/status.json"} {
		body := get(t, page, path).Body.String()
		for _, h := range hostile[:5] {
			if strings.Contains(body, h) && (path == "/" || strings.Contains(h, "<")) {
				t.Errorf("%s has %q unescaped", path, h)
			}
		}
		for _, r := range "\u202e\u2066\u2069\x00\x1b" {
			if strings.ContainsRune(body, r) {
				t.Errorf("%s has U+%04X", path, r)
			}
		}
	}
	body := get(t, page, "/").Body.String()
	if n := strings.Count(body, "<script"); n != 1 {
		t.Errorf("%d scripts, want the page's own", n)
	}
	for _, bad := range []string{"<img", "<b>", "<i>", " onerror=alert", `href="javascript`, "cannot be shown", "ZgotmplZ"} {
		if bad == " onerror=alert" { // as text it has its brackets and quotes escaped
			bad = `<img src=x onerror`
		}
		if strings.Contains(body, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	if !strings.Contains(body, "&lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Error("the text is not shown")
	}
}

// panicking is a component whose every method panics.
type panicking struct{ lifecycle.Hooks }

func (panicking) Stats() poolkeeper.Stats       { panic("stats gone: postgres://u:hunter2@db") }
func (panicking) Holders() []poolkeeper.Holder  { panic(textError("holders gone")) }
func (panicking) Settings() []slog.Attr         { panic("settings gone") }
func (panicking) Expiries() []poolkeeper.Expiry { runtime.Goexit(); return nil }

// panickingError is an error whose text cannot be made.
type panickingError struct{}

func (panickingError) Error() string { panic("no text") }

func TestPanicsSpoilTheirOwnPartOnly(t *testing.T) {
	reg := lifecycle.New(quiet())
	healthy := &fakePool{}
	healthy.stats = poolkeeper.Stats{Max: 10, InUse: 4, LastDialError: panickingError{}}
	page := statuspage.New(reg, open())
	reg.Add("panicking", panicking{})
	reg.Add("healthy", healthy)
	reg.Add("page", page)
	start(t, reg)
	healthy.onEvent(poolkeeper.Event{Pool: "healthy", Kind: "down", Text: "down", Err: panickingError{}})
	d := document(t, page)
	said := strings.Join(d.Components[0].Unanswered, "\n")
	for _, want := range []string{"Stats: panic: stats gone", "Holders: panic: holders gone", "Settings: panic: settings gone", "Expiries ended its goroutine"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in:\n%s", want, said)
		}
	}
	if strings.Contains(said, "hunter2") {
		t.Errorf("a panic shows a secret:\n%s", said)
	}
	if len(d.Pools) != 1 || d.Pools[0].InUse != 4 {
		t.Errorf("the other pool is not shown: %+v", d.Pools)
	}
	if body := get(t, page, "/").Body.String(); !strings.Contains(body, "<strong>4</strong> of 10") || !strings.Contains(body, "stats gone") {
		t.Error("the page does not show the other pool, or not what panicked")
	}
}

func TestAComponentThatHangsIsNamedAndNotAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		release := make(chan struct{})
		hung, healthy := &fakePool{onStats: func() { <-release }}, &fakePool{}
		page := statuspage.New(reg, open())
		reg.Add("hung", hung)
		reg.Add("healthy", healthy)
		if err := page.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Minute + time.Second)
		if n := hung.timesAsked(); n != 1 {
			t.Errorf("a component that hangs was asked %d times", n)
		}
		if n := healthy.timesAsked(); n != 31 {
			t.Errorf("the other was asked %d times, want 31", n)
		}
		began := time.Now()
		d := document(t, page)
		if took := time.Since(began); took > time.Second {
			t.Errorf("the page took %s", took)
		}
		if said := strings.Join(d.Components[0].Unanswered, ""); !strings.Contains(said, "Stats does not return, called 1m1s ago") {
			t.Errorf("it says %q", said)
		}
		close(release)
		testkit.Advance(4 * time.Second)
		if d := document(t, page); len(d.Components[0].Unanswered) > 0 || len(d.Pools) != 2 {
			t.Errorf("it has returned, and is still missing: %+v", d.Components[0])
		}
		if err := page.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestManyThatHangDelayAPageByASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		release := make(chan struct{})
		page := statuspage.New(reg, open())
		for name := range strings.FieldsSeq("a b c d e f g h i j k l") {
			reg.Add(name, &fakePool{onStats: func() { <-release }})
		}
		began := time.Now()
		d := document(t, page)
		if took := time.Since(began); took > time.Second {
			t.Errorf("the page took %s", took)
		}
		if said := d.Components[11].Unanswered; len(said) != 1 || !strings.Contains(said[0], "not asked") {
			t.Errorf("the last one: %q", said)
		}
		close(release)
	})
}

func TestStopWaitsForASampleUntilItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		release := make(chan struct{})
		page := statuspage.New(reg, open())
		reg.Add("hung", &fakePool{onStats: func() { <-release }})
		if err := page.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(100 * time.Millisecond) // the sample is under way
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := page.Stop(ctx); err == nil {
			t.Error("Stop did not say that a sample is under way")
		}
		if err := page.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		close(release)
	})
}
