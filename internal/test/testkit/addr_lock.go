//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package testkit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// locker keeps ports apart between processes: each is one byte of an empty file, locked for as long
// as the port is claimed. The system unlocks what a process leaves behind, however it ends.
type locker struct {
	file *os.File // opened by the first lock; closing any descriptor of it would unlock everything
}

// lock reports whether the port's byte is ours now.
func (l *locker) lock(port int) (bool, error) {
	if l.file == nil {
		name := filepath.Join(os.TempDir(), fmt.Sprintf("poolkeeper-ports-%d", os.Getuid()))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return false, err
		}
		l.file = f
	}
	err := l.set(port, syscall.F_WRLCK)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) { // POSIX leaves open which
		return false, nil
	}
	return err == nil, err
}

func (l *locker) unlock(port int) { _ = l.set(port, syscall.F_UNLCK) } // it cannot fail for a range that is ours

func (l *locker) set(port int, kind int16) error {
	return syscall.FcntlFlock(l.file.Fd(), syscall.F_SETLK,
		&syscall.Flock_t{Type: kind, Whence: io.SeekStart, Start: int64(port), Len: 1})
}
