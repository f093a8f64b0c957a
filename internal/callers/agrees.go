package callers

import "runtime"

// agrees compares what take finds below a few calls with what runtime.Callers finds there: every
// frame of those calls, and the outermost of all.
func agrees(take func(pcs []uintptr) int) bool {
	const calls = 4
	var got, want [64]uintptr
	n, m := below(calls, take, got[:], want[:])
	if n <= calls || m <= calls || m == len(want) {
		return false
	}
	for i := 1; i <= calls; i++ {
		if got[i] != want[i] {
			return false
		}
	}
	// The innermost two are different calls in one function.
	return entry(got[0]) == entry(want[0]) && got[n-1] == want[m-1]
}

//go:noinline
func below(calls int, take func(pcs []uintptr) int, got, want []uintptr) (n, m int) {
	if calls > 0 {
		n, m = below(calls-1, take, got, want)
		return n, m
	}
	return take(got), runtime.Callers(1, want)
}

// entry returns where the function begins that pc returns into.
func entry(pc uintptr) uintptr {
	if f := runtime.FuncForPC(pc - 1); f != nil {
		return f.Entry()
	}
	return 0
}
