package callers_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/callers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFramesAreThoseOfTheRuntime(t *testing.T) {
	for i, a := range shapes {
		t.Run(a.name, func(t *testing.T) {
			for j := range shapes {
				way := []byte{byte(i), byte(j)}
				if diff := compared(way); diff != "" {
					t.Fatalf("%s, then %s:\n%s", a.name, shapes[j].name, diff)
				}
			}
		})
	}
}

func TestFramesAreThoseOfTheRuntimeOnAnyWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		way := rapid.SliceOfN(rapid.ByteRange(0, byte(len(shapes)-1)), 0, 12).Draw(t, "way")
		if diff := compared(way); diff != "" {
			t.Fatalf("%s:\n%s", names(way), diff)
		}
	})
}

func FuzzFramesAreThoseOfTheRuntime(f *testing.F) {
	for i := range shapes {
		f.Add([]byte{byte(i), byte(i), 0})
	}
	f.Fuzz(func(t *testing.T, way []byte) {
		way = way[:min(len(way), 30)]
		if diff := compared(way); diff != "" {
			t.Fatalf("%s:\n%s", names(way), diff)
		}
	})
}

// Stacks grow, move and shrink all the while.
func TestFramesAreThoseOfTheRuntimeWhileStacksMove(t *testing.T) {
	var work, shrinking sync.WaitGroup
	done := make(chan struct{})
	shrinking.Go(func() { // ends when the work has ended, and is waited for
		for now := time.Tick(time.Millisecond); ; <-now {
			runtime.GC()
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for seed := range uint64(8) {
		work.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for range 20 {
				way := make([]byte, r.IntN(8))
				for i := range way {
					way[i] = byte(r.IntN(len(shapes)))
				}
				within(func(done func()) {
					go func() {
						defer done()
						recur(r.IntN(200), func() {
							if diff := compared(way); diff != "" {
								t.Errorf("%s:\n%s", names(way), diff)
							}
						})
					}()
				})
			}
		})
	}
	work.Wait()
	close(done)
	shrinking.Wait()
}

func TestFramesAreThoseOfTheRuntimeInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i, s := range shapes {
			if diff := compared([]byte{byte(i)}); diff != "" {
				t.Errorf("%s:\n%s", s.name, diff)
			}
		}
	})
}

func TestFramesAreThoseOfTheRuntimeInFinalizersAndCleanups(t *testing.T) {
	diffs := make(chan string, 2)
	func() {
		a, b := new([100]int), new([100]int)
		runtime.SetFinalizer(a, func(*[100]int) { diffs <- compare() })
		runtime.AddCleanup(b, func(int) { diffs <- compare() }, 1)
	}()
	for range cap(diffs) {
		for len(diffs) == 0 {
			runtime.GC()
		}
		if diff := <-diffs; diff != "" {
			t.Error(diff)
		}
	}
}

// While what is deferred runs after a fault (nil was dereferenced), the line of the fault may be
// the one before, and the caller of the function at fault may be missing, if that has no frame of
// its own. The rest is as it is.
func TestAFaultHidesOneFrameAtMost(t *testing.T) {
	for name, fault := range map[string]func(){
		"without a frame": func() { faultWithoutFrame(nil) },
		"with a frame":    func() { generic(1, func() { noBox.v++ }) },
		"a division":      func() { recur(2, func() { text = text[1/len(text[4:]):] }) },
	} {
		func() {
			var got, want [64]uintptr
			var n, m int
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no fault", name)
				}
				ours, all := lines(got[:n]), lines(want[:m])
				same := 0
				for same < min(len(ours), len(all)) && ours[len(ours)-1-same] == all[len(all)-1-same] {
					same++
				}
				if len(all)-len(ours) > 1 || len(all)-same > 4 { // compare, the deferred, the one at fault, the missing
					t.Errorf("%s:\n\t%s\nthe runtime:\n\t%s", name, strings.Join(ours, "\n\t"), strings.Join(all, "\n\t"))
				}
			}()
			defer func() { n, m = callers.Callers(got[:]), runtime.Callers(1, want[:]) }()
			fault()
		}()
	}
}

