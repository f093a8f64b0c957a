// Throughc has a stack taken in a function that C calls, which keeps something else in the frame
// pointer's register.
package main

/*
#cgo CFLAGS: -O2 -fomit-frame-pointer
extern void goFunction(int);
static void through(int n) {
	for (int i = 0; i < n; i++) goFunction(i);
}
*/
import "C"

import (
	"fmt"
	"runtime"

	"github.com/poolkeeper/poolkeeper/internal/callers"
)

//export goFunction
func goFunction(i C.int) {
	var got, want [64]uintptr
	n, m := callers.Callers(got[:]), runtime.Callers(1, want[:])
	ours, all := lines(got[:n]), lines(want[:m])
	if len(ours) == 0 || len(ours) > len(all) {
		panic(fmt.Sprint(ours, " of ", all))
	}
	for i := range ours {
		if ours[i] != all[i] {
			panic(fmt.Sprint(ours, " is no beginning of ", all))
		}
	}
}

func lines(pcs []uintptr) (out []string) {
	for f := range callers.Frames(pcs) {
		out = append(out, fmt.Sprintf("%s:%d\n", f.Function, f.Line))
	}
	return out
}

func main() {
	done := make(chan struct{})
	for range 4 {
		go func() { C.through(1000); done <- struct{}{} }()
	}
	for range 4 {
		<-done
	}
	fmt.Println("ok")
}
