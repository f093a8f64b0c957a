//go:build gc && !purego && (amd64 || arm64)

package callers

// walk follows the frame pointers from the function that calls it, and writes each one's return
// address into pcs, for as long as there is room and the next lies above the last and within the
// goroutine's stack. So, whatever it may come across, it reads nothing but the part of that stack
// that is in use. The stack does not move meanwhile: it grows where a function asks for room, and
// shrinks where the goroutine waits or has stopped for the collector, and a walk, which is assembly
// and calls nothing, has no such place.
//
//go:noescape
func walk(pcs []uintptr) int

// trusted says that walk was seen to find what the runtime finds.
//
//nolint:gochecknoglobals // a constant of the platform
var trusted = agrees(walked)

//go:noinline
func walked(pcs []uintptr) int { return walk(pcs) }
