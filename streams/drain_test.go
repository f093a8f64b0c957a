package streams_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
	"github.com/poolkeeper/poolkeeper/streams"
)

// closings notes when each client was closed, and how.
type closings struct {
	began time.Time

	mu sync.Mutex
	at []string
}

func (c *closings) note(client int, how string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = append(c.at, fmt.Sprintf("%d %s %s", client, time.Since(c.began), how))
}

// crowd opens n clients, by turns of both kinds, that note how they are closed.
func (c *closings) crowd(t *testing.T, client *http.Client, n int) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		if i%2 == 0 {
			ws := dialInMemory(t, client)
			wg.Go(func() {
				_, code := text(t, ws)
				c.note(i, fmt.Sprint(int(code)))
			})
		} else {
			sse := open(t, client, "http://memory/sse")
			wg.Go(func() {
				sse.block() // the first retry
				lines, _ := sse.block()
				c.note(i, strings.Join(lines, "|"))
			})
		}
		synctest.Wait()
	}
	return wg.Wait
}

// closedBy ends a hub with DrainSpread 8 s and four clients, by turns of both kinds. It returns when
// each client was closed, and how.
func closedBy(t *testing.T, end func(h *streams.Hub)) []string {
	t.Helper()
	h := started(t, streams.Config{DrainSpread: 8 * time.Second})
	_, client := serveInMemory(t, both(h, "t"))
	var c closings
	wait := c.crowd(t, client, 4)
	c.began = time.Now()
	end(h)
	wait()
	return c.at
}

func TestDrainClosesTheOldestFirstEvenlyOverDrainSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := closedBy(t, func(h *streams.Hub) {
			if err := h.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			if s := h.StreamStats(); s.Ended["drain"] != 4 {
				t.Errorf("ended: %v", s.Ended)
			}
			if err := h.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
		want := []string{
			"0 0s 1001", "1 2s event: close|retry: 3000|data: going away",
			"2 4s 1001", "3 6s event: close|retry: 3000|data: going away",
		}
		if !slices.Equal(at, want) {
			t.Errorf("closed: %q, want %q", at, want)
		}
	})
}

// With little time the streams are closed over half of it. SSE clients are told to wait for as much
// longer as the spread was cut short.
func TestShortDrainTellsClientsToWaitInstead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := closedBy(t, func(h *streams.Hub) {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			if err := h.Stop(ctx); err != nil {
				t.Error(err)
			}
		})
		want := []string{
			"0 0s 1001", "1 500ms event: close|retry: 4500|data: going away",
			"2 1s 1001", "3 1.5s event: close|retry: 7500|data: going away",
		}
		if !slices.Equal(at, want) {
			t.Errorf("closed: %q, want %q", at, want)
		}
	})
}

func TestDrainDeliversWhatIsBufferedAndEndsContextsWithItsCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{DrainSpread: poolkeeper.Off})
		causes := make(chan error, 2)
		_, client := serveInMemory(t, h.SSE(func(ctx context.Context, s *streams.Stream) error {
			if err := s.Subscribe("t"); err != nil {
				return err
			}
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil
		}))
		s := open(t, client, "http://memory")
		synctest.Wait()
		broadcast(t, h, "t", "1", "2", "3")
		drained := make(chan error, 1)
		go func() { drained <- h.Drain(t.Context()) }()
		synctest.Wait()
		if resp := open(t, client, "http://memory"); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("while it drains: %s", resp.Status)
		}
		expect(t, s, "1", "2", "3", "going away", "(end)")
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if cause := <-causes; !errors.Is(cause, poolkeeper.ErrDraining) {
			t.Errorf("the cause is %v", cause)
		}
		_ = h.Stop(t.Context())
	})
}

// hang is a handler that ignores its context.
func hang(release <-chan struct{}) { <-release }

func TestHandlerThatHangsIsCutAndNamed(t *testing.T) {
	h := started(t, streams.Config{Name: "chat", DrainSpread: poolkeeper.Off})
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("/ws", h.WebSocket(func(context.Context, *streams.Conn) error { hang(release); return nil }))
	mux.Handle("/sse", h.SSE(func(context.Context, *streams.Stream) error { hang(release); return nil }))
	mux.Handle("/good", h.SSE(follow("t")))
	url := serve(t, mux)
	ws, sse, good := dial(t, url+"/ws", nil), open(t, http.DefaultClient, url+"/sse"), open(t, http.DefaultClient, url+"/good")
	testkit.Eventually(t, "all are open", func() bool { return h.Stats().InFlight == 3 })
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("the test's time is over"))
	defer cancel()
	if err := h.Drain(ctx); err == nil || !strings.Contains(err.Error(), `streams: drain "chat": 2 streams still open: the test's time is over`) {
		t.Errorf("Drain: %v", err)
	}
	err := h.Stop(ctx)
	held, ok := errors.AsType[*poolkeeper.HeldError](err)
	if !ok || held.Cut != 2 || len(held.Holders) != 2 {
		t.Fatalf("Stop: %v", err)
	}
	for _, holder := range held.Holders {
		if first, _, _ := strings.Cut(holder.Stack, "\n"); !strings.Contains(first, "streams_test.hang (") {
			t.Errorf("a handler hangs in\n%s", holder.Stack)
		}
	}
	for _, want := range []string{`stop "chat": cut off 2 connections held by websocket for `, "streams_test.hang (drain_test.go:", "; sse for "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	// The clients are told, and their connections are closed, though the handlers still hang.
	if _, code := text(t, ws); code != websocket.StatusGoingAway {
		t.Errorf("the WebSocket was closed with %v", code)
	}
	expect(t, sse, "going away", "(end)")
	expect(t, good, "going away", "(end)")
	close(release)
}

