//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package testkit

// locker keeps nobody away here: processes that test at the same time meet only by chance.
type locker struct{}

func (*locker) lock(int) (bool, error) { return true, nil }

func (*locker) unlock(int) {}
