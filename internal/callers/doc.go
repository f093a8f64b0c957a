// Package callers takes a goroutine's own stack cheaply: some 30 to 100 ns for what takes
// runtime.Callers 1 to 3 µs.
//
// On amd64 and arm64 all Go code keeps frame pointers. They are followed, as the runtime's own
// tracer does:
//
//	higher addresses              g.stack.hi, where the walk ends at the latest
//	      ┌──────────────────┐
//	      │ return address   │ ─► pcs[1]
//	  ┌──►│ frame pointer    │ ─► of the next caller; 0 at the outermost
//	  │   ├──────────────────┤
//	  │   │ …                │
//	  │   │ return address   │ ─► pcs[0], in the function that called Callers
//	  └───│ frame pointer    │ ◄── the register
//	      └──────────────────┘
//	lower addresses               the stack pointer, where it begins at the earliest
//
// Elsewhere, with the build tag purego, and where a look at start-up finds that the two disagree,
// it is runtime.Callers:
//
//	var pcs [32]uintptr
//	n := callers.Callers(pcs[:])
//	for f := range callers.Frames(pcs[:n]) {
//		fmt.Println(f.Function, f.File, f.Line)
//	}
//
// What it refuses: the stacks of others, and what lies beyond a function of C that has called back.
// It does not promise each frame in what is deferred while a fault (a dereference of nil) unwinds
// the stack: of the function at fault the
// line may be the one before, and its caller may be missing. Unlike runtime.Callers it shows where a goroutine that was
// given arguments was started, as a function gowrap1 there.
package callers