func TestAbortCutsEverythingAtOnce(t *testing.T) {
	h := started(t, streams.Config{})
	url := serve(t, both(h, "t"))
	ws, sse := dial(t, url+"/ws", nil), open(t, http.DefaultClient, url+"/sse")
	subscribed(t, h, "t", 2)
	held, ok := errors.AsType[*poolkeeper.HeldError](h.Abort())
	if !ok || held.Cut != 2 {
		t.Errorf("Abort: %v", held)
	}
	if _, _, err := ws.Read(t.Context()); err == nil || websocket.CloseStatus(err) != -1 {
		t.Errorf("the WebSocket ended with %v", err)
	}
	if got := sse.data(); got != "(broken)" {
		t.Errorf("the SSE client got %q", got)
	}
	if n := h.Stats().InFlight; n != 0 {
		t.Errorf("%d streams are open", n)
	}
}

// A peer that was told and does not answer is closed, and is nobody's fault.
func TestPeerThatIgnoresTheCloseMessageIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{DrainSpread: poolkeeper.Off})
		n, _ := serveInMemory(t, both(h, "t"))
		silent(t, n)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Stop(ctx); err != nil {
			t.Error(err)
		}
		if n := h.Stats().InFlight; n != 0 {
			t.Errorf("%d streams are open", n)
		}
	})
}

func TestStopsAreOneStop(t *testing.T) {
	h := started(t, streams.Config{DrainSpread: poolkeeper.Off})
	release := make(chan struct{})
	url := serve(t, h.SSE(func(context.Context, *streams.Stream) error { hang(release); return nil }))
	s := open(t, http.DefaultClient, url)
	testkit.Eventually(t, "it is open", func() bool { return h.Stats().InFlight == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	errs := make(chan error, 20)
	for range cap(errs) {
		go func() { errs <- h.Stop(context.WithoutCancel(ctx)) }()
	}
	<-ctx.Done()
	first := h.Abort()
	if _, ok := errors.AsType[*poolkeeper.HeldError](first); !ok {
		t.Errorf("Abort: %v", first)
	}
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, first) {
			t.Errorf("Stop: %v", err)
		}
	}
	close(release)
	expect(t, s, "going away", "(end)")
}

// The order in a registry: the hub depends on its server, and so drains before it.
func TestHubInARegistryDrainsBeforeItsServer(t *testing.T) {
	h, err := streams.New(streams.Config{DrainSpread: poolkeeper.Off, Logger: testkit.Silent()})
	if err != nil {
		t.Fatal(err)
	}
	reg := lifecycle.New(lifecycle.Config{Logger: testkit.Silent()})
	srv := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: both(h, "t")})
	reg.Add("api", srv)
	reg.Add("live", h, lifecycle.WithDependencies("api"))
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	url := "http://" + srv.Addr().String()
	ws, sse := dial(t, url+"/ws", nil), open(t, http.DefaultClient, url+"/sse")
	subscribed(t, h, "t", 2)
	if s := srv.Stats(); s.Hijacked != 1 || s.InFlight != 2 {
		t.Errorf("the server's Stats = %+v", s)
	}
	page := httptest.NewRecorder()
	statuspage.New(reg, statuspage.Config{Allow: func(*http.Request) bool { return true }}).
		ServeHTTP(page, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/status.json", nil))
	for _, want := range []string{"drain_spread", "websocket", "streams_test.both ("} {
		if !strings.Contains(page.Body.String(), want) {
			t.Errorf("the status page does not show %q", want)
		}
	}
	codes := make(chan websocket.StatusCode, 1)
	go func() { _, code := text(t, ws); codes <- code }()
	if report := reg.Shutdown(testkit.Within(t, testkit.Patience)); report != nil {
		t.Error(report)
	}
	if code := <-codes; code != websocket.StatusGoingAway {
		t.Errorf("closed with %v", code)
	}
	expect(t, sse, "going away", "(end)")
}

// Under lifecycle.Stream the server's drain ends the streams, all at once, in whatever order.
func TestStreamOfADrainingServerIsClosedWithAMessage(t *testing.T) {
	h := started(t, streams.Config{})
	reg := lifecycle.New(lifecycle.Config{Logger: testkit.Silent()})
	srv := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: lifecycle.Stream(both(h, "t"))})
	reg.Add("api", srv)
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	url := "http://" + srv.Addr().String()
	ws, sse := dial(t, url+"/ws", nil), open(t, http.DefaultClient, url+"/sse")
	subscribed(t, h, "t", 2)
	codes := make(chan websocket.StatusCode, 1)
	go func() { _, code := text(t, ws); codes <- code }()
	if report := reg.Shutdown(testkit.Within(t, testkit.Patience)); report != nil {
		t.Error(report)
	}
	if code := <-codes; code != websocket.StatusGoingAway {
		t.Errorf("closed with %v", code)
	}
	expect(t, sse, "going away", "(end)")
}
