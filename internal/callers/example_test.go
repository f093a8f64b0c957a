package callers_test

import (
	"fmt"

	"github.com/poolkeeper/poolkeeper/internal/callers"
)

func Example() {
	var pcs [32]uintptr
	n := callers.Callers(pcs[:])
	for f := range callers.Frames(pcs[:n]) {
		fmt.Println(f.Function)
		break // main and testing follow
	}
	// Output: github.com/poolkeeper/poolkeeper/internal/callers_test.Example
}
