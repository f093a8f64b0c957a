package streams_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/pooltest"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/streams"
)

// client starts a client whose events go to a channel.
func client(t *testing.T, url string, cfg streams.ClientConfig) (*streams.Client, <-chan streams.Event) {
	t.Helper()
	got := make(chan streams.Event, 100)
	if cfg.Receive == nil {
		cfg.Receive = func(_ context.Context, e streams.Event) error { got <- e; return nil }
	}
	cfg.Logger = testkit.Silent()
	c, err := streams.NewClient(url, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(testkit.Within(t, testkit.Patience)); err != nil {
			t.Error(err)
		}
	})
	return c, got
}

func start(t *testing.T, c *streams.Client) {
	t.Helper()
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A hub that drains sends its clients away; they come back to the next one and miss nothing.
func TestClientComesBackAfterADrainAndMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Pointer[streams.Hub]
		_, httpClient := serveInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			both(now.Load(), "t").ServeHTTP(w, r)
		}))
		h := started(t, streams.Config{DrainSpread: poolkeeper.Off})
		now.Store(h)
		sse, events := client(t, "http://memory/sse", streams.ClientConfig{HTTP: httpClient})
		ws, messages := client(t, "ws://memory/ws", streams.ClientConfig{HTTP: httpClient})
		start(t, sse)
		start(t, ws)
		synctest.Wait()
		if err := h.Broadcast("t", streams.Event{ID: "1", Type: "greeting", Data: []byte("one")}); err != nil {
			t.Fatal(err)
		}
		if e := <-events; e.ID != "1" || e.Type != "greeting" || string(e.Data) != "one" {
			t.Errorf("the SSE client got %+v", e)
		}
		if e := <-messages; string(e.Data) != "one" {
			t.Errorf("the WebSocket client got %+v", e)
		}
		next := started(t, streams.Config{})
		if err := h.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if e := <-events; e.Type != "close" {
			t.Errorf("the SSE client got %+v, want the event of the drain", e)
		}
		now.Store(next)
		for _, id := range []string{"1", "2", "3"} {
			if err := next.Broadcast("t", streams.Event{ID: id, Data: []byte("data of " + id)}); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		for _, id := range []string{"2", "3"} {
			if e := <-events; e.ID != id {
				t.Errorf("the SSE client got %+v, want %s", e, id)
			}
		}
		if waited := time.Since(began); waited < 3*time.Second || waited > 3500*time.Millisecond {
			t.Errorf("it came back after %s, the server has asked for 3s, and jitter adds at most half of Min, 1s", waited)
		}
		testkit.Advance(time.Second)
		broadcast(t, next, "t", "again")
		if e := <-messages; string(e.Data) != "again" {
			t.Errorf("the WebSocket client got %+v", e)
		}
		if sse.Check(t.Context()) != nil || ws.Check(t.Context()) != nil {
			t.Error("Check fails though the streams are open")
		}
		stopAll(t, sse, ws)
		_ = next.Abort()
	})
}

