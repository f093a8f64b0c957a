package redispool_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestCallersAreServedInOrderOfArrival(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, _ := bubble(t, redispool.Config{MaxOpen: 2, AcquireTimeout: time.Hour, KeepAlive: poolkeeper.Off})
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := p.Client().Get(t.Context(), "slow").Err(); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			time.Sleep(time.Millisecond)
		}
		if n := p.Stats().Waiting; n != 18 {
			t.Errorf("%d wait, want 18", n)
		}
		wg.Wait()
		if !slices.IsSorted(order) {
			t.Errorf("served in the order %v", order)
		}
		if s := p.Stats(); s.Open != 2 || s.WaitCount != 18 || s.Wait.Count != 18 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Whatever AcquireTimeout is, the pool's end is the end of the wait.
func TestCallersThatWaitAreEndedWithThePool(t *testing.T) {
	for _, limit := range []time.Duration{poolkeeper.Off, time.Hour} {
		for name, end := range map[string]func(p *redispool.Pool) error{
			"Abort": func(p *redispool.Pool) error { return p.Abort() },
			"Stop": func(p *redispool.Pool) error {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				return p.Stop(ctx)
			},
		} {
			t.Run(name+"/"+limit.String(), func(t *testing.T) {
				synctest.Test(dropsTimers(t), func(t *testing.T) {
					p, _ := bubble(t, redispool.Config{MaxOpen: 1, AcquireTimeout: limit, KeepAlive: poolkeeper.Off})
					held := single(t, p).Conn()
					if err := held.Get(t.Context(), "key").Err(); err != nil {
						t.Fatal(err)
					}
					var wg sync.WaitGroup
					for i := range 5 {
						wg.Go(func() {
							var err error
							switch c := single(t, p); i {
							case 0:
								_, err = c.Pipelined(t.Context(), func(pipe redis.Pipeliner) error { return pipe.Get(t.Context(), "key").Err() })
							case 1:
								err = c.Watch(t.Context(), func(*redis.Tx) error { return nil }, "key")
							case 2:
								one := c.Conn()
								err = errors.Join(one.Get(t.Context(), "key").Err(), one.Close())
							default:
								err = c.Get(t.Context(), "key").Err()
							}
							if !errors.Is(err, poolkeeper.ErrClosed) {
								t.Errorf("caller %d: %v, want ErrClosed", i, err)
							}
						})
					}
					synctest.Wait()
					if n := p.Stats().Waiting; n != 5 {
						t.Fatalf("%d wait, want 5", n)
					}
					err := end(p)
					wg.Wait()
					late, ok := errors.AsType[*poolkeeper.HeldError](err)
					if !ok || late.Commands != 0 || late.Waiting != 5 || len(late.Holders) != 1 {
						t.Errorf("%v: %+v, want no command cut off, 5 callers refused and 1 holder", err, late)
					}
					_ = held.Close()
				})
			})
		}
	}
}

func TestADrainLetsCallersThatWaitFinish(t *testing.T) { // INV-8
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, _ := bubble(t, redispool.Config{MaxOpen: 1, AcquireTimeout: time.Hour, KeepAlive: poolkeeper.Off})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := p.Client().Get(t.Context(), "slow").Err(); err != nil {
					t.Errorf("a caller that waited as the drain began: %v", err)
				}
			})
		}
		synctest.Wait()
		begun := time.Now()
		if err := p.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took < 5*time.Second {
			t.Errorf("drained after %s, of five calls of a second one after the other", took)
		}
		wg.Wait()
		if err := p.Client().Get(t.Context(), "key").Err(); !errors.Is(err, poolkeeper.ErrDraining) {
			t.Errorf("a caller that came later: %v", err)
		}
	})
}

func TestOneCallerMoreThanMaxWaitingIsRefusedAtOnce(t *testing.T) {
	for _, limit := range []int{poolkeeper.NoWaiting, 3} {
		synctest.Test(dropsTimers(t), func(t *testing.T) {
			p, cfg := bubble(t, redispool.Config{MaxOpen: 2, MaxWaiting: limit, KeepAlive: poolkeeper.Off})
			var wg sync.WaitGroup
			for range 2 + max(limit, 0) {
				wg.Go(func() {
					if err := p.Client().Get(t.Context(), "slow").Err(); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			begun := time.Now()
			err := p.Client().Get(t.Context(), "key").Err()
			if time.Since(begun) != 0 || !errors.Is(err, poolkeeper.ErrTooManyWaiting) || errors.Is(err, poolkeeper.ErrAcquireTimeout) {
				t.Errorf("%v after %s, want ErrTooManyWaiting at once", err, time.Since(begun))
			}
			if _, ok := errors.AsType[*poolkeeper.AcquireError](err); !ok {
				t.Errorf("%T is no AcquireError", err)
			}
			if s := p.Stats(); s.Refused != 1 || s.AcquireTimeouts != 0 {
				t.Errorf("%d refused, %d timed out, want 1 and 0", s.Refused, s.AcquireTimeouts)
			}
			wg.Wait()
			cfg.MaxWaiting = 0
			if err := p.Reload(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			for range 10 {
				wg.Go(func() {
					if err := p.Client().Get(t.Context(), "slow").Err(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// A pause has a place for as many callers as the pool has.
func TestNoWaitingStillWaitsForAPause(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, _ := bubble(t, redispool.Config{MaxOpen: 2, MaxWaiting: poolkeeper.NoWaiting, KeepAlive: poolkeeper.Off})
		if err := p.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := p.Client().Get(t.Context(), "key").Err(); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if err := p.Client().Get(t.Context(), "key").Err(); !errors.Is(err, poolkeeper.ErrTooManyWaiting) {
			t.Errorf("a third caller: %v", err)
		}
		p.Resume()
		wg.Wait()
	})
}

// A Watch has its connection until its function returns, also after EXEC, and its commands do not
// queue behind callers that wait for this very connection.
func TestAWatchAndItsRivalsDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(dropsTimers(t), func(t *testing.T) {
		p, _ := bubble(t, redispool.Config{MaxOpen: 1, AcquireTimeout: time.Hour, KeepAlive: poolkeeper.Off})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := p.Client().Get(t.Context(), "key").Err(); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				err := p.Client().Watch(t.Context(), func(tx *redis.Tx) error {
					for range 3 {
						time.Sleep(time.Second)
						if err := tx.Get(t.Context(), "key").Err(); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		begun := time.Now()
		wg.Wait()
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}
