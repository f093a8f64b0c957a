package redispool_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// line is the way to a server in a synctest bubble. is says what a dial meets.
type line struct {
	is    atomic.Int32
	dials atomic.Int32
	mu    sync.Mutex
	open  []net.Conn
}

const (
	up int32 = iota
	refusing
	unreachable // a dial is not answered
	mute        // a connection is, but nothing said on it
	full
	loading
)

func (l *line) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	l.dials.Add(1)
	switch l.is.Load() {
	case refusing:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	case unreachable:
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	case mute:
		return l.serve(func(net.Conn) {}), nil
	case full:
		return l.serve(func(c net.Conn) {
			_, _ = readSome(c)
			_, _ = c.Write([]byte("-ERR max number of clients reached\r\n"))
			_ = c.Close()
		}), nil
	case loading:
		return l.serve(func(c net.Conn) {
			for {
				if _, err := readSome(c); err != nil {
					return
				}
				if _, err := c.Write([]byte("-LOADING Redis is loading the dataset in memory\r\n")); err != nil {
					return
				}
			}
		}), nil
	}
	c := newFakeServer()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, c)
	return cuttable{c}, nil
}

// cuttable is a connection whose end is that of a TCP connection.
type cuttable struct{ net.Conn }

func (c cuttable) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, asEOF(err)
}

func (c cuttable) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, asEOF(err)
}

func (c cuttable) SetDeadline(t time.Time) error      { _ = c.Conn.SetDeadline(t); return nil }
func (c cuttable) SetReadDeadline(t time.Time) error  { _ = c.Conn.SetReadDeadline(t); return nil }
func (c cuttable) SetWriteDeadline(t time.Time) error { _ = c.Conn.SetWriteDeadline(t); return nil }

func asEOF(err error) error {
	if errors.Is(err, io.ErrClosedPipe) {
		return io.EOF
	}
	return err
}

func readSome(c net.Conn) (int, error) { return c.Read(make([]byte, 4096)) }

// serve returns the client's end of a connection.
func (l *line) serve(f func(net.Conn)) net.Conn {
	client, server := net.Pipe()
	l.mu.Lock()
	l.open = append(l.open, client, server)
	l.mu.Unlock()
	go f(server) // it ends when the connection is cut
	return cuttable{client}
}

// become changes what dials meet, and cuts what is open.
func (l *line) become(is int32) {
	l.is.Store(is)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		_ = c.Close()
	}
	l.open = nil
}

// outageBubble returns a started pool on a line.
func outageBubble(t *testing.T, cfg redispool.Config, retries int, is int32) (*redispool.Pool, *line) {
	t.Helper()
	l := new(line)
	l.is.Store(is)
	cfg.Options = &redis.UniversalOptions{Addrs: []string{"x:1"}, MaxRetries: retries, Dialer: l.dial}
	cfg.Logger, cfg.KeepAlive = silent(), poolkeeper.Off
	p, err := redispool.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Abort()
		l.become(refusing)
		synctest.Wait()
	})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p, l
}

// get is one GET, and how long it took.
func get(t *testing.T, p *redispool.Pool) (time.Duration, error) {
	t.Helper()
	begun := time.Now()
	err := p.Client().Get(t.Context(), "key").Err()
	return time.Since(begun), err
}

func TestAcquireTimeoutBoundsDialsLoginsAndPauses(t *testing.T) {
	const limit = 500 * time.Millisecond
	for name, is := range map[string]int32{"refusing": refusing, "unreachable": unreachable, "mute": mute} {
		for _, retries := range []int{0, -1} { // go-redis' default of 3, and none
			t.Run(name, func(t *testing.T) {
				synctest.Test(dropsTimers(t), func(t *testing.T) {
					p, l := outageBubble(t, redispool.Config{MaxOpen: 2, AcquireTimeout: limit, FailFastAfter: poolkeeper.Off}, retries, up)
					for _, busy := range []bool{false, true} {
						l.become(up)
						synctest.Wait()
						if _, err := get(t, p); err != nil && !errors.Is(err, io.EOF) {
							t.Fatal(err)
						}
						l.become(is) // with an idle connection that has ended
						if busy {
							_, _ = get(t, p) // no connection, and a failure is known
						}
						allowed := limit
						if !busy {
							allowed += 50 * time.Millisecond // of go-redis, between the idle connection's failure and the dial
						}
						took, err := get(t, p)
						if took > allowed || err == nil {
							t.Errorf("%v after %s, want an error within %s", err, took, allowed)
						}
						if is != refusing && !errors.Is(err, io.EOF) { // the idle connection's, without a second attempt
							e, ok := errors.AsType[*poolkeeper.AcquireError](err)
							if !ok || e.DialErr == nil || !errors.Is(err, poolkeeper.ErrAcquireTimeout) {
								t.Errorf("%v, want an AcquireError that says why no connection came", err)
							}
						}
						begun := time.Now()
						err = p.Client().Watch(t.Context(), func(*redis.Tx) error { return nil }, "key")
						if took := time.Since(begun); took > limit || err == nil {
							t.Errorf("Watch: %v after %s", err, took)
						}
						begun = time.Now()
						_, err = p.Client().Pipelined(t.Context(), func(pipe redis.Pipeliner) error { return pipe.Get(t.Context(), "key").Err() })
						if took := time.Since(begun); took > limit || err == nil {
							t.Errorf("pipeline: %v after %s", err, took)
						}
					}
				})
			})
		}
	}
}

