package suite_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
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
	_, text, _ := strings.Cut(out.String(), "\n") // after the title
	var all []string
	for block := range strings.SplitSeq(text, "\n\n") {
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

// Administrators of a topology connect from an address of their own, so that their sockets can be
// told from the client's. adminSource is how Linux prints it.
const (
	adminHost   = "127.0.0.2"
	adminSource = "0200007F:"
)

// ownSockets are the inodes of this process's sockets.
func ownSockets(tb testing.TB) map[string]bool {
	tb.Helper()
	const dir = "/proc/self/fd"
	open, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]bool{}
	for _, f := range open {
		link, err := os.Readlink(filepath.Join(dir, f.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			out[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return out
}

// leftSockets is how many sockets of this process lead to one of the ports. An administrator's do
// not count: they come from adminHost.
func leftSockets(tb testing.TB, ports []string) (n int) {
	tb.Helper()
	mine := ownSockets(tb)
	suffixes := make([]string, 0, len(ports))
	for _, port := range ports {
		p, err := strconv.Atoi(port)
		if err != nil {
			tb.Fatal(err)
		}
		suffixes = append(suffixes, fmt.Sprintf(":%04X", p))
	}
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && mine[fields[9]] && !strings.HasPrefix(fields[1], adminSource) &&
			slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(fields[2], s) }) {
			n++
		}
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return n
}
