package poolkeeper

// Change is one difference between a pool's configuration in effect and another, as its Plan tells
// it.
type Change struct {
	Field    string // of Config
	From, To string // "…" where the value is, or may hold, a secret or cannot be printed
}
