package sqlpooltest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Answer is what a [PostgresServer] answers to a statement.
type Answer struct {
	// Columns are the names of the columns of the result. None: the statement returns no rows.
	Columns []string

	// Rows are the rows, of Go values that pgx can encode as the type of their column.
	Rows [][]any

	// Types are the types of the columns, as the OIDs of package pgtype. None: those that suit the
	// first value in each column that is not nil, text where there is none.
	Types []uint32

	// Params are the types of the parameters. None: what the client says, or that each is what the
	// client's value is.
	Params []uint32

	// Affected is the number of rows that a statement without result has changed.
	Affected int

	// Func makes the rows from the arguments, in place of Rows. It needs Types, unless all columns
	// are text. Arguments have the Go type that pgx gives to their type in Params, and are strings
	// without Params; SQL's null is nil. It is called on the server's goroutine, concurrently for
	// different connections.
	Func func(args []any) ([][]any, error)

	// Delay is how long the statement takes. A cancel request ends it.
	Delay time.Duration

	// Err fails the statement: a *pgconn.PgError goes to the client as it is, anything else as
	// XX000 with its text.
	Err error
}

type registered struct {
	exact   string // normalized
	pattern *regexp.Regexp
	answer  Answer
}

// Answer says what to answer to a statement with exactly this text, but for white space and a
// semicolon at the end. Of several answers to the same statement the last one counts. It stands
// above what the server knows by itself (BEGIN, SET …).
func (s *PostgresServer) Answer(sql string, a Answer) {
	s.register(registered{exact: normalize(sql), answer: a})
}

// AnswerMatching is [PostgresServer.Answer] for every statement that the pattern is found in, its
// white space collapsed.
func (s *PostgresServer) AnswerMatching(pattern *regexp.Regexp, a Answer) {
	s.register(registered{pattern: pattern, answer: a})
}

func (s *PostgresServer) register(r registered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, r)
}

// answerTo returns the last answer that was registered for sql.
func (s *PostgresServer) answerTo(sql string) (Answer, bool) {
	sql = normalize(sql)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(s.answers) {
		if r.pattern != nil && r.pattern.MatchString(sql) || r.pattern == nil && r.exact == sql {
			return r.answer, true
		}
	}
	return Answer{}, false
}

// normalize collapses white space and takes off a semicolon at the end, and lines that are
// comments.
func normalize(sql string) string {
	var kept []string
	for line := range strings.Lines(sql) {
		if !strings.HasPrefix(strings.TrimSpace(line), "--") {
			kept = append(kept, line)
		}
	}
	sql = strings.Join(strings.Fields(strings.Join(kept, "")), " ")
	return strings.TrimSpace(strings.TrimSuffix(sql, ";"))
}

// words returns the words of a statement in capitals.
func words(sql string) []string {
	return strings.FieldsFunc(strings.ToUpper(normalize(sql)), func(r rune) bool {
		return r != '_' && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}

// writes says whether a statement would change something. It looks at words alone, and errs on the
// side of writing.
func writes(words []string) bool {
	if len(words) == 0 {
		return false
	}
	switch words[0] {
	case "INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "COPY", "VACUUM", "REINDEX":
		return true
	case "WITH":
		return slices.ContainsFunc(words, func(w string) bool {
			return w == "INSERT" || w == "UPDATE" || w == "DELETE" || w == "MERGE"
		})
	case "SELECT":
		for i, w := range words[:len(words)-1] {
			if next := words[i+1]; w == "FOR" && (next == "UPDATE" || next == "SHARE" || next == "NO" || next == "KEY") {
				return true
			}
		}
	}
	return false
}

// types returns the types of the columns.
func (a *Answer) types(m *pgtype.Map) ([]uint32, error) {
	if len(a.Types) > 0 {
		if len(a.Types) != len(a.Columns) {
			return nil, fmt.Errorf("sqlpooltest: the answer has %d types for %d columns", len(a.Types), len(a.Columns))
		}
		return a.Types, nil
	}
	out := make([]uint32, len(a.Columns))
	for i := range out {
		out[i] = pgtype.TextOID
		for _, row := range a.Rows {
			if i >= len(row) || row[i] == nil {
				continue
			}
			t, ok := m.TypeForValue(row[i])
			if !ok {
				return nil, fmt.Errorf("sqlpooltest: no PostgreSQL type is known for %T in column %q: say it in Types", row[i], a.Columns[i])
			}
			out[i] = t.OID
			break
		}
	}
	return out, nil
}

// tag is what CommandComplete says.
func (a *Answer) tag(words []string, rows int) string {
	verb := "SELECT"
	if len(words) > 0 {
		verb = words[0]
	}
	n := a.Affected
	if len(a.Columns) > 0 {
		n = rows
	}
	switch verb {
	case "INSERT":
		return fmt.Sprintf("INSERT 0 %d", n)
	case "UPDATE", "DELETE", "MERGE":
		return fmt.Sprintf("%s %d", verb, n)
	case "CREATE", "ALTER", "DROP":
		if len(words) > 1 {
			return verb + " " + words[1]
		}
		return verb
	}
	if len(a.Columns) > 0 {
		return fmt.Sprintf("SELECT %d", rows)
	}
	return verb
}

// asPgError makes an error fit for the wire.
func asPgError(err error) *pgconn.PgError {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e
	}
	return &pgconn.PgError{Severity: "ERROR", Code: "XX000", Message: err.Error()}
}
