package sqlpooltest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// prepare finds the answer to a statement, or says why there is none.
func (c *session) prepare(sql string, oids []uint32) (*statement, *pgconn.PgError) {
	a, ok := c.srv.answerTo(sql)
	if !ok {
		a, ok = c.builtIn(sql)
	}
	if !ok {
		return nil, refusalOf(sql)
	}
	types, err := a.types(c.types)
	if err != nil {
		return nil, asPgError(err)
	}
	st := &statement{sql: sql, answer: a, params: make([]uint32, params(sql))}
	copy(st.params, oids)
	copy(st.params, a.Params)
	for i, name := range a.Columns {
		st.fields = append(st.fields, pgproto3.FieldDescription{
			Name: []byte(name), DataTypeOID: types[i], DataTypeSize: -1, TypeModifier: -1,
		})
	}
	return st, nil
}

func refusalOf(sql string) *pgconn.PgError {
	if w := words(sql); len(w) > 0 && w[0] == "COPY" {
		return &pgconn.PgError{Code: "0A000", Message: "sqlpooltest: COPY is not supported: the fake server has no tables"}
	}
	return &pgconn.PgError{
		Code:    "XX000",
		Message: fmt.Sprintf("sqlpooltest: no answer is registered for %q: say it with Answer or AnswerMatching", normalize(sql)),
	}
}

var placeholder = regexp.MustCompile(`\$(\d+)`)

// params returns how many parameters a statement has: its highest placeholder.
func params(sql string) int {
	highest := 0
	for _, m := range placeholder.FindAllStringSubmatch(sql, -1) {
		if n, err := strconv.Atoi(m[1]); err == nil && n <= 1<<16 {
			highest = max(highest, n)
		}
	}
	return highest
}

// builtIn answers what needs no data: control of transactions and session, and what the pool itself
// asks.
func (c *session) builtIn(sql string) (Answer, bool) {
	if own(sql) {
		return c.ownAnswer(sql), true
	}
	w := words(sql)
	if len(w) == 0 {
		return Answer{}, true
	}
	switch w[0] {
	case "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE",
		"SET", "RESET", "DISCARD", "DEALLOCATE", "LISTEN", "UNLISTEN":
		return Answer{}, true
	default:
		return Answer{}, false
	}
}

// own says whether a statement is one of sqlpool's: how far behind a standby is, and what a server
// grants.
func own(sql string) bool {
	sql = normalize(sql)
	return strings.HasPrefix(sql, "select pg_is_in_recovery()") || strings.HasPrefix(sql, "select current_setting('max_connections')")
}

func (c *session) ownAnswer(sql string) Answer {
	if !strings.Contains(sql, "pg_is_in_recovery") {
		return Answer{
			Columns: []string{"max", "reserved", "role", "database", "now", "idle", "port", "pid", "until"},
			Rows:    [][]any{{int32(100), int32(3), int32(-1), int32(-1), int64(c.srv.Connections()), int64(0), int32(0), int32(c.pid), int64(0)}}, //nolint:gosec // a small number
		}
	}
	f := c.srv.faultsNow()
	behind := 0.0
	if f.standby {
		behind = f.lag.Seconds()
	}
	return Answer{
		Columns: []string{"standby", "position", "behind", "caught_up"},
		Rows:    [][]any{{f.standby, int64(0), behind, behind == 0}},
	}
}

// note keeps a statement for Queries, unless it is a ping or the pool's own.
func (c *session) note(sql string, args []any) {
	if normalize(sql) != "" && !own(sql) {
		c.srv.record(Query{SQL: sql, Args: args})
	}
}

// bound decodes the arguments of a Bind. The answer is the one of now, which may be another than
// when the statement was prepared; its columns must not.
func (c *session) bound(old *statement, msg *pgproto3.Bind) (*portal, *pgconn.PgError) {
	st, refused := c.prepare(old.sql, old.params)
	if refused != nil {
		return nil, refused
	}
	same := func(a, b pgproto3.FieldDescription) bool {
		return string(a.Name) == string(b.Name) && a.DataTypeOID == b.DataTypeOID
	}
	if !slices.EqualFunc(st.fields, old.fields, same) {
		return nil, &pgconn.PgError{Code: "0A000", Message: "cached plan must not change result type"}
	}
	if len(msg.Parameters) != len(st.params) {
		return nil, &pgconn.PgError{Code: "08P01", Message: fmt.Sprintf(
			"bind message supplies %d parameters, but the statement requires %d", len(msg.Parameters), len(st.params),
		)}
	}
	p := &portal{statement: st, formats: slices.Clone(msg.ResultFormatCodes)}
	for i, raw := range msg.Parameters {
		v, err := c.decode(st.params[i], format(msg.ParameterFormatCodes, i), raw)
		if err != nil {
			return nil, &pgconn.PgError{Code: "22P03", Message: fmt.Sprintf("parameter $%d: %v", i+1, err)}
		}
		p.args = append(p.args, v)
	}
	return p, nil
}

