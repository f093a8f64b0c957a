package sqlpool_test

import (
	"context"
	"errors"
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
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// isDown asks for a connection and reports whether the pool says at once that its server is down.
func (p bubblePool) isDown(t *testing.T) bool {
	t.Helper()
	start, before := time.Now(), p.managed.Stats().Refused
	release, err := p.acquire(t.Context())
	if err == nil {
		release()
		return false
	}
	down, ok := errors.AsType[*poolkeeper.DownError](err)
	if !ok {
		return false
	}
	if took := time.Since(start); took != 0 {
		t.Errorf("a caller waited %v to hear that the server is down", took)
	}
	if n := p.managed.Stats().Refused; n != before+1 {
		t.Errorf("Refused grew by %d for a caller that was refused", n-before)
	}
	if !errors.Is(err, poolkeeper.ErrDown) || down.Advice == "" || down.Err == nil || errors.Is(err, poolkeeper.ErrAcquireTimeout) {
		t.Errorf("%#v", down)
	}
	return true
}

// outages are the ways in which a server is gone.
var outages = map[string]func(srv *sqlpooltest.PostgresServer, n *bubbleNetwork){
	"refused": func(srv *sqlpooltest.PostgresServer, _ *bubbleNetwork) { srv.Refuse() },
	"starting": func(srv *sqlpooltest.PostgresServer, _ *bubbleNetwork) {
		srv.RefuseLogins("57P03", "the database system is starting up")
		srv.Drop()
	},
	"silent":        func(_ *sqlpooltest.PostgresServer, n *bubbleNetwork) { n.lost.Store(true) },
	"silent logins": func(srv *sqlpooltest.PostgresServer, _ *bubbleNetwork) { srv.Hang() },
}

func TestCallersFailAtOnceWhileTheServerIsDown(t *testing.T) {
	for name, begin := range outages {
		t.Run(name, func(t *testing.T) {
			onBothPools(t, sqlpool.DBConfig{AcquireTimeout: time.Minute}, func(t *testing.T, srv *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
				t.Helper()
				giveBack(t, 3, func() (func(), error) { return p.acquire(t.Context()) })
				advance(2 * time.Second)
				begin(srv, n)
				begun := time.Now()
				var wg sync.WaitGroup
				for range 10 { // they come while nothing is known yet, and wait
					wg.Go(func() {
						for !p.isDownOrWaits(t) {
							time.Sleep(10 * time.Millisecond)
						}
					})
				}
				wg.Wait()
				// A silent dial is noticed after half a second, and its trial may take as long as
				// FailFastAfter.
				if took := time.Since(begun); took < sqlpool.DefaultFailFastAfter || took > 2*sqlpool.DefaultFailFastAfter+time.Second {
					t.Errorf("callers were told after %v", took)
				}
				before, dials := n.dialed.Load(), p.managed.Stats().Dials
				for range 1000 {
					if !p.isDown(t) {
						t.Fatal("it is not down any more")
					}
					time.Sleep(10 * time.Millisecond)
				}
				if got := n.dialed.Load() - before; got == 0 || got > 100 {
					t.Errorf("%d dials in 10 s, want those of trials, at most 10 a second", got)
				}
				if got := p.managed.Stats().Dials; got != dials {
					t.Errorf("callers dialled %d times", got-dials)
				}
				if err := p.managed.Check(within(t, time.Second)); err == nil {
					t.Error("a check says that all is well")
				}

				srv.Heal()
				n.heal()
				back := time.Now()
				for p.isDown(t) {
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(back); took > 1200*time.Millisecond {
					t.Errorf("the first caller got in %v after the server was back", took)
				}
				giveBack(t, 10, func() (func(), error) { return p.acquire(t.Context()) })
			})
		})
	}
}

// isDownOrWaits asks for a connection, waits as long as it takes, and reports whether the server is
// down. Any other failure is one of the outage.
func (p bubblePool) isDownOrWaits(t *testing.T) bool {
	t.Helper()
	release, err := p.acquire(t.Context())
	if err == nil {
		release()
	}
	return errors.Is(err, poolkeeper.ErrDown)
}

// What a running server answers is returned as it is, for as long as it answers so.
func TestAnswersOfARunningServerNeverMakeItCountAsDown(t *testing.T) {
	for name, begin := range map[string]struct {
		fault func(srv *sqlpooltest.PostgresServer)
		kind  health.Kind
	}{
		"full":           {func(srv *sqlpooltest.PostgresServer) { srv.RefuseLogins("53300", "sorry, too many clients already") }, health.KindTooManyConnections},
		"wrong password": {func(srv *sqlpooltest.PostgresServer) { srv.RefuseLogins("28P01", "no") }, health.KindAuthentication},
		"no permission":  {func(srv *sqlpooltest.PostgresServer) { srv.RefuseLogins("42501", "no") }, health.KindAuthorization},
		"any other":      {func(srv *sqlpooltest.PostgresServer) { srv.RefuseLogins("XX000", "no") }, health.KindUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			onBothPools(t, sqlpool.DBConfig{}, func(t *testing.T, srv *sqlpooltest.PostgresServer, _ *bubbleNetwork, p bubblePool) {
				t.Helper()
				begin.fault(srv)
				srv.Drop()
				for range 300 {
					_, err := p.acquire(t.Context())
					if errors.Is(err, poolkeeper.ErrDown) || sqlpool.Classify(err).Kind != begin.kind {
						t.Fatalf("%v, want what the server says", err)
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		})
	}
}

func TestNeitherAPauseNorSlowStatementsNorOffCountAsDown(t *testing.T) {
	onBothPools(t, sqlpool.DBConfig{MaxOpen: 2, AcquireTimeout: time.Second}, func(t *testing.T, srv *sqlpooltest.PostgresServer, _ *bubbleNetwork, p bubblePool) {
		t.Helper()
		srv.Answer("work", sqlpooltest.Answer{})
		srv.Slow(time.Minute)
		for range 2 {
			go func() { _ = p.exec(t.Context(), "work") }()
		}
		synctest.Wait()
		for range 30 {
			if _, err := p.waited(t); !errors.Is(err, poolkeeper.ErrAcquireTimeout) {
				t.Fatal(err)
			}
		}
		srv.Slow(0)
		advance(time.Minute)

		if err := p.managed.Pause(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		srv.RefuseNew()
		for range 30 {
			if _, err := p.waited(t); !errors.Is(err, poolkeeper.ErrPaused) {
				t.Fatal(err)
			}
		}
		srv.Heal()
		p.managed.Resume()
		if p.isDown(t) {
			t.Error("down after a pause")
		}
	})
	onBothPools(t, sqlpool.DBConfig{FailFastAfter: poolkeeper.Off}, func(t *testing.T, srv *sqlpooltest.PostgresServer, _ *bubbleNetwork, p bubblePool) {
		t.Helper()
		srv.RefuseNew()
		for range 300 {
			if p.isDown(t) {
				t.Fatal("down, although that is off")
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

func TestPoolThatStartedWithoutItsServerIsDownFromTheStart(t *testing.T) {
	for _, kind := range kindsOfPools {
		t.Run(kind.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := sqlpooltest.ServePostgresInMemory(t)
				srv.RefuseNew()
				n := &bubbleNetwork{dial: srv.Dial}
				log := new(testkit.Log)
				p := kind.make(t, srv, n.Dial, sqlpool.DBConfig{Name: "orders", Start: poolkeeper.StartDegraded, Logger: log.Logger()})
				if err := p.managed.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if !p.isDown(t) {
					t.Error("the first caller tries for itself")
				}
				srv.Heal()
				advance(time.Second)
				if p.isDown(t) {
					t.Error("down, although the server is there")
				}
				for _, line := range []string{"kind=down", "kind=up"} {
					if n := strings.Count(log.String(), line); n != 1 {
						t.Errorf("%d lines with %s:\n%s", n, line, log)
					}
				}
			})
		})
	}
}

func TestCallersThatHaveAConnectionKeepItWhileTheServerIsDown(t *testing.T) {
	onBothPools(t, sqlpool.DBConfig{MaxDials: 2}, func(t *testing.T, srv *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
		t.Helper()
		release, err := p.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		srv.RefuseNew()
		for !p.isDownOrWaits(t) {
			time.Sleep(10 * time.Millisecond)
		}
		if st := p.managed.Stats(); st.InUse != 1 {
			t.Errorf("%d in use, want the one that was", st.InUse)
		}
		release()
		if !p.isDown(t) { // no caller gets it, or the pool would seem to work
			t.Error("not down")
		}
		srv.Heal()
		n.delay.Store(int64(20 * time.Millisecond))
		var failed atomic.Int64
		advance(time.Second)
		n.dials.Forget()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				release, err := p.acquire(t.Context())
				if err != nil {
					failed.Add(1)
					return
				}
				time.Sleep(time.Millisecond)
				release()
			})
		}
		wg.Wait()
		if failed.Load() > 0 {
			t.Errorf("%d callers failed when the server was back", failed.Load())
		}
		if most := n.dials.Most(); most > 2 {
			t.Errorf("%d dials at once, want MaxDials", most)
		}
	})
}

func TestReloadLeavesAServerThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, srv := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) { c.Logger = quiet() })
		other := sqlpooltest.ServePostgresInMemory(t)
		srv.RefuseNew()
		srv.Drop()
		for {
			if _, err := p.Pool().Exec(t.Context(), "set x"); errors.Is(err, poolkeeper.ErrDown) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := p.Reload(within(t, time.Second), inMemory(other)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Pool().Exec(t.Context(), "set x"); err != nil {
			t.Error(err)
		}
	})
}

func TestStopEndsTrials(t *testing.T) {
	onBothPools(t, sqlpool.DBConfig{}, func(t *testing.T, _ *sqlpooltest.PostgresServer, n *bubbleNetwork, p bubblePool) {
		t.Helper()
		n.lost.Store(true)
		for !p.isDownOrWaits(t) {
			time.Sleep(10 * time.Millisecond)
		}
		stopper, _ := p.managed.(interface{ Stop(context.Context) error })
		start := time.Now()
		if err := stopper.Stop(within(t, time.Minute)); err != nil || time.Since(start) > time.Second {
			t.Errorf("Stop: %v after %v", err, time.Since(start))
		}
		before := n.dialed.Load()
		time.Sleep(time.Minute)
		if n.dialed.Load() != before {
			t.Error("trials go on")
		}
	})
}
