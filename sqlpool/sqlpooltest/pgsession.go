package sqlpooltest

import (
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// session is one client's connection. All but hangUp, cancelled and loggedIn belongs to its
// goroutine.
type session struct {
	srv       *PostgresServer
	conn      net.Conn
	wire      *pgproto3.Backend
	types     *pgtype.Map
	pid       uint32
	gone      chan struct{} // closed by hangUp
	once      sync.Once
	cancelled chan struct{} // has a token when the client has asked to cancel
	loggedIn  bool          // guarded by the server's mutex

	status     byte // of the transaction: 'I' none, 'T' in one, 'E' in a failed one
	readOnly   bool // the transaction
	skipping   bool // after an error, to the next Sync
	statements map[string]*statement
	portals    map[string]*portal
}

// statement is one that was parsed.
type statement struct {
	sql    string
	answer Answer
	params []uint32
	fields []pgproto3.FieldDescription
}

// portal is a statement with its arguments.
type portal struct {
	*statement

	args    []any
	formats []int16 // of the results
}

func newSession(s *PostgresServer, conn net.Conn, pid uint32) *session {
	return &session{
		srv: s, conn: conn, wire: pgproto3.NewBackend(conn, conn), types: pgtype.NewMap(), pid: pid,
		gone: make(chan struct{}), cancelled: make(chan struct{}, 1), status: 'I',
		statements: make(map[string]*statement), portals: make(map[string]*portal),
	}
}

func (c *session) hangUp() { c.hangUpWith(nil) }

// hangUpWith sends a last message and closes the socket.
func (c *session) hangUpWith(last []byte) {
	c.once.Do(func() {
		close(c.gone)
		if len(last) > 0 {
			_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second)) // a client that reads nothing must not hold us up
			_, _ = c.conn.Write(last)                                // it may be gone already
		}
		_ = c.conn.Close()
	})
}

// serve talks with the client until either side hangs up.
func (c *session) serve() {
	if !c.greet() {
		return
	}
	for {
		msg, err := c.wire.Receive()
		if err != nil {
			return
		}
		if _, ok := msg.(*pgproto3.Terminate); ok || !c.behave() || !c.handle(msg) {
			return
		}
	}
}

// greet is the protocol's beginning. It reports false if the connection ends there.
func (c *session) greet() bool {
	for {
		msg, err := c.wire.ReceiveStartupMessage()
		if err != nil || !c.behave() {
			return false
		}
		switch msg := msg.(type) {
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			if _, err := c.conn.Write([]byte{'N'}); err != nil {
				return false
			}
		case *pgproto3.CancelRequest:
			c.srv.cancel(msg.ProcessID)
			return false
		default:
			if refusal := c.srv.logIn(c); refusal != nil {
				c.wire.Send(errorResponse(refusal))
				_ = c.wire.Flush() // the connection ends anyway
				return false
			}
			return c.welcome()
		}
	}
}

func (c *session) welcome() bool {
	c.wire.Send(&pgproto3.AuthenticationOk{})
	recovery := "off"
	if c.srv.faultsNow().standby {
		recovery = "on"
	}
	for _, p := range [][2]string{
		{"server_version", "15.0 (sqlpooltest)"},
		{"client_encoding", "UTF8"},
		{"server_encoding", "UTF8"},
		{"DateStyle", "ISO, MDY"},
		{"TimeZone", "UTC"},
		{"integer_datetimes", "on"},
		{"standard_conforming_strings", "on"},
		{"in_hot_standby", recovery},
	} {
		c.wire.Send(&pgproto3.ParameterStatus{Name: p[0], Value: p[1]})
	}
	c.wire.Send(&pgproto3.BackendKeyData{ProcessID: c.pid, SecretKey: []byte{0, 0, 0, 1}})
	c.wire.Send(&pgproto3.ReadyForQuery{TxStatus: c.status})
	return c.wire.Flush() == nil
}