func stopAll(t *testing.T, clients ...*streams.Client) {
	t.Helper()
	for _, c := range clients {
		if err := c.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestClientReportsAServerThatIsDownAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var status atomic.Int64
		status.Store(http.StatusServiceUnavailable)
		var asked []time.Duration
		began := time.Now()
		h := started(t, streams.Config{})
		handler := h.SSE(follow("t"))
		_, httpClient := serveInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, time.Since(began))
			if code := int(status.Load()); code != http.StatusOK {
				w.WriteHeader(code)
				return
			}
			handler.ServeHTTP(w, r)
		}))
		c, got := client(t, "http://memory/?token=s3cret", streams.ClientConfig{
			HTTP: httpClient, Backoff: streams.Backoff{Jitter: poolkeeper.NoJitter},
		})
		var told pooltest.Events
		defer c.Subscribe(told.Add)()
		c.SetName("feed")
		start(t, c)
		testkit.Advance(2 * time.Second) // attempts at 0 s and 1 s
		if err := c.Check(t.Context()); err != nil {
			t.Errorf("Check after two failures: %v", err)
		}
		testkit.Advance(2 * time.Second) // and at 3 s
		err := c.Check(t.Context())
		if err == nil || !strings.Contains(err.Error(), `streams: "feed": no stream after 3 attempts: `) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("Check after three failures: %v", err)
		}
		down := told.Of(poolkeeper.EventDown)
		if len(down) != 1 || down[0].Pool != "feed" {
			t.Errorf("events: %v", down)
		}
		testkit.Advance(61*time.Second - time.Since(began)) // at 7 s, 15 s, 31 s, 61 s
		status.Store(http.StatusOK)
		testkit.Advance(30 * time.Second)
		if c.Check(t.Context()) != nil || len(told.Of(poolkeeper.EventUp)) != 1 {
			t.Error("the server is back, and the client does not say so")
		}
		want := []int{0, 1, 3, 7, 15, 31, 61, 91}
		for i, at := range asked {
			if i >= len(want) || at != seconds(want[i]) {
				t.Errorf("attempts at %v, want %v s", asked, want)
				break
			}
		}
		broadcast(t, h, "t", "hello")
		if e := <-got; string(e.Data) != "hello" {
			t.Errorf("got %+v", e)
		}
		stopAll(t, c)
		_ = h.Abort()
	})
}

func TestClientWaitsForAsLongAsTheServerAsks(t *testing.T) {
	for _, url := range []string{"http://memory", "ws://memory"} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var asked []time.Duration
			_, httpClient := serveInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked = append(asked, time.Since(began))
				w.Header().Set("Retry-After", "20")
				w.WriteHeader(http.StatusTooManyRequests)
			}))
			c, _ := client(t, url, streams.ClientConfig{HTTP: httpClient, Backoff: streams.Backoff{Jitter: poolkeeper.NoJitter}})
			start(t, c)
			testkit.Advance(39 * time.Second)
			if len(asked) != 2 || asked[1] != 20*time.Second {
				t.Errorf("%s: attempts at %v", url, asked)
			}
			stopAll(t, c)
		})
	}
}

func TestSilentServerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Int64
		_, httpClient := serveInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if begun.Add(1); r.URL.Path == "/mute" {
				<-r.Context().Done() // not even a header
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}))
		cfg := streams.ClientConfig{HTTP: httpClient, Backoff: streams.Backoff{Jitter: poolkeeper.NoJitter}}
		open, _ := client(t, "http://memory/", cfg)
		start(t, open)
		testkit.Advance(90 * time.Second)
		if n := begun.Load(); n != 1 {
			t.Errorf("%d attempts before Silence is over", n)
		}
		testkit.Advance(2 * time.Second)
		if n := begun.Load(); n != 2 {
			t.Errorf("%d attempts after Silence", n)
		}
		stopAll(t, open)
		mute, _ := client(t, "http://memory/mute", cfg)
		start(t, mute)
		testkit.Advance(12 * time.Second)
		if n := begun.Load(); n != 4 {
			t.Errorf("%d attempts after ConnectTimeout", n-2)
		}
		stopAll(t, mute)
	})
}

func TestEventThatCannotBeReceivedIsReceivedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{})
		_, httpClient := serveInMemory(t, h.SSE(follow("t")))
		var got []string
		c, _ := client(t, "http://memory", streams.ClientConfig{HTTP: httpClient, Receive: func(_ context.Context, e streams.Event) error {
			got = append(got, string(e.Data))
			switch len(got) {
			case 2:
				return errors.New("not now")
			case 3:
				panic("receive")
			}
			return nil
		}})
		var told pooltest.Events
		defer c.Subscribe(told.Add)()
		start(t, c)
		synctest.Wait()
		broadcast(t, h, "t", "1", "2", "3")
		testkit.Advance(10 * time.Second)
		if text := strings.Join(got, " "); text != "1 2 2 2 3" {
			t.Errorf("received %s", text)
		}
		if n := len(told.Of(poolkeeper.EventPanic)); n != 1 {
			t.Errorf("%d panics are told", n)
		}
		stopAll(t, c)
		_ = h.Abort()
	})
}

