package streams_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/pooltest"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/streams"
)

// both serves topics on both kinds.
func both(h *streams.Hub, topics ...string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/ws", h.WebSocket(followWS(topics...)))
	mux.Handle("/sse", h.SSE(follow(topics...)))
	return mux
}

// dialInMemory opens a WebSocket in a bubble.
func dialInMemory(t *testing.T, client *http.Client) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://memory/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// In memory a connection has no buffer: a client that does not read blocks the first write.
func TestSlowReaderBlocksNobodyAndIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{Buffer: 3})
		var told pooltest.Events
		defer h.Subscribe(told.Add)()
		_, client := serveInMemory(t, both(h, "t"))
		slowSSE := open(t, client, "http://memory/sse")
		slowWS := dialInMemory(t, client)
		good := open(t, client, "http://memory/sse")
		synctest.Wait()
		began := time.Now()
		for i := range 10 {
			broadcast(t, h, "t", fmt.Sprint(i))
			expect(t, good, fmt.Sprint(i))
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the others were held up for %s", took)
		}
		if s := h.StreamStats(); s.Ended["slow"] != 2 || s.Dropped == 0 {
			t.Errorf("Stats = %+v", s)
		}
		if n := len(told.Of(poolkeeper.EventLimits)); n != 2 {
			t.Errorf("%d events tell of it", n)
		}
		// They have WriteTimeout to take what is being written, and are gone then.
		testkit.Advance(11 * time.Second)
		if n := h.Stats().InFlight; n != 1 {
			t.Errorf("%d streams are open", n)
		}
		_ = slowSSE.Body.Close()
		_ = slowWS.CloseNow()
		_ = h.Abort()
	})
}

func TestWebSocketThatIsDroppedForBeingSlowIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{Buffer: 2})
		_, client := serveInMemory(t, both(h, "t"))
		ws := dialInMemory(t, client)
		synctest.Wait()
		broadcast(t, h, "t", "1", "2", "3", "4", "5", "6")
		var got []string
		for {
			_, data, err := ws.Read(t.Context())
			if err != nil {
				if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
					t.Errorf("after %v: %v", got, err)
				}
				break
			}
			got = append(got, string(data))
		}
		_ = h.Abort()
	})
}

func TestDropOldestKeepsTheStreamAndTheLatestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{Buffer: 2, Overflow: streams.DropOldest})
		_, client := serveInMemory(t, both(h, "t"))
		s := open(t, client, "http://memory/sse")
		synctest.Wait()
		broadcast(t, h, "t", "0")
		synctest.Wait() // it is being written
		for i := 1; i < 10; i++ {
			broadcast(t, h, "t", fmt.Sprint(i))
		}
		expect(t, s, "0", "8", "9")
		if st := h.StreamStats(); st.Dropped != 7 || st.SSE != 1 {
			t.Errorf("Stats = %+v", st)
		}
		_ = h.Abort()
	})
}

func TestPeerThatTakesNoBytesIsOutAfterWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{WriteTimeout: 5 * time.Second})
		_, client := serveInMemory(t, both(h, "t"))
		open(t, client, "http://memory/sse")
		ws := dialInMemory(t, client)
		synctest.Wait()
		broadcast(t, h, "t", strings.Repeat("x", 100_000))
		testkit.Advance(4 * time.Second)
		if n := h.Stats().InFlight; n != 2 {
			t.Errorf("%d streams are open before WriteTimeout is over", n)
		}
		testkit.Advance(2 * time.Second)
		if s := h.StreamStats(); s.Ended["timeout"] != 2 || s.SSE+s.WebSocket != 0 {
			t.Errorf("Stats = %+v", s)
		}
		_ = ws.CloseNow()
		_ = h.Abort()
	})
}