// behave does what the server's faults say on receipt of a message. It reports false if the
// connection ends by it.
func (c *session) behave() bool {
	f := c.srv.faultsNow()
	if f.hang != nil {
		select {
		case <-f.hang:
			f = c.srv.faultsNow()
		case <-c.gone:
			return false
		}
	}
	if f.garbage {
		c.hangUpWith([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		return false
	}
	return true
}

// handle answers one message. It reports false if the connection ends by it.
func (c *session) handle(msg pgproto3.FrontendMessage) bool {
	if c.skipping {
		if _, ok := msg.(*pgproto3.Sync); !ok {
			return true
		}
	}
	switch msg := msg.(type) {
	case *pgproto3.Query:
		c.simple(msg.String)
	case *pgproto3.Parse:
		c.parse(msg)
	case *pgproto3.Describe:
		c.describe(msg)
	case *pgproto3.Bind:
		c.bind(msg)
	case *pgproto3.Execute:
		c.executePortal(msg)
	case *pgproto3.Close:
		c.forget(msg)
	case *pgproto3.Sync:
		c.skipping = false
		c.wire.Send(&pgproto3.ReadyForQuery{TxStatus: c.status})
		return c.wire.Flush() == nil
	case *pgproto3.Flush:
		return c.wire.Flush() == nil
	case *pgproto3.CopyData, *pgproto3.CopyDone, *pgproto3.CopyFail: // sent before the client has seen that COPY is refused
	default:
		c.fail(&pgconn.PgError{Code: "0A000", Message: "sqlpooltest: this part of the protocol is not supported"})
		c.skipping = false
		c.wire.Send(&pgproto3.ReadyForQuery{TxStatus: c.status})
		return c.wire.Flush() == nil
	}
	return true
}

// fail sends an error; in the extended protocol everything up to the next Sync is skipped.
func (c *session) fail(e *pgconn.PgError) {
	c.wire.Send(errorResponse(e))
	c.skipping = true
	if c.status == 'T' {
		c.status = 'E'
	}
}

// simple is the simple protocol: one message, all of the answer. Several statements in one are one
// to Answer.
func (c *session) simple(sql string) {
	defer func() {
		c.skipping = false
		c.wire.Send(&pgproto3.ReadyForQuery{TxStatus: c.status})
		_ = c.wire.Flush() // the next Receive fails if this does
	}()
	st, refused := c.prepare(sql, nil)
	if refused != nil {
		c.note(sql, nil)
		c.fail(refused)
		return
	}
	p := &portal{statement: st}
	if len(st.fields) > 0 {
		c.wire.Send(&pgproto3.RowDescription{Fields: p.described()})
	}
	c.execute(p)
}

func (c *session) parse(msg *pgproto3.Parse) {
	st, refused := c.prepare(msg.Query, msg.ParameterOIDs)
	if refused != nil {
		c.note(msg.Query, nil)
		c.fail(refused)
		return
	}
	c.statements[msg.Name] = st
	c.wire.Send(&pgproto3.ParseComplete{})
}

func (c *session) describe(msg *pgproto3.Describe) {
	var fields []pgproto3.FieldDescription
	if msg.ObjectType == 'S' {
		st := c.statements[msg.Name]
		if st == nil {
			c.fail(missing("26000", "prepared statement", msg.Name))
			return
		}
		c.wire.Send(&pgproto3.ParameterDescription{ParameterOIDs: st.params})
		fields = st.fields
	} else {
		p := c.portals[msg.Name]
		if p == nil {
			c.fail(missing("34000", "portal", msg.Name))
			return
		}
		fields = p.described()
	}
	if len(fields) == 0 {
		c.wire.Send(&pgproto3.NoData{})
		return
	}
	c.wire.Send(&pgproto3.RowDescription{Fields: fields})
}

func (c *session) bind(msg *pgproto3.Bind) {
	st := c.statements[msg.PreparedStatement]
	if st == nil {
		c.fail(missing("26000", "prepared statement", msg.PreparedStatement))
		return
	}
	p, refused := c.bound(st, msg)
	if refused != nil {
		c.fail(refused)
		return
	}
	c.portals[msg.DestinationPortal] = p
	c.wire.Send(&pgproto3.BindComplete{})
}

// executePortal sends all rows at once, whatever Execute's limit says: pgx sets none.
func (c *session) executePortal(msg *pgproto3.Execute) {
	p := c.portals[msg.Portal]
	if p == nil {
		c.fail(missing("34000", "portal", msg.Portal))
		return
	}
	c.execute(p)
}

func (c *session) forget(msg *pgproto3.Close) {
	if msg.ObjectType == 'S' {
		delete(c.statements, msg.Name)
	} else {
		delete(c.portals, msg.Name)
	}
	c.wire.Send(&pgproto3.CloseComplete{})
}

func missing(code, what, name string) *pgconn.PgError {
	return &pgconn.PgError{Code: code, Message: what + ` "` + name + `" does not exist`}
}
