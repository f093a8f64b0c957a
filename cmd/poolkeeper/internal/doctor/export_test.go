package doctor

import "time"

// SetSilent sets the silence after which the server closes a connection.
func (s *Server) SetSilent(d time.Duration) { s.silent = d }
