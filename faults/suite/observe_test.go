package suite_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dials notes when connections were asked for.
type dials struct {
	mu   sync.Mutex // guards the following
	when []time.Time
}

// dial is a dial function that a client gets. It returns what the standard library's does.
func (d *dials) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	d.when = append(d.when, time.Now())
	d.mu.Unlock()
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, addr)
}

// peak is the most dials within one second, of those from since on.
func (d *dials) peak(since time.Time) (most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := 0
	for last, at := range d.when {
		for d.when[first].Before(since) && first < last || at.Sub(d.when[first]) >= time.Second {
			first++
		}
		if !at.Before(since) {
			most = max(most, last-first+1)
		}
	}
	return most
}

// lineLog counts the lines of a log, and keeps them to be searched.
type lineLog struct {
	slog.Handler

	n   *atomic.Int64
	mu  *sync.Mutex // guards the following
	out *bytes.Buffer
}

func newLineLog() *lineLog {
	l := &lineLog{n: new(atomic.Int64), mu: new(sync.Mutex), out: new(bytes.Buffer)}
	l.Handler = slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo})
	return l
}

func (l *lineLog) Write(line []byte) (int, error) {
	l.n.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(line)
}

func (l *lineLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// labelled runs f. The goroutines that it starts, directly or not, have a label by which
// leftGoroutines finds them. Only those of timers have none.
func labelled(label string, f func(ctx context.Context)) {
	pprof.Do(context.Background(), pprof.Labels("round", label), f)
}

// unlabelled runs f without the label of ctx, which is labelled's.
func unlabelled(ctx context.Context, f func()) {
	pprof.SetGoroutineLabels(context.Background())
	defer pprof.SetGoroutineLabels(ctx)
	f()
}

// leftGoroutines returns the stacks of goroutines with a label, the caller's left out.
func leftGoroutines(tb testing.TB, label string) (n int, stacks string) {
	tb.Helper()
	var out bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&out, 1); err != nil {
		tb.Fatal(err)
	}
	var all []string
	for block := range strings.SplitSeq(out.String(), "\n\n") {
		if !strings.Contains(block, `"round":"`+label+`"`) || strings.Contains(block, "leftGoroutines") {
			continue
		}
		count, _, _ := strings.Cut(strings.TrimSpace(block), " ")
		some, err := strconv.Atoi(count)
		if err != nil {
			tb.Fatalf("%v: %s", err, block)
		}
		n += some
		all = append(all, block)
	}
	return n, strings.Join(all, "\n\n")
}

// leftSockets is how many sockets of this machine lead to a port, but for those that the kernel is
// closing by itself.
func leftSockets(tb testing.TB, port string) (n int) {
	tb.Helper()
	p, err := strconv.Atoi(port)
	if err != nil {
		tb.Fatal(err)
	}
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	suffix := fmt.Sprintf(":%04X", p)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 9 && strings.HasSuffix(fields[2], suffix) && fields[9] != "0" {
			n++ // a socket without an inode belongs to no process
		}
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return n
}