// A caller of a server that refuses is held for no longer than go-redis would try by itself: four
// attempts of five dials with pauses of 100 ms.
func TestARefusingServerIsNotSlowerThanGoRedis(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		raw := redis.NewClient(&redis.Options{
			Dialer:                   new(line).refuse,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		begun := time.Now()
		_ = raw.Get(t.Context(), "key").Err()
		alone := time.Since(begun)
		if err := raw.Close(); err != nil {
			t.Fatal(err)
		}
		p, l := outageBubble(t, redispool.Config{FailFastAfter: poolkeeper.Off}, 0, up)
		l.become(refusing)
		for range 4 {
			if took, err := get(t, p); took > alone || !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v after %s; go-redis takes %s", err, took, alone)
			}
		}
	})
}

func TestCallersAreHeldThroughAShortFailover(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, l := outageBubble(t, redispool.Config{MaxOpen: 4}, 0, up)
		l.become(refusing)
		time.AfterFunc(time.Second, func() { l.is.Store(up) })
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := get(t, p); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// What the server takes to answer is not the wait for a connection.
func TestAcquireTimeoutDoesNotBoundAnswers(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, _ := outageBubble(t, redispool.Config{MaxOpen: 1, AcquireTimeout: 100 * time.Millisecond}, 0, up)
		for range 2 { // on a new connection, and on an idle one
			if err := p.Client().Get(t.Context(), "slow").Err(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestADownServerIsNotDialledByCallers(t *testing.T) {
	for name, is := range map[string]int32{"refusing": refusing, "unreachable": unreachable, "mute": mute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(dropsTimers(t), func(t *testing.T) {
				p, l := outageBubble(t, redispool.Config{MaxOpen: 4, AcquireTimeout: time.Minute, ReadTimeout: time.Second}, 0, up)
				if _, err := get(t, p); err != nil {
					t.Fatal(err)
				}
				l.become(is)
				var wg sync.WaitGroup
				var down atomic.Int32
				begun := time.Now()
				for range 20 { // some dial, some queue
					wg.Go(func() {
						for time.Since(begun) < 20*time.Second {
							if _, err := get(t, p); errors.Is(err, poolkeeper.ErrDown) {
								down.Add(1)
								return
							}
						}
						t.Error("not down after 20 s")
					})
				}
				wg.Wait()
				if took := time.Since(begun); took > 8*time.Second {
					t.Errorf("callers that wait were told after %s", took)
				}
				time.Sleep(5 * time.Second)
				l.dials.Store(0)
				begun = time.Now()
				for range 1000 {
					took, err := get(t, p)
					d, ok := errors.AsType[*poolkeeper.DownError](err)
					if took != 0 || !ok || d.Advice == "" || d.Pool != "redis" {
						t.Fatalf("%v after %s", err, took)
					}
					one := single(t, p).Conn()
					if err := errors.Join(one.Get(t.Context(), "key").Err(), one.Close()); !errors.Is(err, poolkeeper.ErrDown) {
						t.Fatalf("Conn: %v", err)
					}
					if err := p.Client().Watch(t.Context(), func(*redis.Tx) error { return nil }, "key"); !errors.Is(err, poolkeeper.ErrDown) {
						t.Fatalf("Watch: %v", err)
					}
					time.Sleep(10 * time.Millisecond)
				}
				if n := p.Stats().Refused; n < 3000 || n > 3020 { // of the first 20 some were let into a dial
					t.Errorf("Refused is %d, want one for each of 3,000 callers", n)
				}
				if n := int(l.dials.Load()); n > 100 || n == 0 {
					t.Errorf("%d dials in 10 s", n)
				}
				l.become(up)
				time.Sleep(2 * time.Second)
				if took, err := get(t, p); err != nil || took != 0 {
					t.Errorf("%v after %s, once the server is back", err, took)
				}
			})
		})
	}
}

// A dial that waits for a server that refused goes on in the background, and ends when another
// fault has come.
func TestAFaultIsNotBlamedOnTheOneBefore(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, l := outageBubble(t, redispool.Config{MaxOpen: 4}, 3, up)
		for range 2 {
			l.become(refusing)
			if err := getFor(t, p, 50*time.Millisecond); redispool.Classify(err).Kind != health.KindRefused {
				t.Errorf("%v; want that the server refuses", err)
			}
			l.is.Store(up)
			if err := getFor(t, p, time.Second); err != nil {
				t.Error(err)
			}
			l.become(unreachable)
			if err := getFor(t, p, 2*time.Second); redispool.Classify(err).Kind != health.KindTimeout {
				t.Errorf("%v; want that there is no answer", err)
			}
			l.become(up)
			time.Sleep(10 * time.Second)
		}
	})
}

