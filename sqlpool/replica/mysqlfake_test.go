package replica_test

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// fakeMySQL says over the wire what a MySQL server would: it stands for versions that are not at
// hand here. It takes any password, and answers queries by their beginning, in lower case; the
// longest that is known wins.
type fakeMySQL struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu      sync.Mutex // guards the following
	answers map[string]mysqlAnswer
	asked   map[string]int // how often, by the beginning that was answered
	conns   map[net.Conn]struct{}
	refuses bool
}

// mysqlAnswer is a result, or an error. A nil value is NULL.
type mysqlAnswer struct {
	columns []string
	rows    [][]any
	err     *mysql.MySQLError
	cut     bool // the connection ends before the answer does
}

// row is an answer of one row, whose columns have no names.
func row(values ...any) mysqlAnswer {
	return mysqlAnswer{columns: make([]string, len(values)), rows: [][]any{values}}
}

func serveMySQL(tb testing.TB, answers map[string]mysqlAnswer) *fakeMySQL {
	tb.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("%v", err)
	}
	s := &fakeMySQL{listener: l, answers: answers, asked: map[string]int{}, conns: map[net.Conn]struct{}{}}
	s.serving.Go(s.accept) // ends when the listener is closed; the cleanup waits
	tb.Cleanup(func() {
		_ = l.Close()
		s.down()
		s.serving.Wait()
	})
	return s
}

func (s *fakeMySQL) url() string { return "mysql://root@" + s.listener.Addr().String() + "/" }

// set changes an answer.
func (s *fakeMySQL) set(query string, a mysqlAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[query] = a
}

func (s *fakeMySQL) count(query string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[query]
}

// down closes every connection, and new ones as they come; up ends that.
func (s *fakeMySQL) down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = true
	for c := range s.conns {
		_ = c.Close()
	}
}

func (s *fakeMySQL) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		refuses := s.refuses
		if !refuses {
			s.conns[c] = struct{}{}
		}
		s.mu.Unlock()
		if refuses {
			_ = c.Close()
			continue
		}
		s.serving.Go(func() { // ends with the connection
			s.serve(c)
			_ = c.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.conns, c)
		})
	}
}

// serve follows "Client/Server Protocol" of MySQL's documentation of its source: protocol 4.1 with
// EOF packets.
func (s *fakeMySQL) serve(c net.Conn) {
	w := mysqlWire{c: c}
	const capabilities = 0x8 | 0x200 | 0x2000 | 0x8000 | 0x80000 // database, 4.1, transactions, secure, plugins
	hello := append([]byte{10}, "8.0.36\x00\x01\x00\x00\x00abcdefgh\x00"...)
	hello = binary.LittleEndian.AppendUint16(hello, capabilities&0xffff)
	hello = append(hello, 45, 2, 0)
	hello = binary.LittleEndian.AppendUint16(hello, capabilities>>16)
	hello = append(hello, 21)
	hello = append(hello, make([]byte, 10)...)
	hello = append(hello, "ijklmnopqrst\x00mysql_native_password\x00"...)
	if w.send(hello) != nil {
		return
	}
	if _, err := w.receive(); err != nil {
		return
	}
	ok := []byte{0, 0, 0, 2, 0, 0, 0}
	for err := w.send(ok); err == nil; {
		var p []byte
		if p, err = w.receive(); err != nil || len(p) == 0 {
			return
		}
		switch begun := strings.ToLower(string(p[1:])); {
		case p[0] == 3 && (strings.HasPrefix(begun, "start transaction") || begun == "rollback" || begun == "commit"):
			err = w.send(ok)
		case p[0] == 3: // COM_QUERY
			err = w.answer(s.answerTo(string(p[1:])))
		case p[0] == 14: // COM_PING
			err = w.send(ok)
		default: // COM_QUIT, and commands that no test sends
			return
		}
	}
}

func (s *fakeMySQL) answerTo(query string) mysqlAnswer {
	query = strings.ToLower(query)
	s.mu.Lock()
	defer s.mu.Unlock()
	best, found := "", false
	for known := range s.answers {
		if strings.HasPrefix(query, known) && len(known) >= len(best) {
			best, found = known, true
		}
	}
	if !found {
		return mysqlAnswer{err: &mysql.MySQLError{Number: 1064, Message: "You have an error in your SQL syntax"}}
	}
	s.asked[best]++
	return s.answers[best]
}

// mysqlWire is the framing: a length of three bytes, and a number.
type mysqlWire struct {
	c   net.Conn
	seq byte
}

func (w *mysqlWire) send(p []byte) error {
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(p))) //nolint:gosec // short
	head[3] = w.seq
	w.seq++
	_, err := w.c.Write(append(head, p...))
	return err
}

func (w *mysqlWire) receive() ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(w.c, head); err != nil {
		return nil, err
	}
	w.seq = head[3] + 1
	head[3] = 0
	p := make([]byte, binary.LittleEndian.Uint32(head))
	_, err := io.ReadFull(w.c, p)
	return p, err
}

func (w *mysqlWire) answer(a mysqlAnswer) error {
	if a.err != nil {
		p := binary.LittleEndian.AppendUint16([]byte{0xff}, a.err.Number)
		return w.send(append(append(p, "#HY000"...), a.err.Message...))
	}
	eof := []byte{0xfe, 0, 0, 2, 0}
	packets := [][]byte{{byte(len(a.columns))}}
	for _, name := range a.columns {
		var p []byte
		for _, part := range []string{"def", "", "", "", name, name} {
			p = appendText(p, part)
		}
		packets = append(packets, append(p, 12, 45, 0, 0, 4, 0, 0, 0xfd, 0, 0, 0, 0, 0))
	}
	packets = append(packets, eof)
	for _, row := range a.rows {
		var p []byte
		for _, v := range row {
			if text, ok := v.(string); ok {
				p = appendText(p, text)
			} else {
				p = append(p, 0xfb)
			}
		}
		packets = append(packets, p)
	}
	if packets = append(packets, eof); a.cut {
		packets = packets[:len(packets)-1]
	}
	for _, p := range packets {
		if err := w.send(p); err != nil {
			return err
		}
	}
	if a.cut {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// appendText appends a length and a text.
func appendText(p []byte, text string) []byte {
	if len(text) > 250 {
		p = binary.LittleEndian.AppendUint16(append(p, 0xfc), uint16(len(text))) //nolint:gosec // short
	} else {
		p = append(p, byte(len(text)))
	}
	return append(p, text...)
}