func TestWebSocketClientTalksWithTheHeadersOfEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{})
		_, httpClient := serveInMemory(t, h.WebSocket(func(ctx context.Context, c *streams.Conn) error {
			for range 2 {
				_, data, err := c.Read(ctx)
				if err != nil {
					return err
				}
				if err := c.Send(ctx, streams.Event{Data: []byte(c.Request().Header.Get("Token") + " " + string(data))}); err != nil {
					return err
				}
			}
			return nil
		}))
		attempts := 0
		c, got := client(t, "ws://memory", streams.ClientConfig{HTTP: httpClient, Header: func(context.Context) (http.Header, error) {
			attempts++
			if attempts == 2 {
				return nil, errors.New("no token")
			}
			return http.Header{"Token": {strings.Repeat("x", attempts)}}, nil
		}})
		if err := c.Write(t.Context(), websocket.MessageText, nil); !errors.Is(err, poolkeeper.ErrDown) {
			t.Errorf("Write before Start: %v", err)
		}
		start(t, c)
		for _, want := range []string{"x hello", "x hello", "xxx hello"} { // two, and the connection ends
			testkit.Advance(5 * time.Second)
			if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			if e := <-got; string(e.Data) != want {
				t.Errorf("got %q, want %q", e.Data, want)
			}
		}
		stopAll(t, c)
		_ = h.Abort()
	})
}

