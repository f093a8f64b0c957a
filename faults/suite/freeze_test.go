package suite_test

import "time"

// freezes are faults in which the server is there, and does nothing.
func freezes() []scenario {
	return []scenario{
		{
			name:  "frozen for 3 s",
			fault: func(p *place) { p.Freeze(p); sleep(p.span(3 * time.Second)); p.Thaw(p) },
		},
	}
}
