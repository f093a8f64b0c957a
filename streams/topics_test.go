package streams_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/streams"
)

// replaying serves topics that say first whether something was missed.
func replaying(topics ...string) func(context.Context, *streams.Stream) error {
	return func(ctx context.Context, s *streams.Stream) error {
		if err := s.Subscribe(topics...); err != nil {
			return err
		}
		if s.Missed() {
			if err := s.Send(ctx, streams.Event{Data: []byte("(missed)")}); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return nil
	}
}

// id returns the ID of the next event that has one.
func (s *source) id() string {
	for {
		lines, ok := s.block()
		if !ok {
			return "(end)"
		}
		for _, l := range lines {
			if id, is := strings.CutPrefix(l, "id: "); is {
				return id
			}
		}
	}
}

func expect(t *testing.T, s *source, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := s.data(); got != w {
			t.Fatalf("got %q, want %q of %q", got, w, want)
		}
	}
}

func TestClientThatComesBackGetsWhatItHasMissedInOrderAcrossTopics(t *testing.T) {
	h := started(t, streams.Config{})
	url := serve(t, h.SSE(replaying("a", "b")))
	first := open(t, http.DefaultClient, url)
	subscribed(t, h, "a", 1)
	broadcast(t, h, "a", "1")
	id := first.id()
	_ = first.Body.Close()
	subscribed(t, h, "a", 0)
	for _, e := range [][2]string{{"b", "2"}, {"a", "3"}, {"c", "x"}, {"b", "4"}} {
		broadcast(t, h, e[0], e[1])
	}
	again := open(t, http.DefaultClient, url, "Last-Event-ID", id)
	expect(t, again, "2", "3", "4")
	broadcast(t, h, "a", "5")
	expect(t, again, "5")
	if n := h.StreamStats().Replayed; n != 3 {
		t.Errorf("%d replayed", n)
	}
}

func TestIDsOfTheServiceAreReplayedFromToo(t *testing.T) {
	h := started(t, streams.Config{})
	url := serve(t, h.SSE(replaying("a")))
	for _, id := range []string{"x1", "x2", "x3"} {
		if err := h.Broadcast("a", streams.Event{ID: id, Data: []byte("data of " + id)}); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, open(t, http.DefaultClient, url, "Last-Event-ID", "x1"), "data of x2", "data of x3")
}

func TestClientIsToldWhatIsNotKeptAnyMore(t *testing.T) {
	other := started(t, streams.Config{})
	foreign := open(t, http.DefaultClient, serve(t, other.SSE(follow("a"))))
	subscribed(t, other, "a", 1)
	broadcast(t, other, "a", "of another instance")

	h := started(t, streams.Config{Replay: 2})
	url := serve(t, h.SSE(replaying("a")))
	live := open(t, http.DefaultClient, url)
	subscribed(t, h, "a", 1)
	broadcast(t, h, "a", "1", "2", "3", "4")
	oldest, second := live.id(), live.id()
	_ = live.Body.Close()
	expect(t, open(t, http.DefaultClient, url, "Last-Event-ID", second), "3", "4") // all that followed is kept
	expect(t, open(t, http.DefaultClient, url, "Last-Event-ID", oldest), "3", "4", "(missed)")
	expect(t, open(t, http.DefaultClient, url, "Last-Event-ID", foreign.id()), "(missed)")
	expect(t, open(t, http.DefaultClient, url, "Last-Event-ID", "nonsense"), "(missed)")
}

func TestWithoutReplayEveryGapIsTold(t *testing.T) {
	h := started(t, streams.Config{Replay: streams.NoReplay})
	url := serve(t, h.SSE(replaying("a")))
	live := open(t, http.DefaultClient, url)
	subscribed(t, h, "a", 1)
	broadcast(t, h, "a", "1")
	id := live.id()
	broadcast(t, h, "a", "2")
	expect(t, open(t, http.DefaultClient, url, "Last-Event-ID", id), "(missed)")
}

func TestTopicWithoutSubscribersIsForgottenAfterReplayFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{ReplayFor: time.Minute})
		_, client := serveInMemory(t, h.SSE(replaying("a")))
		live := open(t, client, "http://memory")
		synctest.Wait()
		broadcast(t, h, "a", "1")
		id := live.id()
		_ = live.Body.Close()
		testkit.Advance(40 * time.Second)
		broadcast(t, h, "a", "2")
		broadcast(t, h, "b", "x")
		testkit.Advance(19 * time.Second)
		if n := len(h.StreamStats().Topics); n != 2 {
			t.Errorf("%d topics are known before ReplayFor is over", n)
		}
		testkit.Advance(2 * time.Second)
		if topics := h.StreamStats().Topics; len(topics) != 1 {
			t.Errorf("after ReplayFor: %v", topics)
		}
		again := open(t, client, "http://memory", "Last-Event-ID", id)
		expect(t, again, "(missed)")
		go again.data() // it reads on
		testkit.Advance(time.Hour)
		if topics := h.StreamStats().Topics; len(topics) != 1 || topics["a"] != 1 {
			t.Errorf("a topic with a subscriber was forgotten: %v", topics)
		}
		_ = h.Abort()
	})
}

func TestUnsubscribeEndsATopicOfAStreamAlone(t *testing.T) {
	h := started(t, streams.Config{})
	left := make(chan struct{})
	url := serve(t, h.SSE(func(ctx context.Context, s *streams.Stream) error {
		if err := s.Subscribe("a", "b", "a"); err != nil {
			return err
		}
		s.Unsubscribe("a", "never")
		close(left)
		<-ctx.Done()
		return nil
	}))
	mine := open(t, http.DefaultClient, url)
	<-left
	broadcast(t, h, "a", "x")
	broadcast(t, h, "b", "y")
	expect(t, mine, "y")
	if topics := h.StreamStats().Topics; topics["a"] != 0 || topics["b"] != 1 {
		t.Errorf("subscribers: %v", topics)
	}
}
