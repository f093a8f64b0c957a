package sqlpool_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// An attempt that fails says nothing when one that began later has got through.
func TestAnOldFailureIsNotBlamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		p := fakePool(t, s, sqlpool.DBConfig{MaxOpen: 3, KeepAlive: poolkeeper.Off})
		defer stop(t, p)
		s.dial.set(func(context.Context) error { time.Sleep(2 * time.Second); return syscall.ECONNREFUSED })
		go func() { _ = p.DB().PingContext(t.Context()) }()
		time.Sleep(600 * time.Millisecond) // it is slow, and the others may dial
		s.dial.set(nil)
		for range 2 {
			c, err := p.DB().Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
		}
		time.Sleep(2 * time.Second)
		s.dial.set(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := p.DB().Conn(ctx)
		if e, ok := errors.AsType[*poolkeeper.AcquireError](err); !ok || e.DialErr != nil {
			t.Errorf("%v; want nothing of the refusal", err)
		}
	})
}
