package doctor

import "time"

// SetSilent sets after which silence the server closes a connection.
func (s *Server) SetSilent(d time.Duration) { s.silent = d }