// silent opens a WebSocket whose client takes bytes for ever, sends frames, and never answers.
func silent(t *testing.T, n *network, frames ...string) {
	t.Helper()
	conn, err := n.DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for buf := make([]byte, 1024); err == nil; {
			_, err = conn.Read(buf)
		}
	}()
	go func() {
		for _, part := range append([]string{"GET /ws HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"}, frames...) {
			if _, err := conn.Write([]byte(part)); err != nil {
				return
			}
		}
	}()
	synctest.Wait()
}

func TestDeadPeerIsOutAfterPongWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{})
		n, client := serveInMemory(t, both(h, "t"))
		silent(t, n)
		live := dialInMemory(t, client)
		ctx := live.CloseRead(t.Context()) // it answers pings
		synctest.Wait()
		testkit.Advance(59 * time.Second)
		if n := h.Stats().InFlight; n != 2 {
			t.Errorf("%d streams are open before PongWait is over", n)
		}
		testkit.Advance(2 * time.Second)
		if s := h.StreamStats(); s.Ended["dead"] != 1 || s.WebSocket != 1 {
			t.Errorf("Stats = %+v", s)
		}
		testkit.Advance(time.Hour)
		if h.Stats().InFlight != 1 || ctx.Err() != nil {
			t.Error("the live peer was taken for dead")
		}
		_ = h.Abort()
	})
}

// A handler that is busy lets messages wait, and behind them pongs: that is not its peer's fault.
func TestPeerOfABusyHandlerIsNotTakenForDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{})
		n, _ := serveInMemory(t, h.WebSocket(func(ctx context.Context, c *streams.Conn) error {
			for {
				if _, _, err := c.Read(ctx); err != nil {
					return err
				}
				select {
				case <-time.After(10 * time.Minute):
				case <-ctx.Done():
				}
			}
		}))
		const message = "\x81\x81\x00\x00\x00\x00x"
		silent(t, n, message, message, message)
		testkit.Advance(20*time.Minute + 30*time.Second) // the third is with the handler
		if n := h.Stats().InFlight; n != 1 {
			t.Errorf("%d streams are open", n)
		}
		testkit.Advance(time.Minute)
		if s := h.StreamStats(); s.Ended["dead"] != 1 {
			t.Errorf("nothing waits, and the peer says nothing: %v", s.Ended)
		}
		_ = h.Abort()
	})
}

func TestStreamThatIsTooOldIsToldToReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{MaxAge: time.Hour})
		_, client := serveInMemory(t, both(h, "t"))
		ws := dialInMemory(t, client)
		sse := open(t, client, "http://memory/sse")
		last := make(chan string, 1)
		go func() { last <- sse.data() }()
		began := time.Now()
		_, code := text(t, ws)
		if age := time.Since(began); code != websocket.StatusGoingAway || age > time.Hour || age < 54*time.Minute {
			t.Errorf("closed with %v after %s", code, age)
		}
		if got := <-last; got != "reconnect" {
			t.Errorf("the SSE client got %q", got)
		}
		_ = h.Abort()
	})
}

// A peer that takes one message of a batch now and then stays below every write's time-out.
func TestPeerThatTricklesIsOutAfterWriteTimeoutOnceItWasDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{Buffer: 8, WriteTimeout: 10 * time.Second})
		_, client := serveInMemory(t, both(h, "t"))
		ws := dialInMemory(t, client)
		synctest.Wait()
		go func() {
			for err := error(nil); err == nil; time.Sleep(9 * time.Second) {
				_, _, err = ws.Read(t.Context())
			}
		}()
		for i := range 20 {
			broadcast(t, h, "t", fmt.Sprint(i))
		}
		if s := h.StreamStats(); s.Ended["slow"] != 1 {
			t.Fatalf("ended: %v", s.Ended)
		}
		testkit.Advance(11 * time.Second)
		if n := h.Stats().InFlight; n != 0 {
			t.Errorf("%d streams are open", n)
		}
		testkit.Advance(time.Minute)
		_ = h.Abort()
	})
}
