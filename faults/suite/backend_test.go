package suite_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// The first password of the application, and the second. No output may show either.
const (
	secret  = "hunter2-before"
	renewed = "hunter2-after"
)

// places is how many connections a server grants to the application and those that fill it.
const places = 60

// rows is how many counters there are, one for each caller; longRow is that of work in flight.
const (
	rows    = 60
	longRow = rows
)

func key(n int) string { return "counter" + strconv.Itoa(n) }

// backend is a server, and what its administrator can do. Its methods are for one test at a time.
type backend struct {
	*testserver.Server

	args  []string
	start func(tb testing.TB, args ...string) *testserver.Server
	admin interface {
		prepare(ctx context.Context) error                      // once, and again for a server that lost its data
		connections(ctx context.Context) (int, error)           // of the application
		endAll(ctx context.Context) error                       // ends the application's connections
		endOne(ctx context.Context, n int) error                // ends the nth of them, counted round and round
		setPassword(ctx context.Context, password string) error // of the application
		hog(ctx context.Context) (free func(), err error)       // takes one place
		total(ctx context.Context) (sum int, err error)         // of all counters
		applied(ctx context.Context) (map[int64]int, error)     // how often each id was inserted
		idleTimeout(ctx context.Context, on bool) error         // ends sessions that are idle for idleLimit
		readOnly(ctx context.Context, on bool) error            // for new and old connections, as after a demotion
		close()
	}
	connect func(b *backend) error // makes admin
	hogs    []func()
	fresh   func() *backend // a server like this one, that lives as long

	tb       testing.TB
	topology []string // addresses for clients; nil: that of the server, behind a proxy
	ports    []string // to which clients connect; nil: that of the proxy
}

// idleLimit is how long a session may be idle if the server ends those.
const idleLimit = time.Second

// begin starts the server.
func (b *backend) begin(tb testing.TB) {
	tb.Helper()
	b.tb = tb
	b.Server = b.start(tb, b.args...)
	if err := b.connect(b); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.free(); b.admin.close() })
	b.do(tb, b.admin.prepare)
	if b.fresh != nil {
		return
	}
	b.fresh = sync.OnceValue(func() *backend {
		another := &backend{start: b.start, args: b.args, connect: b.connect}
		another.begin(tb)
		return another
	})
}

// do does something as the administrator, who has 20 s for it.
func (b *backend) do(tb testing.TB, what func(ctx context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 20*time.Second)
	defer cancel()
	if err := what(ctx); err != nil {
		tb.Error(err)
	}
}

// back starts the server again after Kill or Stop.
func (b *backend) back(tb testing.TB) {
	tb.Helper()
	b.Restart(tb)
	b.do(tb, func(ctx context.Context) error {
		var err error
		for ctx.Err() == nil { // the administrator's own connections died with the server
			if err = b.admin.prepare(ctx); err == nil {
				return nil
			}
			sleep(10 * time.Millisecond)
		}
		return err
	})
}

// fill takes every connection that the server grants, and those that the application has.
func (b *backend) fill(tb testing.TB) {
	tb.Helper()
	b.do(tb, func(ctx context.Context) error {
		for full := 0; full < 3; {
			free, err := b.admin.hog(ctx)
			switch {
			case ctx.Err() != nil:
				return fmt.Errorf("filling the server: %w", err)
			case err == nil:
				b.hogs = append(b.hogs, free)
				continue
			}
			left, err := b.admin.connections(ctx)
			if err != nil {
				return err
			}
			if left == 0 {
				full++
				continue
			}
			full = 0 // the application was quicker
			if err := b.admin.endAll(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// free gives back what fill took.
func (b *backend) free() {
	for _, free := range b.hogs {
		free()
	}
	b.hogs = nil
}
