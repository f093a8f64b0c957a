package browser_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func everybody(*http.Request) bool { return true }

// filled waits until the charts are full, for a picture.
func filled(t *testing.T) {
	t.Helper()
	if *update {
		sleep(t.Context(), 13*time.Second)
	}
}

const live = `document.documentElement.dataset.live === "on"`

func TestHealthyServiceIsShownAndUpdated(t *testing.T) {
	b := newTab(t)
	s := newService(t, everybody)
	filled(t)
	b.open(s.url)
	b.until("the page is live", live)
	b.has(b.text("overall"), "Ready", "Readiness pass, liveness pass")
	// The traffic fills the pool at times, which is a warning.
	if eval[bool](b, `[...document.querySelectorAll("#attention .vh")].some(e => e.textContent.startsWith("error"))`) {
		t.Errorf("an error on a healthy service:\n%s", b.text("attention"))
	}
	b.has(b.text("pool-1"), "orders", "of 10", "Wait p99", "Connections", "Wait for a connection", "Waiting callers")
	b.has(b.text("checks"), "cache", "orders", "degrading", "critical")
	b.has(b.text("servers"), "api", "ops")
	b.has(b.text("components"), "recorder", "schema", "lifecycle")
	b.has(b.text("reports"), "Start at", "the time went into")
	if n := eval[int](b, `document.querySelectorAll("#graph .node").length`); n != 8 {
		t.Errorf("the graph has %d nodes, want 8", n)
	}
	before := b.text("pool-1")
	b.until("numbers change by themselves", `document.getElementById("pool-1").innerText !== `+quoted(before))
	b.accessible()
	b.noComplaints()
	b.picture("healthy", 1250)
}

func TestPostgresDownIsShownWithItsCauseWithoutAReload(t *testing.T) {
	b := newTab(t)
	s := newService(t, everybody)
	filled(t)
	b.open(s.url)
	b.until("the page is live", live)
	b.script(`window.same = true`)
	s.postgres.Kill(t)
	b.until("the page says so", `document.getElementById("state").innerText.includes("Not ready")`)
	b.until("the pool is down", `document.getElementById("pool-1").innerText.includes("down for")`)
	b.until("advice is given", `document.querySelector("#attention .advice")`)
	b.has(b.text("attention"), "orders")
	b.has(b.text("events"), "orders")
	if title := eval[string](b, "document.title"); title != "Not ready – orders-api – status" {
		t.Errorf("title %q", title)
	}
	if !eval[bool](b, "window.same") {
		t.Error("the page was loaded anew")
	}
	b.accessible()
	if *update {
		sleep(t.Context(), 4*time.Second)
	}
	b.picture("postgres-down", 1250)
	s.postgres.Restart(t)
	b.until("it is back", `document.getElementById("state").innerText.trim() === "Ready"`)
	b.noComplaints()
}

func TestLeakIsNamedWithFileAndLine(t *testing.T) {
	b := newTab(t)
	s := newService(t, everybody)
	filled(t)
	tx, err := s.orders.Pool().Begin(t.Context()) // the leak
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(within(t, time.Minute)) }()
	b.open(s.url)
	b.until("the leak is noticed", `document.getElementById("attention").innerText.includes("longer than LeakThreshold")`)
	b.until("it has an event", `document.getElementById("events").innerText.includes("leak")`)
	b.has(b.text("holders"), "orders", "tx", "TestLeakIsNamedWithFileAndLine (page_test.go:")

	// A stack that the reader has opened stays open while the page is updated.
	b.script(`[...document.querySelectorAll("#holders summary")].find(s => s.innerText.includes("TestLeak")).click()`)
	b.until("the stack is shown", `document.querySelector("#holders details[open] pre")`)
	before := b.text("holders")
	b.until("its age grows", `document.getElementById("holders").innerText !== `+quoted(before))
	if !eval[bool](b, `!!document.querySelector("#holders details[open] pre")`) {
		t.Error("an update has closed the stack that the reader opened")
	}
	b.accessible()
	b.noComplaints()
	b.script(`document.querySelectorAll("details[open]").forEach(d => d.open = false)`) // stacks have paths of this machine
	b.script(`document.documentElement.style.scrollBehavior = "auto"; document.getElementById("holders").scrollIntoView()`)
	b.picture("leak", 900)
}

