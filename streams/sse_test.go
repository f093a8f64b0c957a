package streams_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/streams"
)

func TestSSEResponseIsWhatBrowsersAndProxiesNeed(t *testing.T) {
	h := started(t, streams.Config{Retry: 1500 * time.Millisecond})
	s := open(t, http.DefaultClient, serve(t, h.SSE(func(ctx context.Context, s *streams.Stream) error {
		return s.Send(ctx, streams.Event{ID: "7", Type: "greeting", Data: []byte("one\ntwo\r\nthree\rfour\n")})
	})))
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no",
	} {
		if got := s.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if !s.Close {
		t.Error("the connection is to be used for other requests")
	}
	for _, want := range [][]string{
		{"retry: 1500"}, {"id: 7", "event: greeting", "data: one", "data: two", "data: three", "data: four", "data: "},
	} {
		if got, ok := s.block(); !ok || !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLineBreaksInFieldsOfAnEventAreRefused(t *testing.T) {
	h := started(t, streams.Config{})
	for _, e := range []streams.Event{{ID: "a\nb"}, {ID: "a\x00"}, {Type: "a\rdata: b"}} {
		if err := h.Broadcast("t", e); err == nil || !strings.Contains(err.Error(), "must not contain") {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

func TestSilentSSEStreamSendsComments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{Ping: 15 * time.Second})
		_, client := serveInMemory(t, h.SSE(follow("t")))
		s := open(t, client, "http://memory")
		s.block()
		for range 3 {
			began := time.Now()
			if lines, ok := s.block(); !ok || !slices.Equal(lines, []string{":"}) || time.Since(began) != 15*time.Second {
				t.Errorf("%q after %s", lines, time.Since(began))
			}
		}
		_ = h.Abort()
	})
}

// The time-outs of an http.Server would end a stream.
func TestTimeoutsOfTheServerDoNotEndAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{})
		n := newNetwork()
		srv := &http.Server{Handler: h.SSE(follow("t")), ReadTimeout: time.Second, WriteTimeout: time.Second}
		served := make(chan struct{})
		go func() { defer close(served); _ = srv.Serve(n) }()
		s := open(t, &http.Client{Transport: &http.Transport{DialContext: n.DialContext}}, "http://memory")
		s.block()
		testkit.Advance(10 * time.Second)
		broadcast(t, h, "t", "hello")
		expect(t, s, "hello")
		_ = h.Abort()
		_ = srv.Close()
		<-served
	})
}

func TestSSEWorksOnHTTP2AndLeavesItsConnectionOpen(t *testing.T) {
	h := started(t, streams.Config{})
	mux := http.NewServeMux()
	mux.Handle("/sse", h.SSE(follow("t")))
	mux.Handle("/end", h.SSE(func(context.Context, *streams.Stream) error { return nil }))
	srv := httptest.NewUnstartedServer(mux)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	s := open(t, srv.Client(), srv.URL+"/sse")
	if s.ProtoMajor != 2 {
		t.Fatal(s.Proto)
	}
	subscribed(t, h, "t", 1)
	if got := open(t, srv.Client(), srv.URL+"/end").data(); got != "(end)" {
		t.Errorf("got %q", got)
	}
	broadcast(t, h, "t", "hello")
	expect(t, s, "hello")
	_ = s.Body.Close()
	testkit.Eventually(t, "the client has left", func() bool { return h.Stats().InFlight == 0 })
}
