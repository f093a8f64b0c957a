package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// result is what the trial has seen.
type result struct {
	Clients   int
	Sixth     error     // of the user who has perUser connections already
	Dead      numbers   // after the dead peer was cut off
	Slow      numbers   // after the slow reader was dropped
	Delivered int       // events that a fast reader has got meanwhile
	Gone      []closing // of all clients, in order
	Spread    time.Duration
	Exit      error // of the service
}

// try runs the trial. It prints what it sees.
func try(ctx context.Context, clients int, out io.Writer) (*result, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	service, url, err := launch(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = service.Process.Kill() }()
	c := newCrowd(url)
	defer c.http.CloseIdleConnections()
	t := &trial{crowd: c, say: say, result: &result{Clients: clients}}
	for _, step := range []func(context.Context) error{t.fill, t.oneTooMany, t.deadPeer, t.slowReader} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	if err := service.Process.Signal(syscall.SIGTERM); err != nil {
		return nil, err
	}
	began := time.Now()
	c.group.Wait()
	t.result.Exit = service.Wait()
	t.closings(began)
	return t.result, nil
}

// launch starts the service in a process of its own.
func launch(ctx context.Context) (service *exec.Cmd, url string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	service = exec.CommandContext(ctx, self)
	service.Env = append(os.Environ(), roleEnv+"=1")
	service.Stderr = os.Stderr
	said, err := service.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := service.Start(); err != nil {
		return nil, "", err
	}
	lines := bufio.NewScanner(said)
	if !lines.Scan() {
		return nil, "", errors.Join(errors.New("the service has not started"), service.Wait())
	}
	return service, lines.Text(), nil
}

type trial struct {
	crowd  *crowd
	say    func(format string, args ...any)
	result *result
}

// numbers asks the service.
func (t *trial) numbers(ctx context.Context) (n numbers, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.crowd.url+"/numbers", nil)
	if err != nil {
		return n, err
	}
	resp, err := t.crowd.http.Do(req)
	if err != nil {
		return n, err
	}
	defer func() { _ = resp.Body.Close() }()
	return n, json.NewDecoder(resp.Body).Decode(&n)
}

// until asks the service again and again until done.
func (t *trial) until(ctx context.Context, done func(numbers) bool) (numbers, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := t.numbers(ctx)
		if err != nil || done(n) {
			return n, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
	}
}

// fill opens the clients, and says what each costs.
func (t *trial) fill(ctx context.Context) error {
	n := t.result.Clients
	before, err := t.numbers(ctx)
	if err != nil {
		return err
	}
	for _, kind := range []struct {
		name string
		open func(user string) error
		is   func(numbers) int
	}{
		{"WebSocket", func(user string) error { return t.crowd.websocket(ctx, user, "blue") }, func(n numbers) int { return n.Streams.WebSocket }},
		{"SSE", func(user string) error { return t.crowd.sse(ctx, user, "orders", nil) }, func(n numbers) int { return n.Streams.SSE }},
	} {
		for i := range n {
			if err := kind.open(fmt.Sprintf("user-%d", i)); err != nil {
				return err
			}
		}
		after, err := t.until(ctx, func(now numbers) bool { return kind.is(now) == n })
		if err != nil {
			return err
		}
		t.say("%d %-9s clients: %.1f goroutines and %.1f KiB each", n, kind.name,
			float64(after.Goroutines-before.Goroutines)/float64(n), (float64(after.Memory)-float64(before.Memory))/1024/float64(n))
		before = after
	}
	return nil
}

// oneTooMany opens as many connections as a user may have, and one more.
func (t *trial) oneTooMany(ctx context.Context) error {
	for i := range perUser {
		var err error
		if i%2 == 0 {
			err = t.crowd.websocket(ctx, "greedy", "blue")
		} else {
			err = t.crowd.sse(ctx, "greedy", "orders", nil)
		}
		if err != nil {
			return err
		}
	}
	t.result.Sixth = t.crowd.websocket(ctx, "greedy", "blue")
	t.say("connection %d of one user: %v", perUser+1, t.result.Sixth)
	return nil
}

// deadPeer waits until a peer is out that says nothing.
func (t *trial) deadPeer(ctx context.Context) error {
	began := time.Now()
	closed, err := t.crowd.silent(ctx, "dead")
	if err != nil {
		return err
	}
	<-closed
	took := time.Since(began)
	t.result.Dead, err = t.until(ctx, func(n numbers) bool { return n.Streams.Ended["dead"] > 0 })
	t.say("a peer that says nothing: out after %s (PongWait %s); %d clients are still there",
		took.Round(100*time.Millisecond), pongWait, t.result.Dead.Streams.WebSocket+t.result.Dead.Streams.SSE)
	return err
}

// slowReader broadcasts to a client that does not read and one that does, until the first is out.
func (t *trial) slowReader(ctx context.Context) error {
	stuck, err := t.crowd.open(ctx, "slow", "bulk")
	if err != nil {
		return err
	}
	defer func() { _ = stuck.Body.Close() }()
	got := make(chan string)
	if err = t.crowd.sse(ctx, "fast", "bulk", got); err != nil {
		return err
	}
	if _, err = t.until(ctx, func(n numbers) bool { return n.Streams.Topics["bulk"] == 2 }); err != nil {
		return err
	}
	data := strings.Repeat("x", 256<<10)
	for t.result.Slow.Streams.Topics["bulk"] != 1 {
		if err = t.publish(ctx, "bulk", data); err != nil {
			return err
		}
		select {
		case <-got:
			t.result.Delivered++
		case <-ctx.Done():
			return fmt.Errorf("the fast reader is held up: %w", context.Cause(ctx))
		}
		if t.result.Slow, err = t.numbers(ctx); err != nil {
			return err
		}
	}
	t.say("a reader that does not read: out, after the one beside it has got %d events of 256 KiB", t.result.Delivered)
	return nil
}

func (t *trial) publish(ctx context.Context, topic, data string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.crowd.url+"/events/"+topic, strings.NewReader(data))
	if err != nil {
		return err
	}
	resp, err := t.crowd.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusAccepted {
		return refused(resp.StatusCode)
	}
	return nil
}

// closings says how the clients were sent away.
func (t *trial) closings(began time.Time) {
	gone := t.crowd.gone
	slices.SortFunc(gone, func(a, b closing) int { return a.at.Compare(b.at) })
	t.result.Gone = gone
	how := map[string]int{}
	var tenths [10]int
	for _, g := range gone {
		how[g.how]++
		tenths[min(max(int(g.at.Sub(began)*10/drainSpread), 0), 9)]++
	}
	t.result.Spread = gone[len(gone)-1].at.Sub(gone[0].at)
	t.say("SIGTERM: %d clients were sent away within %s: %d WebSockets with 1001, %d SSE streams with a last event",
		len(gone), t.result.Spread.Round(100*time.Millisecond), how["1001"], how["close"])
	t.say("  in each tenth of DrainSpread: %v", tenths)
	t.say("the service has ended: %v", t.result.Exit)
}