func TestStopOfAClientWhoseReceiveHangsEndsInTime(t *testing.T) {
	h := started(t, streams.Config{})
	url := serve(t, h.SSE(follow("t")))
	release, inside := make(chan struct{}), make(chan struct{})
	c, err := streams.NewClient(url, streams.ClientConfig{Logger: testkit.Silent(), Receive: func(context.Context, streams.Event) error {
		close(inside)
		<-release
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	start(t, c)
	subscribed(t, h, "t", 1)
	broadcast(t, h, "t", "x")
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Receive or Header has not returned") {
		t.Errorf("Stop: %v", err)
	}
	close(release)
}

func TestClientThatWasNeverStartedStops(t *testing.T) {
	c, _ := client(t, "ws://memory", streams.ClientConfig{})
	stopAll(t, c, c)
	if err := c.Start(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("Start after Stop: %v", err)
	}
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

func TestBackoffDoublesFromMinToMax(t *testing.T) {
	b := streams.Backoff{Jitter: poolkeeper.NoJitter}
	for failures, want := range []int{1, 1, 2, 4, 8, 16, 30, 30, 30} {
		if got := b.Wait(failures, 0, 0.9); got != seconds(want) {
			t.Errorf("after %d failures: %s, want %ds", failures, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		b := streams.Backoff{
			Min: time.Duration(rapid.Int64Range(1e6, 1e12).Draw(t, "min")), Jitter: rapid.Float64Range(0.01, 1).Draw(t, "jitter"),
		}
		b.Max = b.Min + time.Duration(rapid.Int64Range(0, 1e15).Draw(t, "more"))
		failures := rapid.IntRange(0, 10_000).Draw(t, "failures")
		asked := time.Duration(rapid.Int64Range(0, 1e15).Draw(t, "asked"))
		early, full := b.Wait(failures, asked, 0.999999), b.Wait(failures, asked, 0)
		if full > b.Max || full < min(max(b.Min, asked), b.Max) || early < min(asked, b.Max) || early > b.Max {
			t.Errorf("%+v after %d, asked for %s: %s and %s", b, failures, asked, early, full)
		}
		if b.Wait(failures+1, asked, 0) < full {
			t.Error("a longer series of failures waits less")
		}
	})
}

// parsed is what a client makes of an event stream.
func parsed(text, id string) (list []streams.Event, last string, err error) {
	last = id
	err = streams.ReadEvents(strings.NewReader(text), 1<<16, id, func() {}, func(time.Duration) {},
		func(e streams.Event) error { list = append(list, e); return nil }, func(id string) { last = id })
	return list, last, err
}

func TestEventStreamsAreReadAsTheStandardSays(t *testing.T) {
	for text, want := range map[string][]streams.Event{
		"data: YHOO\ndata: +2\ndata: 10\n\n":                                         {{Data: []byte("YHOO\n+2\n10")}},
		": test stream\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n\n": {{ID: "1", Data: []byte("first")}, {Data: []byte("second")}, {Data: []byte(" third")}},
		"data\n\ndata\ndata\n\ndata:":                                                {{Data: []byte("")}, {Data: []byte("\n")}},
		"data:test\r\rdata: test\r\n\r\ndata:x\r\n\n":                                {{Data: []byte("test")}, {Data: []byte("test")}, {Data: []byte("x")}},
		"\ufeffid: 5\n\ndata: a\n\nevent: b\nfoo: c\ndata: d\n\nevent: x\n\ndata: e\n\n": {
			{ID: "5", Data: []byte("a")}, {ID: "5", Type: "b", Data: []byte("d")}, {ID: "5", Data: []byte("e")},
		},
		"id: a\x00b\ndata: x\n\nevent: message\ndata: y\n\n": {{ID: "9", Data: []byte("x")}, {ID: "9", Data: []byte("y")}},
	} {
		id := ""
		if strings.Contains(text, "\x00") {
			id = "9" // of the stream before
		}
		got, _, err := parsed(text, id)
		if !errors.Is(err, io.EOF) || len(got) != len(want) {
			t.Errorf("%q is %+v, %v", text, got, err)
			continue
		}
		for i, e := range got {
			if e.ID != want[i].ID || e.Type != want[i].Type || string(e.Data) != string(want[i].Data) {
				t.Errorf("%q: event %d is %+v, want %+v", text, i, e, want[i])
			}
		}
	}
	if _, last, _ := parsed("id: 7\ndata: not complete", "6"); last != "6" {
		t.Errorf("an event that is not complete has left the ID %q", last)
	}
	if _, _, err := parsed(strings.Repeat("data: xxxxxxxx\n", 1<<14), ""); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("an event without end: %v", err)
	}
}

// What a hub writes, a client reads, whatever is in it and wherever reads are cut.
func FuzzEventsSurviveTheWire(f *testing.F) {
	f.Add("1", "greeting", "a\r\nb\rc\nd", "e")
	f.Add("", "", "", "\r")
	f.Fuzz(func(t *testing.T, id, kind, one, two string) {
		if strings.ContainsAny(id, "\r\n\x00") || strings.ContainsAny(kind, "\r\n") || kind == "message" || len(one)+len(two) > 1<<12 {
			return
		}
		first := streams.Event{ID: id, Type: kind, Data: []byte(one)}
		second := streams.Event{Data: []byte(two)}
		got, last, err := parsed(first.SSEForm()+":\n\n"+second.SSEForm(), "")
		if !errors.Is(err, io.EOF) || len(got) != 2 {
			t.Fatalf("%q: %+v, %v", first.SSEForm()+second.SSEForm(), got, err)
		}
		lines := strings.NewReplacer("\r\n", "\n", "\r", "\n")
		if got[0].ID != id || got[0].Type != kind || string(got[0].Data) != lines.Replace(one) {
			t.Errorf("%+v, want %+v", got[0], first)
		}
		if last != id || got[1].Type != "" || string(got[1].Data) != lines.Replace(two) {
			t.Errorf("%+v, want %+v", got[1], second)
		}
	})
}
