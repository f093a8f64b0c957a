package sqlpool_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// stop stops a pool that is expected to stop clean. In a bubble it must be called before the
// bubble's end.
func stop(t *testing.T, p interface{ Stop(context.Context) error }) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// hold takes a connection of the pool.
func hold(t *testing.T, p interface{ DB() *sql.DB }) *sql.Conn {
	t.Helper()
	c, err := p.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCallersAtTheLimitAreServedFirstInFirstOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 2, AcquireTimeout: poolkeeper.Off})
		defer stop(t, p)
		a, b := hold(t, p), hold(t, p)

		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if _, err := p.DB().ExecContext(t.Context(), "sleep 1s"); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			synctest.Wait() // it queues before the next one asks
		}
		if got := p.Stats().Waiting; got != 20 {
			t.Errorf("Stats.Waiting = %d, want 20", got)
		}
		_ = a.Close()
		advance(500 * time.Millisecond) // the two connections take turns, so the order is plain to see
		_ = b.Close()
		wg.Wait()
		if !slices.IsSorted(order) {
			t.Errorf("served in the order %v", order)
		}
		if got := s.Dialed(); got != 3 { // the check has one of its own
			t.Errorf("%d connections were dialled, want 2 and the check's", got)
		}
		if st := p.Stats(); st.WaitCount != 22 || st.WaitDuration == 0 {
			t.Errorf("WaitCount = %d, WaitDuration = %v; want 20 callers that queued and 2 that dialled", st.WaitCount, st.WaitDuration)
		}
	})
}

func TestAcquireTimeoutSaysWhoHoldsTheConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{Name: "orders", MaxOpen: 1, AcquireTimeout: 3 * time.Second})
		defer stop(t, p)
		rows, err := p.DB().QueryContext(t.Context(), "select")
		if err != nil || rows.Err() != nil {
			t.Fatal(err, rows.Err())
		}
		defer func() { _ = rows.Close() }()
		advance(41 * time.Second)

		start := time.Now()
		_, err = p.DB().ExecContext(t.Context(), "update")
		if got := time.Since(start); got != 3*time.Second {
			t.Errorf("gave up after %v, want AcquireTimeout, 3s", got)
		}
		explained, ok := errors.AsType[*poolkeeper.AcquireError](err)
		if !ok {
			t.Fatalf("error is %T (%v), want *AcquireError", err, err)
		}
		if explained.Max != 1 || explained.InUse != 1 || explained.Waiting != 0 || explained.Pool != "orders" {
			t.Errorf("AcquireError = %+v", explained)
		}
		if !errors.Is(err, poolkeeper.ErrAcquireTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v wraps neither ErrAcquireTimeout nor context.DeadlineExceeded", err)
		}
		want := `poolkeeper: acquire from "orders": 1 of 1 in use, oldest rows for 44s by ` +
			`sqlpool_test.TestAcquireTimeoutSaysWhoHoldsTheConnections.func1 (acquire_test.go:`
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error is\n%s\nwant prefix\n%s", err, want)
		}
		if got := health.Classify(err).Kind; got != health.KindPoolExhausted {
			t.Errorf("health.Classify says %q, want %q", got, health.KindPoolExhausted)
		}
		if got := p.Stats().AcquireTimeouts; got != 1 {
			t.Errorf("Stats.AcquireTimeouts = %d, want 1", got)
		}
	})
}

func TestCallersOwnContextEndsItsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 1, AcquireTimeout: poolkeeper.Off})
		defer stop(t, p)
		c := hold(t, p)
		defer func() { _ = c.Close() }()

		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := p.DB().ExecContext(ctx, "x"); !errors.Is(err, poolkeeper.ErrAcquireTimeout) {
			t.Errorf("after its deadline: %v", err)
		}
		reason := errors.New("the user went away")
		gone, leave := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { leave(reason) })
		_, err := p.DB().ExecContext(gone, "x")
		if !errors.Is(err, reason) || !errors.Is(err, context.Canceled) || errors.Is(err, poolkeeper.ErrAcquireTimeout) {
			t.Errorf("after it was cancelled: %v", err)
		}
		if got := p.Stats().AcquireTimeouts; got != 1 {
			t.Errorf("Stats.AcquireTimeouts = %d, want the deadline and not the cancellation", got)
		}
	})
}

func TestBurstOpensNoMoreConnectionsThanItNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		var dials testkit.Crowd
		s.dial.set(func(ctx context.Context) error {
			defer dials.Enter()()
			return sleepFor(ctx, "50ms")
		})
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 50, MaxDials: 4})
		defer stop(t, p)
		dials.Forget()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := p.DB().ExecContext(t.Context(), "sleep 1ms"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := dials.Most(); got > 4 {
			t.Errorf("%d dials at once, want MaxDials, 4, at most", got)
		}
		if got := p.Stats().Dials; got > 9 {
			t.Errorf("%d connections were opened for 50 ms of work on one; callers have waited for dials of their own", got)
		}
	})
}

func TestDialGoesOnWhenItsCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{})
		defer stop(t, p)
		s.dial.set(func(ctx context.Context) error { return sleepFor(ctx, "100ms") })
		for range 3 { // none of them waits long enough for a dial
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
			_, _ = p.DB().ExecContext(ctx, "x")
			cancel()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
		defer cancel()
		if _, err := p.DB().ExecContext(ctx, "x"); err != nil {
			t.Errorf("after 120 ms the connection that the first caller asked for must be there: %v", err)
		}
	})
}

func TestHungDialWedgesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 2, MaxDials: 1, DialTimeout: 2 * time.Second, AcquireTimeout: 10 * time.Second})
		var first atomic.Bool
		release := make(chan struct{})
		s.dial.set(func(context.Context) error { // a driver that ignores its context
			if first.CompareAndSwap(false, true) {
				<-release
			}
			return nil
		})
		start := time.Now()
		if _, err := p.DB().ExecContext(t.Context(), "x"); err != nil || time.Since(start) > time.Second {
			t.Errorf("the caller of the hung dial got %v after %v, want another dial after half a second", err, time.Since(start))
		}
		advance(5 * time.Second)
		if st := p.Stats(); st.DialErrors != 1 || st.Open != 1 {
			t.Errorf("Stats = %+v", st)
		}
		close(release) // a connection that no caller waits for any more
		synctest.Wait()
		if got := s.Open(); got != 2 { // the caller's and the check's
			t.Errorf("%d connections are open at the server, want 2: the late one must be closed", got)
		}
		stop(t, p)
	})
}

// While an address does not answer, there is always a young attempt, and never more than MaxOpen
// connections and attempts together.
func TestAttemptsStayYoungWhileTheServerDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{
			MaxOpen: 6, MaxDials: 2, DialTimeout: time.Minute, AcquireTimeout: time.Hour, FailFastAfter: poolkeeper.Off,
		})
		defer stop(t, p)
		var dials testkit.Crowd
		backAt := time.Now().Add(20 * time.Second)
		s.dial.set(func(ctx context.Context) error {
			defer dials.Enter()()
			if time.Now().Before(backAt) { // what is sent now is lost
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := p.DB().ExecContext(t.Context(), "x"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if late := time.Since(backAt); late > time.Second {
			t.Errorf("callers were served %v after the server was back", late)
		}
		if got := dials.Most(); got > 6 {
			t.Errorf("%d attempts at once, want at most MaxOpen, 6", got)
		}
	})
}

func TestDialErrorReachesTheCallerWhoHasWaitedLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{Name: "orders", MaxDials: 1})
		defer stop(t, p)
		refused := errors.New("connection refused")
		s.dial.set(func(ctx context.Context) error {
			_ = sleepFor(ctx, "10ms")
			return refused
		})
		var wg sync.WaitGroup
		start := time.Now()
		for range 5 {
			wg.Go(func() {
				_, err := p.DB().ExecContext(t.Context(), "x")
				if !errors.Is(err, refused) || !strings.Contains(err.Error(), `"orders"`) {
					t.Errorf("error is %v", err)
				}
			})
		}
		wg.Wait()
		if got := time.Since(start); got != 50*time.Millisecond {
			t.Errorf("5 callers failed within %v, want one failed dial each, 50ms", got)
		}
		if got := p.Stats().DialErrors; got != 5 {
			t.Errorf("Stats.DialErrors = %d, want 5", got)
		}
	})
}

func TestPanicOfDriverWhileDialingIsTheCallersError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{})
		defer stop(t, p)
		s.dial.set(func(context.Context) error { panic("no route to host") })
		if _, err := p.DB().ExecContext(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "no route to host") {
			t.Errorf("error is %v", err)
		}
	})
}

// After two broken connections in a row database/sql insists on a new one.
func TestBrokenConnectionsMakeRoomForANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		s.features &^= featResetter | featValidator // so that only the query finds out
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 4, AcquireTimeout: time.Second})
		defer stop(t, p)
		held := []*sql.Conn{hold(t, p), hold(t, p), hold(t, p), hold(t, p)}
		s.breakAll()
		for _, c := range held {
			_ = c.Close()
		}
		if _, err := p.DB().ExecContext(t.Context(), "x"); err != nil {
			t.Errorf("with 4 broken connections of 4: %v", err)
		}
		st := p.Stats()
		if st.Open != 3 || st.Evicted["dead"] != 2 {
			t.Errorf("open %d, evicted %v; want 2 dead and 1 new", st.Open, st.Evicted)
		}
	})
}

