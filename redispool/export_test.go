package redispool

import "testing"

// SelfCheck is what the pool finds out about go-redis.
func SelfCheck() error { return checkGoRedis() }

// FailSelfCheck makes the pools of a test take go-redis for one that they do not know.
func FailSelfCheck(tb testing.TB, err error) {
	tb.Helper()
	was := checkGoRedis
	checkGoRedis = func() error { return err }
	tb.Cleanup(func() { checkGoRedis = was })
}

// Odometer is odometer.
type Odometer struct{ odometer }

// Total calls total.
func (o *Odometer) Total(n uint32) uint64 { return o.total(n) }
