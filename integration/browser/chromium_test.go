package browser_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// tab is one tab of a Chromium of its own.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string // of the console: exceptions, refusals of the content security policy
}

type void = chromedp.Action[chromedp.Void]

// newTab starts Chromium. Without one the test is skipped, or fails if all tests are asked for.
func newTab(t *testing.T, actions ...void) *tab {
	t.Helper()
	testkit.Slow(t)
	binary := chromium(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(binary), chromedp.WindowSize(1280, 900),
		chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("hide-scrollbars", true))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses to run as root with one
	}
	ctx, cancelAllocator := chromedp.NewExecAllocator(within(t, 2*time.Minute), options...)
	t.Cleanup(cancelAllocator)
	ctx, cancel := chromedp.NewContext(ctx)
	b := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Log(err)
		}
		cancel()
	})
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.EmulateViewport(1280, 900))
	b.do(actions...)
	return b
}

// chromium is the path of the browser.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if testkit.Full() {
		t.Fatalf("no Chromium, and %s=1: apt-get install chromium", testkit.FullEnv)
	}
	t.Skip("needs Chromium: apt-get install chromium")
	return ""
}

func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Text)
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == "error" || e.Entry.Source == "security" {
			b.complaints = append(b.complaints, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

// noComplaints fails the test for each complaint of the console.
func (b *tab) noComplaints() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.complaints {
		b.t.Errorf("the console says: %s", c)
	}
}

func (b *tab) do(actions ...void) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

// script runs JavaScript for its effect.
func (b *tab) script(text string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](text))
}

// eval returns the value of a JavaScript expression.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	out, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%v in %s", err, shortened(expression))
	}
	return out
}

// text returns the visible text of the element with that id.
func (b *tab) text(id string) string {
	b.t.Helper()
	return eval[string](b, `document.getElementById("`+id+`").innerText`)
}

// until waits until a JavaScript expression is true. The expression may fail while a page loads.
func (b *tab) until(what, expression string) {
	b.t.Helper()
	var failure error
	b.t.Cleanup(func() {
		if b.t.Failed() && failure != nil {
			b.t.Logf("%s: %v in %s", what, failure, shortened(expression))
		}
	})
	eventually(b.t, what, func() (is bool) {
		is, failure = chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+expression+")", chromedp.EvalAwaitPromise))
		return failure == nil && is
	})
}

// phone gives the window the size of a small phone.
func phone() void {
	return chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile, chromedp.EmulateScale(2))
}

// dark asks the page for its dark scheme.
func dark() void {
	return func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
		})
		return chromedp.Void{}, err
	}
}

func withoutScript() void {
	return func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return chromedp.Void{}, err
	}
}

// accessible fails the test for each violation that axe-core finds.
func (b *tab) accessible() {
	b.t.Helper()
	axe, err := os.ReadFile(filepath.Join("node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		if testkit.Full() {
			b.t.Fatalf("%v, and %s=1: npm ci", err, testkit.FullEnv)
		}
		b.t.Logf("not judged by axe-core: %v: npm ci", err)
		return
	}
	b.script(string(axe))
	type violation struct {
		ID    string `json:"id"`
		Help  string `json:"help"`
		Nodes []struct {
			HTML           string `json:"html"`
			FailureSummary string `json:"failureSummary"`
		} `json:"nodes"`
	}
	found := eval[[]violation](b, `axe.run({runOnly: ["wcag2a","wcag2aa","wcag21a","wcag21aa","wcag22aa","best-practice"]}).then(r => {
		window.axePasses = r.passes.length;
		return r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.map(n => ({html: n.html, failureSummary: n.failureSummary}))}));
	})`)
	if passes := eval[int](b, "window.axePasses"); passes < 20 {
		b.t.Errorf("axe-core has judged by %d rules only", passes)
	}
	for _, v := range found {
		nodes, _ := json.Marshal(v.Nodes)
		b.t.Errorf("axe-core: %s: %s: %s", v.ID, v.Help, shortened(string(nodes)))
	}
}

func shortened(s string) string { return s[:min(len(s), 600)] }

// picture writes docs/images/status-NAME.png, if -update asks for it.
func (b *tab) picture(name string, height int64) {
	b.t.Helper()
	if !*update {
		return
	}
	width, scale := eval[int64](b, "document.documentElement.clientWidth"), eval[float64](b, "window.devicePixelRatio")
	b.do(chromedp.EmulateViewport(width, height, chromedp.EmulateScale(scale)))
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	file := filepath.Join("..", "..", "docs", "images", "status-"+name+".png")
	if err := os.WriteFile(file, png, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// has fails the test for each word that is not in text.
func (b *tab) has(text string, words ...string) {
	b.t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			b.t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}
