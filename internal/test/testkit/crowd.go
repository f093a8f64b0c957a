package testkit

import "sync"

// Crowd counts how many are somewhere at once. Its zero value is ready, and it is safe for
// concurrent use.
type Crowd struct {
	mu        sync.Mutex // guards the following
	now, most int
}

// Enter counts the caller in, until it calls leave.
func (c *Crowd) Enter() (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	c.most = max(c.most, c.now)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.now--
	}
}

// Most is how many there have been at once since the last Forget.
func (c *Crowd) Most() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}

// Forget forgets all that are not there now.
func (c *Crowd) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = c.now
}