// No caller may wait while a connection is idle, whatever the interleaving of check-ins and
// checkouts.
func TestNobodyWaitsBesideAnIdleConnection(t *testing.T) {
	s := newFakeServer()
	p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 2, AcquireTimeout: 30 * time.Second})
	var wg sync.WaitGroup
	for range 3 { // one more than connections: they queue and leave the queue empty all the time
		wg.Go(func() {
			for range 4000 {
				if _, err := p.DB().ExecContext(t.Context(), "x"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := p.Stats().Wait; got.Count < 12000 {
		t.Errorf("%d acquisitions", got.Count)
	} else if slow := got.Count - got.Buckets[len(got.Buckets)-3].Count; slow > 0 { // above 1 s
		t.Errorf("%d acquisitions took more than 1 s: somebody was parked beside an idle connection", slow)
	}
	if got := s.Dialed(); got != 3 {
		t.Errorf("%d dials, want 2 and the check's", got)
	}
	stop(t, p)
}

// The same, step by step: a caller finds database/sql's free list empty and queues while another
// one's connection has been checked in but has not reached the list. database/sql's own mutex is
// held still meanwhile by closing a statement.
func TestConnectionOnItsWayToTheFreeListIsFetched(t *testing.T) {
	s := newFakeServer()
	p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 2, AcquireTimeout: 30 * time.Second})
	st, err := p.DB().PrepareContext(t.Context(), "stmt")
	if err != nil {
		t.Fatal(err)
	}
	lost := hold(t, p) // the only connection: the statement is on it
	shutAll(t, st)
	returned := hold(t, p)
	dialled := s.Dialed()

	inStmtClose, leaveStmtClose, leaveClose := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.during.set(func(method string) {
		if method == "Stmt.Close" {
			close(inStmtClose)
			<-leaveStmtClose
		}
	})
	s.closing.set(func() { <-leaveClose }) // the lost connection keeps its place
	var wg sync.WaitGroup
	wg.Go(func() { _ = lost.Raw(func(any) error { return driver.ErrBadConn }) })
	<-inStmtClose
	wg.Go(func() {
		var id int
		if err := p.DB().QueryRowContext(t.Context(), "select").Scan(&id); err != nil {
			t.Error(err)
		}
	})
	awaitMutexes(1)
	wg.Go(func() { _ = returned.Close() })
	awaitMutexes(2)
	close(leaveStmtClose)
	for p.Stats().Use.Count < 4 { // statement, two holds and the query: the query has got the returned connection
		runtime.Gosched()
	}
	if got := s.Dialed(); got != dialled {
		t.Errorf("%d connections were dialled beside an idle one", got-dialled)
	}
	close(leaveClose)
	wg.Wait()
	stop(t, p)
}

// awaitMutexes waits until n goroutines wait for a mutex.
func awaitMutexes(n int) {
	buf := make([]byte, 1<<20)
	for strings.Count(string(buf[:runtime.Stack(buf, true)]), "[sync.Mutex.Lock") < n {
		runtime.Gosched()
	}
}

// A connection that is granted at the moment its caller gives up belongs to the next in line.
func TestConnectionsAreNotLostToCallersWhoGiveUp(t *testing.T) {
	s := newFakeServer()
	p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 2, AcquireTimeout: 30 * time.Second})
	var wg sync.WaitGroup
	var served atomic.Int64
	for range 12 {
		wg.Go(func() {
			for range 400 {
				ctx, cancel := context.WithTimeout(t.Context(), rand.N(400*time.Microsecond))
				if _, err := p.DB().ExecContext(ctx, "sleep 50us"); err == nil {
					served.Add(1)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if served.Load() == 0 {
		t.Error("nobody was served")
	}
	for range 2 { // both connections are there
		c := hold(t, p)
		defer func() { _ = c.Close() }()
	}
	st := p.Stats()
	if st.InUse != 2 || st.Open != 2 || st.Waiting != 0 {
		t.Errorf("in use %d, open %d, waiting %d; want 2, 2, 0", st.InUse, st.Open, st.Waiting)
	}
}

func TestStatementSurvivesTheLossOfItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 1})
		defer stop(t, p)
		st, err := p.DB().PrepareContext(t.Context(), "stmt")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = st.Close() }()
		var wg sync.WaitGroup
		for range 5 { // they hand the one connection from one to the next
			wg.Go(func() {
				for range 5 {
					if _, err := st.ExecContext(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		s.breakAll()
		if _, err := st.ExecContext(t.Context()); err != nil {
			t.Errorf("after its connection broke: %v", err)
		}
	})
}

// A caller sets a limit on the handle, as the documentation of ORMs advises.
func TestLimitSetOnTheHandleIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 4, MaxIdleTime: time.Minute})
		defer stop(t, p)
		p.DB().SetMaxOpenConns(1)
		c, d := hold(t, p), make(chan *sql.Conn)
		go func() {
			got, err := p.DB().Conn(t.Context())
			if err != nil {
				t.Error(err)
			}
			d <- got
		}()
		synctest.Wait()
		_ = c.Close()
		_ = (<-d).Close()
		advance(3 * time.Minute) // sweeps go on
		if got := p.DB().Stats().MaxOpenConnections; got != 0 {
			t.Errorf("MaxOpenConnections = %d, want 0: the pool has the limit", got)
		}
		a, b := hold(t, p), hold(t, p)
		_, _ = a.Close(), b.Close()
	})
}

func TestNativeReturnsWhatItDoesNotKnow(t *testing.T) {
	if got := sqlpool.Native(7); got != 7 {
		t.Errorf("Native(7) = %v", got)
	}
	s := newFakeServer()
	c, err := s.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := sqlpool.Native(c); got != c {
		t.Errorf("Native of a bare connection is %T", got)
	}
}
