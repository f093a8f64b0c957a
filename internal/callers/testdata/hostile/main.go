// Hostile has a stack taken where a frame pointer has any value at all. It fails by crashing.
package main

import (
	"fmt"
	"unsafe"

	"github.com/poolkeeper/poolkeeper/internal/callers"
)

// with calls f with bp in the frame pointer's register.
func with(bp uintptr, f func())

func main() {
	taken := 0
	take := func() {
		var pcs [64]uintptr
		n := callers.Callers(pcs[:])
		for f := range callers.Frames(pcs[:n]) {
			taken += len(f.Function)
		}
		if n < 2 {
			panic(fmt.Sprint("only ", n, " frames found, although two are whole"))
		}
		if n == len(pcs) {
			panic("a way round, again and again")
		}
	}
	done := make(chan struct{})
	go func() { // main's own stack and a small one
		defer close(done)
		everywhere(take)
	}()
	<-done
	everywhere(take)
	if taken > 0 {
		fmt.Println("ok")
	}
}

func everywhere(take func()) {
	for shift := range 64 {
		for _, bit := range []uintptr{1 << shift, ^(1 << shift), -(1 << shift)} {
			with(bit, take)
		}
	}
	with(0, take)
	var ring [2]uintptr
	ring[0] = uintptr(unsafe.Pointer(&ring))
	with(ring[0], take)
	var here int
	at := uintptr(unsafe.Pointer(&here))
	for near := at - 4<<10; near < at+64<<10; near += 4 { // what is on the stack, taken for frames, and beyond its ends
		with(near, take)
	}
	heap := make([]uintptr, 1<<10)
	for i := range heap {
		heap[i] = uintptr(unsafe.Pointer(&heap[i]))
	}
	for i := range heap {
		with(heap[i], take)
	}
}
