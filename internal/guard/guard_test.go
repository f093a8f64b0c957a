package guard_test

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/guard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCallReturnsWhatEndedIt(t *testing.T) {
	ran := false
	if err := guard.Call(func() { ran = true }); err != nil || !ran {
		t.Errorf("an ordinary function: ran %v, %v", ran, err)
	}
	if err := guard.Call(runtime.Goexit); !errors.Is(err, guard.ErrExited) {
		t.Errorf("Goexit: %v", err)
	}
	err := guard.Call(func() { panic(io.EOF) })
	p, ok := errors.AsType[*guard.Panic](err)
	if !ok || !errors.Is(err, io.EOF) || !strings.Contains(p.Stack, "guard_test.go") {
		t.Errorf("a panic: %v", err)
	}
	if err := guard.Catch(func() { panic("no") }); err == nil || err.Error() != "panic: no" {
		t.Errorf("Catch: %v", err)
	}
}