func TestPageFitsAPhone(t *testing.T) {
	b := newTab(t, phone())
	s := newService(t, everybody)
	filled(t)
	b.open(s.url)
	b.until("the page is live", live)
	if wide, window := eval[int](b, "document.documentElement.scrollWidth"), eval[int](b, "window.innerWidth"); wide > window {
		t.Errorf("the page is %d pixels wide, the window %d: it scrolls sideways", wide, window)
	}
	b.accessible()
	b.noComplaints()
	b.picture("phone", 1240)
}

func TestDarkSchemeIsFollowed(t *testing.T) {
	b := newTab(t, dark())
	s := newService(t, everybody)
	filled(t)
	b.open(s.url)
	b.until("the page is live", live)
	if c := eval[string](b, "getComputedStyle(document.body).backgroundColor"); c != "rgb(15, 18, 22)" {
		t.Errorf("background %s", c)
	}
	b.accessible()
	b.noComplaints()
	b.picture("dark", 1250)
}

func TestEverythingIsReadableWithoutScript(t *testing.T) {
	b := newTab(t)
	s := newService(t, everybody)
	b.do(withoutScript())
	b.open(s.url)
	text, noscript := eval[string](b, `document.querySelector("main").innerText`), eval[string](b, `document.querySelector("noscript").innerText`)
	b.has(text, "Ready", "Attention", "Pools", "orders", "Dependencies", "Health checks", "Holders of connections", "Servers",
		"Recent events", "Components", "Start and stop")
	b.has(noscript, "does not update by itself")
	if eval[bool](b, `document.getElementById("live-switch").checkVisibility()`) {
		t.Error("a button that does nothing is shown")
	}
}

func TestKeyboardReachesEverythingAndUpdatesCanBePaused(t *testing.T) {
	b := newTab(t)
	s := newService(t, everybody)
	b.open(s.url)
	b.until("the page is live", live)
	b.do(chromedp.KeyEvent(kb.Tab))
	if got := eval[string](b, "document.activeElement.innerText"); got != "Skip to content" {
		t.Errorf("the first Tab goes to %q", got)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	b.until("the skip link leads to the content", `document.activeElement.id === "main"`)

	b.script(`document.getElementById("live-switch").focus()`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.until("updates are paused", `document.documentElement.dataset.live === "paused"`)
	before := b.text("pool-1")
	sleep(t.Context(), time.Second)
	if after := b.text("pool-1"); after != before {
		t.Errorf("paused, and changed from:\n%s\nto:\n%s", before, after)
	}
	if got := eval[string](b, "document.activeElement.id"); got != "live-switch" {
		t.Errorf("the focus went to %q", got)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	b.until("they go on", live)
	b.until("numbers change again", `document.getElementById("pool-1").innerText !== `+quoted(before))
	b.noComplaints()
}

func TestHostileNamesRunNothing(t *testing.T) {
	b := newTab(t)
	s := newService(t, everybody, `"><img src=x onerror="window.pwned=1">`, `<script>window.pwned=2</script>`, `' autofocus onfocus='window.pwned=3`)
	b.open(s.url)
	b.until("the page is live", live)
	b.until("an update has come", `document.getElementById("events").innerText.includes("onerror=")`)
	if eval[bool](b, `"pwned" in window || document.querySelectorAll("main img, main script, [onfocus], [onerror]").length > 0`) {
		t.Error("a name became markup")
	}
	b.accessible()
	b.noComplaints()
}

func TestPageIsLoadedAnewOnceIfAnotherProcessAnswers(t *testing.T) {
	b := newTab(t)
	s := newService(t, everybody)
	b.open(s.url)
	b.until("the page is live", live)
	another := `window.same = true; document.documentElement.dataset.shape = "another";
		document.getElementById("live-switch").click(); document.getElementById("live-switch").click()`
	b.script(another)
	b.until("it is loaded anew", `!("same" in window) && `+live)
	b.script(another)
	b.until("the second time it asks", `document.getElementById("live-state").innerText.startsWith("Another process answers")`)
	if !eval[bool](b, "window.same") {
		t.Error("it was loaded anew again")
	}
	b.noComplaints()
}

func TestStrangersSeeOverallStatesOnly(t *testing.T) {
	b := newTab(t)
	s := newService(t, nil)
	b.open(s.url)
	text := eval[string](b, "document.body.innerText")
	b.has(text, "Ready", "Details are shown to operators only")
	for _, name := range []string{"orders", "cache", "api"} {
		if strings.Contains(text, name) {
			t.Errorf("a stranger sees %q in:\n%s", name, text)
		}
	}
	b.accessible()
	b.noComplaints()
	b.picture("stranger", 200)
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // a string always can be
	return string(b)
}
