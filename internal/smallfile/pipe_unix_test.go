//go:build unix

package smallfile_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/smallfile"
)

// Nobody writes to the pipe: os.ReadFile would wait for ever.
func TestANamedPipeIsRefusedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	if _, err := smallfile.Read(path); err == nil || !strings.Contains(err.Error(), "it is a named pipe; it must be a regular file") {
		t.Error(err)
	}
}
