package httpclient

import "context"

// link lists an exchange as in flight. It reports whether the exchanges in flight were cut off.
func (c *Client) link(x *exchange) (cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.next = c.inFlight; x.next != nil {
		x.next.prev = x
	}
	c.inFlight = x
	return c.cut
}

// unlink takes an exchange off the list.
func (c *Client) unlink(x *exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.next != nil {
		x.next.prev = x.prev
	}
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		c.inFlight = x.next
	}
	x.prev, x.next = nil, nil
}

// attempts returns the cancel functions of the attempts that wait for a connection to a host.
func (c *Client) attempts(h *host) (all []context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for x := c.inFlight; x != nil; x = x.next {
		if x.to.host == h && x.at() < stageWrite {
			all = append(all, x.giveUp)
		}
	}
	return all
}

// exchanges returns the exchanges in flight.
func (c *Client) exchanges() []*exchange {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*exchange
	for x := c.inFlight; x != nil; x = x.next {
		all = append(all, x)
	}
	return all
}
