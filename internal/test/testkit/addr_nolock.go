//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package testkit

// locker does nothing here: test processes that run at the same time pick the same port only by
// chance.
type locker struct{}

func (*locker) lock(int) (bool, error) { return true, nil }

func (*locker) unlock(int) {}
