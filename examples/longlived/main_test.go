package main

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
)

// TestMain runs the service where the trial has started this program again.
func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestThousandsOfStreamsAreHeldAndSentAway(t *testing.T) {
	const clients = 1000
	var out strings.Builder
	r, err := try(t.Context(), clients, &out)
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	if code, ok := errors.AsType[refused](r.Sixth); !ok || code != http.StatusTooManyRequests {
		t.Errorf("the sixth connection of a user: %v", r.Sixth)
	}
	const others = 2*clients + perUser
	if s := r.Dead.Streams; s.Ended["dead"] != 1 || s.WebSocket+s.SSE != others {
		t.Errorf("with the dead peer went others: %+v", s)
	}
	// Its buffer is full, a write takes too long, or the kernel gives its connection up first ("peer").
	if s := r.Slow.Streams; endedSlow(s)-endedSlow(r.Dead.Streams) != 1 || s.WebSocket+s.SSE < others+1 || r.Delivered == 0 {
		t.Errorf("with the slow reader went others: %+v", s)
	}
	how := map[string]int{}
	for _, g := range r.Gone {
		how[g.how]++
		if g.how == "close" && g.wait <= 0 {
			t.Error("an SSE client is not told when to come back")
		}
	}
	if how["1001"] != clients+3 || how["close"] != clients+3 || len(how) != 2 {
		t.Errorf("sent away: %v", how)
	}
	// The hub never sends a client away before its turn, so that the spread cannot be shorter.
	if r.Spread < drainSpread*3/4 {
		t.Errorf("all came back within %s", r.Spread)
	}
	if r.Exit != nil {
		t.Errorf("the service has ended with %v", r.Exit)
	}
}

func endedSlow(s poolkeeper.StreamStats) uint64 {
	return s.Ended["slow"] + s.Ended["timeout"] + s.Ended["peer"]
}
