package callers

// Trusted says whether frame pointers are followed here.
func Trusted() bool { return trusted }

// Agrees is the look at the walk that decides it.
func Agrees(take func(pcs []uintptr) int) bool { return agrees(take) }