func (c *session) decode(oid uint32, format int16, raw []byte) (any, error) {
	if raw == nil {
		return nil, nil //nolint:nilnil // SQL's null
	}
	if t, ok := c.types.TypeForOID(oid); ok {
		return t.Codec.DecodeValue(c.types, oid, format, raw)
	}
	if format == pgtype.BinaryFormatCode {
		return slices.Clone(raw), nil
	}
	return string(raw), nil
}

// format is the rule of the protocol: no code is text, one is for all.
func format(codes []int16, i int) int16 {
	switch len(codes) {
	case 0:
		return pgtype.TextFormatCode
	case 1:
		return codes[0]
	}
	if i < len(codes) {
		return codes[i]
	}
	return pgtype.TextFormatCode
}

// described returns the fields with the formats that were asked for.
func (p *portal) described() []pgproto3.FieldDescription {
	fields := slices.Clone(p.fields)
	for i := range fields {
		fields[i].Format = format(p.formats, i)
	}
	return fields
}

// execute runs a portal and sends its rows and how it ended.
func (c *session) execute(p *portal) {
	c.note(p.sql, p.args)
	w := words(p.sql)
	if len(w) == 0 && len(p.fields) == 0 {
		c.wire.Send(&pgproto3.EmptyQueryResponse{})
		return
	}
	rows, refused := c.outcome(p, w)
	if refused != nil {
		c.fail(refused)
		return
	}
	for _, row := range rows {
		values, err := c.encode(p, row)
		if err != nil {
			c.fail(asPgError(err))
			return
		}
		c.wire.Send(&pgproto3.DataRow{Values: values})
	}
	tag := c.control(w)
	if tag == "" {
		tag = p.answer.tag(w, len(rows))
	}
	c.wire.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
}

// outcome is what running a statement comes to: its rows, or an error.
func (c *session) outcome(p *portal, words []string) ([][]any, *pgconn.PgError) {
	ends := len(words) > 0 && slices.Contains([]string{"ROLLBACK", "ABORT", "COMMIT", "END"}, words[0])
	f := c.srv.faultsNow()
	if !own(p.sql) {
		if e := c.take(f.slow + p.answer.Delay); e != nil {
			return nil, e
		}
	}
	switch {
	case ends, own(p.sql):
	case c.status == 'E':
		return nil, &pgconn.PgError{Code: "25P02", Message: "current transaction is aborted, commands ignored until end of transaction block"}
	case f.query != nil:
		return nil, f.query
	case (f.readOnly || c.readOnly) && writes(words):
		return nil, &pgconn.PgError{Code: "25006", Message: "cannot execute " + words[0] + " in a read-only transaction"}
	}
	if p.answer.Err != nil {
		return nil, asPgError(p.answer.Err)
	}
	if p.answer.Func == nil {
		return p.answer.Rows, nil
	}
	rows, err := p.answer.Func(p.args)
	return rows, asPgError(err)
}

// take lets d pass, unless the client cancels or is gone.
func (c *session) take(d time.Duration) *pgconn.PgError {
	select { // a cancel request that came too late was for the statement before
	case <-c.cancelled:
	default:
	}
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.gone:
		return &pgconn.PgError{Severity: "FATAL", Code: "57P01", Message: "the connection was ended"}
	case <-c.cancelled:
		return &pgconn.PgError{Code: "57014", Message: "canceling statement due to user request"}
	}
}

// control keeps track of the transaction, and returns the tag of a statement that controls one.
func (c *session) control(words []string) string {
	if len(words) == 0 {
		return ""
	}
	switch words[0] {
	case "BEGIN", "START":
		c.status, c.readOnly = 'T', containsPair(words, "READ", "ONLY")
		return map[string]string{"BEGIN": "BEGIN", "START": "START TRANSACTION"}[words[0]]
	case "COMMIT", "END":
		tag := "COMMIT"
		if c.status == 'E' {
			tag = "ROLLBACK" // as the real one says
		}
		c.status, c.readOnly = 'I', false
		return tag
	case "ROLLBACK", "ABORT":
		if slices.Contains(words, "TO") {
			c.status = 'T'
			return "ROLLBACK"
		}
		c.status, c.readOnly = 'I', false
		return "ROLLBACK"
	}
	return ""
}

func containsPair(words []string, first, second string) bool {
	for i := range len(words) - 1 {
		if words[i] == first && words[i+1] == second {
			return true
		}
	}
	return false
}

func (c *session) encode(p *portal, row []any) ([][]byte, error) {
	if len(row) != len(p.fields) {
		return nil, fmt.Errorf("sqlpooltest: the answer to %q has a row of %d values for %d columns", normalize(p.sql), len(row), len(p.fields))
	}
	out := make([][]byte, len(row))
	for i, v := range row {
		f := p.fields[i]
		b, err := c.types.Encode(f.DataTypeOID, format(p.formats, i), v, []byte{})
		if err != nil {
			return nil, fmt.Errorf("sqlpooltest: the answer to %q, column %q: %w", normalize(p.sql), f.Name, err)
		}
		out[i] = b // nil is null, and empty is not
	}
	return out, nil
}
