package callers_test

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/callers"
)

func TestFramePointersAreFollowedWhereTheyAreKept(t *testing.T) {
	if kept := runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64"; callers.Trusted() != (kept && !pure) {
		t.Errorf("on %s: %v", runtime.GOARCH, callers.Trusted())
	}
}

// What if the runtime keeps its stacks otherwise one day?
func TestAWalkThatFindsSomethingElseIsNotTrusted(t *testing.T) {
	for name, c := range map[string]struct {
		take func([]uintptr) int
		want bool
	}{
		"what the runtime finds": {theRuntimes, true},
		"nothing":                {func([]uintptr) int { return 0 }, false},
		"the outer part": {func(pcs []uintptr) int {
			n := theRuntimes(pcs)
			return copy(pcs, pcs[3:n])
		}, false},
		"the inner part":   {func(pcs []uintptr) int { return theRuntimes(pcs[:6]) }, false},
		"something else":   {func(pcs []uintptr) int { clear(pcs); return len(pcs) }, false},
		"too much":         {func(pcs []uintptr) int { return theRuntimes(pcs) + 1 }, false},
		"the stack, twice": {func(pcs []uintptr) int { n := theRuntimes(pcs[1:]); pcs[0] = pcs[1]; return n + 1 }, false},
	} {
		if callers.Agrees(c.take) != c.want {
			t.Errorf("%s: trusted %v", name, !c.want)
		}
	}
	recur(100, func() {
		if callers.Agrees(theRuntimes) {
			t.Error("trusted although the outermost frame was not seen")
		}
	})
}

// theRuntimes begins where walk does: outside of the function that calls it.
//
//go:noinline
func theRuntimes(pcs []uintptr) int {
	var all [65]uintptr
	n := runtime.Callers(2, all[:])
	for n > 0 && strings.HasSuffix(runtime.FuncForPC(all[0]-1).Name(), "SomethingElseIsNotTrusted.func1") {
		n = copy(all[:], all[1:n])
	}
	return copy(pcs, all[:n])
}

// The walk reads nothing but the stack in use, whatever a frame pointer may be.
func TestNoFramePointerMakesTheWalkFault(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the program is in assembly for amd64")
	}
	command(t, "go", "run", "./testdata/hostile")
}

func TestAStackEndsWhereCHasCalledAtTheLatest(t *testing.T) {
	if out, err := exec.Command("go", "env", "CC").Output(); err != nil {
		t.Skip("no go command")
	} else if _, err := exec.LookPath(strings.Fields(string(out))[0]); err != nil {
		t.Skip("no C compiler")
	}
	t.Setenv("CGO_ENABLED", "1")
	command(t, "go", "run", "./testdata/throughc")
}

func TestWithoutAssemblyTheRuntimeTakesTheStack(t *testing.T) {
	command(t, "go", "test", "-short", "-tags", "purego", ".")
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("it compiles a program")
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = os.Environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", cmd, err, out)
	}
}
