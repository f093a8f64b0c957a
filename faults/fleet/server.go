package fleet

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/poolkeeper/poolkeeper/internal/retry"
)

// Server is a database server in memory, for a whole fleet. It takes LoginsPerSecond logins, one
// after the other. It refuses logins beyond MaxConnections. All methods are safe for concurrent use.
type Server struct {
	MaxConnections  int
	LoginsPerSecond int
	RoundTrip       time.Duration

	mu       sync.Mutex            // guards the following
	sessions map[*session]struct{} // nil: the server is down
	logins   int                   // under way
	life     int                   // how often the server was killed
	free     time.Time             // when the login that comes next is begun
	counts   Counts
}

// Counts holds the counters of a Server.
type Counts struct {
	Logins  int // logins that began, including those that the client gave up
	Refused int // attempts while the server was down
	Full    int // attempts while it had MaxConnections
	Open    int // connections now
}

// session is one connection.
type session struct {
	server *Server
	over   chan struct{} // closed when it ends
	cut    func()        // closes what it is made of; may be nil. Set before the session is used
	once   sync.Once
}

func (one *session) finish() {
	one.once.Do(func() {
		close(one.over)
		if one.cut != nil {
			one.cut()
		}
	})
}

// Counts returns the counts.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.counts
	out.Open = len(s.sessions)
	return out
}

// Kill ends all connections. New ones are refused until Run.
func (s *Server) Kill() {
	s.mu.Lock()
	all := s.sessions
	s.sessions = nil
	s.life++
	s.mu.Unlock()
	for one := range all {
		one.finish()
	}
}

// Run starts the server, which then takes logins.
func (s *Server) Run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions, s.logins, s.free = make(map[*session]struct{}), 0, time.Now()
}

// login opens a connection. A login that the client gives up costs the server as much as any other.
// cut, which may be nil, is called when the connection ends.
func (s *Server) login(ctx context.Context, cut func()) (*session, error) {
	if !retry.Sleep(ctx, s.RoundTrip) { // TCP
		return nil, ctx.Err()
	}
	life, wait, err := s.begin()
	if err != nil {
		return nil, err
	}
	done := retry.Sleep(ctx, wait+s.RoundTrip)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life != life {
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	}
	s.logins--
	if !done {
		return nil, ctx.Err()
	}
	one := &session{server: s, over: make(chan struct{}), cut: cut}
	s.sessions[one] = struct{}{}
	return one, nil
}

// begin puts a login in line, and returns how long it takes.
func (s *Server) begin() (life int, wait time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.sessions == nil:
		s.counts.Refused++
		return 0, 0, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	case len(s.sessions)+s.logins >= s.MaxConnections:
		s.counts.Full++
		return 0, 0, &mysql.MySQLError{Number: 1040, Message: "Too many connections"}
	}
	now := time.Now()
	if s.free.Before(now) {
		s.free = now
	}
	s.free = s.free.Add(time.Second / time.Duration(s.LoginsPerSecond))
	s.logins++
	s.counts.Logins++
	return s.life, s.free.Sub(now), nil
}

// end ends the connection, as its client does.
func (one *session) end() {
	one.server.mu.Lock()
	delete(one.server.sessions, one)
	one.server.mu.Unlock()
	one.finish()
}