// getFor is get with a deadline.
func getFor(t *testing.T, p *redispool.Pool, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return p.Client().Get(ctx, "key").Err()
}

// An old trial may have been sent into a hole in the network, whatever the time-outs are.
func TestASilentServerIsTriedEverySecond(t *testing.T) {
	for name, is := range map[string]int32{"unreachable": unreachable, "mute": mute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(dropsTimers(t), func(t *testing.T) {
				_, l := outageBubble(t, redispool.Config{Start: poolkeeper.StartDegraded, DialTimeout: time.Minute, ReadTimeout: time.Minute}, 0, is)
				time.Sleep(10 * time.Second)
				l.dials.Store(0)
				time.Sleep(20 * time.Second)
				if n := l.dials.Load(); n < 19 || n > 21 {
					t.Errorf("%d trials in 20 s, want one each second", n)
				}
			})
		})
	}
}

func TestAServerThatAnswersIsNeverDown(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, l := outageBubble(t, redispool.Config{MaxOpen: 2}, 0, up)
		l.become(full)
		for range 100 {
			_, err := get(t, p)
			if err == nil || errors.Is(err, poolkeeper.ErrDown) {
				t.Fatalf("%v, want what go-redis makes of the refusal", err)
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
}

func TestAPoolThatStartedWithoutItsServerIsDown(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, l := outageBubble(t, redispool.Config{Start: poolkeeper.StartDegraded}, 0, refusing)
		synctest.Wait()
		l.dials.Store(0)
		if took, err := get(t, p); took != 0 || !errors.Is(err, poolkeeper.ErrDown) || l.dials.Load() != 0 {
			t.Errorf("%v after %s and %d dials", err, took, l.dials.Load())
		}
		l.become(loading)
		time.Sleep(10 * time.Second)
		if _, err := get(t, p); !errors.Is(err, poolkeeper.ErrDown) {
			t.Errorf("a server that loads its data: %v", err)
		}
		l.become(up)
		time.Sleep(time.Second)
		if _, err := get(t, p); err != nil {
			t.Error(err)
		}
	})
}

func TestAPausedPoolIsNeverDown(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, l := outageBubble(t, redispool.Config{MaxOpen: 2, AcquireTimeout: time.Hour}, 0, up)
		l.become(refusing)
		_, _ = get(t, p)
		if err := p.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := get(t, p); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Minute)
		l.become(up)
		p.Resume()
		wg.Wait()
	})
}

// A session that has a connection goes on while others are told that the server is down.
func TestSessionsThatHaveAConnectionAreLeftAlone(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, l := outageBubble(t, redispool.Config{MaxOpen: 2}, 0, up)
		one := single(t, p).Conn()
		defer func() { _ = one.Close() }()
		if err := one.Get(t.Context(), "key").Err(); err != nil {
			t.Fatal(err)
		}
		l.is.Store(refusing) // what is open stays open
		for range 10 {
			_, _ = get(t, p)
			time.Sleep(time.Second)
		}
		if _, err := get(t, p); !errors.Is(err, poolkeeper.ErrDown) {
			t.Fatalf("%v, want ErrDown", err)
		}
		if err := one.Get(t.Context(), "key").Err(); err != nil {
			t.Errorf("on the Conn: %v", err)
		}
	})
}

func TestDialsInVainEndWithThePool(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, l := outageBubble(t, redispool.Config{MaxOpen: 2, AcquireTimeout: poolkeeper.Off, FailFastAfter: poolkeeper.Off}, 0, up)
		l.become(unreachable)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := get(t, p); !errors.Is(err, poolkeeper.ErrClosed) {
					t.Errorf("%v, want ErrClosed", err)
				}
			})
		}
		time.Sleep(time.Second)
		_ = p.Abort()
		wg.Wait()
	})
}

func (l *line) refuse(ctx context.Context, network, addr string) (net.Conn, error) {
	l.is.Store(refusing)
	return l.dial(ctx, network, addr)
}
