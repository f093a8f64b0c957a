package sqlpool

import (
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// patientReader reports the failure of a connection in a way that keeps pgconn from losing it. After a statement without
// arguments pgconn peeks at the answer before it reads it, and drops the error of the peek. If that error has closed the
// connection, the read finds it closed, and pgconn calls the statement safe to retry although the server may have run it:
// database/sql sends it again. An error that is a timeout does not close the connection at the peek, so the read meets the
// error once more.
type patientReader struct {
	r   io.Reader
	err error // that ended the connection
}

// patient returns a BuildFrontend that reads through a patientReader.
func patient(build pgconn.BuildFrontendFunc) pgconn.BuildFrontendFunc {
	return func(r io.Reader, w io.Writer) *pgproto3.Frontend { return build(&patientReader{r: r}, w) }
}

func (p *patientReader) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.r.Read(b)
	if err == nil || n > 0 { // the next read meets the error again
		return n, nil
	}
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return 0, err
	}
	if err == io.EOF { //nolint:errorlint // as pgproto3 does, which does not look into an error
		err = io.ErrUnexpectedEOF
	}
	p.err = err
	return 0, &endError{error: err}
}

// endError is the first report of the error that ended a connection. It counts as a timeout when it is asked for the first
// time, by the peek, and then as what it is.
type endError struct {
	error

	asked bool
}

func (e *endError) Unwrap() error { return e.error }

func (e *endError) Temporary() bool { return false }

func (e *endError) Timeout() bool {
	first := !e.asked
	e.asked = true
	return first
}
