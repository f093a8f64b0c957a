package streams_test

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/streams"
)

// transport is an HTTP client of its own, which leaves nothing behind.
func transport(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// eager comes back as soon as it may.
var eager = streams.Backoff{Min: time.Millisecond, Max: time.Millisecond, Jitter: poolkeeper.NoJitter}

// A server that ends each stream in another way, a thousand times, costs the client nothing that stays.
func TestThousandReconnectsLeaveNothingBehind(t *testing.T) {
	testkit.Slow(t)
	const most = 1000
	var opened atomic.Int64
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := opened.Add(1)
		if strings.HasPrefix(r.URL.Path, "/ws") && n%4 != 0 {
			conn, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			_ = conn.Write(r.Context(), websocket.MessageText, []byte("x"))
			if n%4 == 1 {
				_ = conn.Close(websocket.StatusGoingAway, "")
			}
			_ = conn.CloseNow()
			return
		}
		switch n % 4 {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1: // an event and an end
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write([]byte("retry: 1\n\ndata: x\n\n"))
		case 2: // half an event
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write([]byte("data: x\n"))
		case 3: // the connection breaks
			panic(http.ErrAbortHandler)
		}
	}))
	for _, scheme := range []string{"http", "ws"} {
		opened.Store(0)
		c, events := client(t, strings.Replace(url, "http", scheme, 1)+"/"+scheme, streams.ClientConfig{HTTP: transport(t), Backoff: eager})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-events:
				case <-ctx.Done():
					return
				}
			}
		})
		start(t, c)
		testkit.Eventually(t, "it has come back", func() bool { return opened.Load() > most/10 })
		before := runtime.NumGoroutine()
		testkit.Eventually(t, "it has come back a thousand times", func() bool { return opened.Load() > most })
		if now := runtime.NumGoroutine(); now > before+20 {
			t.Errorf("%s: %d goroutines, %d before", scheme, now, before)
		}
		stopAll(t, c)
		cancel()
		wg.Wait()
	}
}

func TestClientStopsInEveryState(t *testing.T) {
	h := started(t, streams.Config{})
	live := serve(t, both(h, "t"))
	refuses := serve(t, http.NotFoundHandler())
	for name, tt := range map[string]struct {
		address string
		in      func(*streams.Client) bool // reports whether the state is reached
	}{
		"connecting to a hung server": {testkit.HungAddr(t), func(*streams.Client) bool { return true }},
		"open":                        {strings.TrimPrefix(live, "http://"), func(*streams.Client) bool { return h.StreamStats().Topics["t"] > 0 }},
		"waiting after failures":      {strings.TrimPrefix(refuses, "http://"), func(c *streams.Client) bool { return c.Check(t.Context()) != nil }},
		"waiting for a dead address":  {testkit.FreeAddr(t), func(c *streams.Client) bool { return c.Check(t.Context()) != nil }},
	} {
		for scheme, path := range map[string]string{"http": "/sse", "ws": "/ws"} {
			t.Run(name+", "+scheme, func(t *testing.T) {
				c, _ := client(t, scheme+"://"+tt.address+path, streams.ClientConfig{HTTP: transport(t), Backoff: eager})
				start(t, c)
				testkit.Eventually(t, "it is in that state", func() bool { return tt.in(c) })
				stopAll(t, c, c, c)
				testkit.Eventually(t, "the hub has no stream", func() bool { s := h.StreamStats(); return s.SSE+s.WebSocket == 0 })
			})
		}
	}
}

// What a server asks for is not cut short by chance: it would be asked again too early.
func TestClientDoesNotComeBackBeforeTheServerWantsIt(t *testing.T) {
	b := streams.Backoff{Min: time.Second, Max: time.Minute, Jitter: 0.5}
	for _, draw := range []float64{0, 0.3, 0.999} {
		for failures := range 5 {
			if d := b.Wait(failures, 20*time.Second, draw); d < 20*time.Second || d > 21*time.Second {
				t.Errorf("after %d failures, asked to wait for 20s, it waits for %s", failures, d)
			}
			if d := b.Wait(failures, time.Hour, draw); d != time.Minute {
				t.Errorf("asked to wait for an hour, it waits for %s, and not for Max", d)
			}
		}
	}
}