//go:noinline
func faultWithoutFrame(p *box[int]) int { return p.v }

func TestFramesEndWhereTheyAreTold(t *testing.T) {
	recur(5, func() {
		var pcs [64]uintptr
		n, seen := callers.Callers(pcs[:]), 0
		for range callers.Frames(pcs[:n]) {
			if seen++; seen == 3 {
				break
			}
		}
		if seen != 3 {
			t.Errorf("%d frames", seen)
		}
	})
}

func TestAnyNumbersAreNoFrames(t *testing.T) {
	for f := range callers.Frames([]uintptr{0, 1, ^uintptr(0), 1 << 30}) {
		t.Errorf("%+v", f)
	}
}

func TestTakingAStackAllocatesNothingAndMindsTheRoom(t *testing.T) {
	var pcs [40]uintptr
	recur(100, func() {
		for room := range len(pcs) {
			clear(pcs[:])
			var n int
			if allocs := testing.AllocsPerRun(1, func() { n = callers.Callers(pcs[:room]) }); allocs != 0 {
				t.Errorf("%v allocations", allocs)
			}
			if n != room || pcs[room] != 0 {
				t.Errorf("%d frames where there is room for %d, then %#x", n, room, pcs[room])
			}
		}
	})
}

// compared goes a way and says how the two stacks differ at its end.
func compared(way []byte) (diff string) {
	if len(way) == 0 {
		return compare()
	}
	shapes[int(way[0])%len(shapes)].call(func() { diff = compared(way[1:]) })
	return diff
}

//go:noinline
func compare() string {
	var got, want [4096]uintptr
	n, m := callers.Callers(got[:]), runtime.Callers(1, want[:])
	all, ours := lines(want[:m]), lines(got[:n])
	if !slices.Equal(ours, all) {
		return fmt.Sprintf("Callers:\n\t%s\nthe runtime:\n\t%s", strings.Join(ours, "\n\t"), strings.Join(all, "\n\t"))
	}
	for k := 0; k < min(n, 40); k += 7 { // a stack cut off anywhere is the beginning of the whole
		if part := lines(got[:k]); !slices.Equal(part, all[:min(len(part), len(all))]) {
			return fmt.Sprintf("the innermost %d:\n\t%s\nthe runtime:\n\t%s", k, strings.Join(part, "\n\t"), strings.Join(all, "\n\t"))
		}
	}
	return ""
}

// wrap is what runtime.Callers leaves out and Callers does not: the function around a go or defer
// statement with arguments, and two of reflect's.
var wrap = regexp.MustCompile(`\.(gowrap|deferwrap)\d+$|^reflect\.call(Method|Reflect)$`)

func lines(pcs []uintptr) []string {
	var out []string
	for f := range callers.Frames(pcs) {
		if !wrap.MatchString(f.Function) {
			out = append(out, fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line))
		}
	}
	return out
}

func names(way []byte) string {
	var out []string
	for _, b := range way {
		out = append(out, shapes[int(b)%len(shapes)].name)
	}
	return strings.Join(out, ", ")
}

func BenchmarkCallers(b *testing.B) {
	for _, deep := range []int{4, 16, 64} {
		var pcs [32]uintptr
		b.Run(fmt.Sprintf("Callers, %d deep", deep), func(b *testing.B) {
			recur(deep, func() {
				for b.Loop() {
					callers.Callers(pcs[:])
				}
			})
		})
		b.Run(fmt.Sprintf("runtime.Callers, %d deep", deep), func(b *testing.B) {
			recur(deep, func() {
				for b.Loop() {
					runtime.Callers(1, pcs[:])
				}
			})
		})
	}
}
