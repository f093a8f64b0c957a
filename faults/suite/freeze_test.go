package suite_test

import "time"

// freezes are faults in which the server is there, and does nothing.
func freezes() []scenario {
	return []scenario{
		{
			name:  "frozen for 3 s",
			fault: func(p *place) { p.Freeze(p); sleep(p.span(3 * time.Second)); p.Thaw(p) },
		},
		{
			name: "frozen for good, another server after 2 s", spare: true,
			fault: func(p *place) {
				p.Freeze(p)
				sleep(p.span(2 * time.Second))
				p.moveTo(p.second)
			},
			undo: func(p *place) { p.first.Thaw(p) },
		},
	}
}

// moveTo has the server's address lead to another server, which the service is to reach from now on.
func (p *place) moveTo(b *backend) {
	p.proxy.Point(b.Addr())
	p.backend = b
}
