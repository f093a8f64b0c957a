package sqlpool

// StacksRendered is how many stacks of holders have become text so far.
func StacksRendered(p *Pool) uint64 { return p.c.held.Renders() }
