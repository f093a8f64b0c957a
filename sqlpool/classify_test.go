package sqlpool_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestClassifyKnowsTheDriversErrors(t *testing.T) {
	pg := func(code string) error { return &pgconn.PgError{Code: code} }
	my := func(number uint16) error { return &mysql.MySQLError{Number: number} }
	for _, tt := range []struct {
		err  error
		want health.Kind
	}{
		{nil, health.KindNone},
		{pg("57P01"), health.KindShuttingDown},
		{pg("57P02"), health.KindShuttingDown},
		{pg("57P03"), health.KindStarting},
		{pg("57P05"), health.KindReset},
		{pg("57014"), health.KindCanceled},
		{pg("53300"), health.KindTooManyConnections},
		{pg("53200"), health.KindResources},
		{pg("58030"), health.KindResources},
		{pg("25006"), health.KindReadOnly},
		{pg("3D000"), health.KindNotFound},
		{pg("42501"), health.KindAuthorization},
		{pg("28P01"), health.KindAuthentication},
		{pg("28000"), health.KindAuthentication},
		{pg("08006"), health.KindReset},
		{pg("08P01"), health.KindProtocol},
		{pg("23505"), health.KindUnknown},
		{my(1040), health.KindTooManyConnections},
		{my(1203), health.KindTooManyConnections},
		{my(1045), health.KindAuthentication},
		{my(1044), health.KindAuthorization},
		{my(1130), health.KindAuthorization},
		{my(1049), health.KindNotFound},
		{my(1053), health.KindShuttingDown},
		{my(1290), health.KindReadOnly},
		{my(1792), health.KindReadOnly},
		{my(1836), health.KindReadOnly},
		{my(1021), health.KindResources},
		{my(1317), health.KindCanceled},
		{my(1927), health.KindReset},
		{my(1062), health.KindUnknown},
		{mysql.ErrInvalidConn, health.KindReset},
		{driver.ErrBadConn, health.KindReset},
		{errors.New("closed pool"), health.KindDraining},
		{poolkeeper.ErrDraining, health.KindDraining},
		{context.DeadlineExceeded, health.KindTimeout},
		{&poolkeeper.AcquireError{Err: poolkeeper.ErrAcquireTimeout}, health.KindPoolExhausted},
		{&poolkeeper.AcquireError{Err: context.Canceled}, health.KindCanceled},
		{io.ErrNoProgress, health.KindUnknown},
	} {
		if got := sqlpool.Classify(tt.err); got.Kind != tt.want {
			t.Errorf("Classify(%v) is %q, want %q", tt.err, got.Kind, tt.want)
		}
		if tt.err == nil {
			continue
		}
		if got := sqlpool.Classify(fmt.Errorf("wrapped: %w", tt.err)); got.Kind != tt.want && tt.err.Error() != "closed pool" {
			t.Errorf("wrapped %v is %q, want %q", tt.err, got.Kind, tt.want)
		}
	}
}

// What Check returns must mean something to health, which knows no driver.
func TestErrorsOfChecksAnswerHealth(t *testing.T) {
	s := newFakeServer()
	s.dial.set(func(context.Context) error { return &mysql.MySQLError{Number: 1040, Message: "Too many connections"} })
	p, err := sqlpool.NewDB(s, sqlpool.DBConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, p)
	err = p.Check(t.Context())
	if got := health.Classify(err).Kind; got != health.KindTooManyConnections {
		t.Errorf("health.Classify(%v) is %q", err, got)
	}
	if _, ok := errors.AsType[*mysql.MySQLError](err); !ok {
		t.Errorf("the driver's error is not in %v", err)
	}
}

func TestAcquireTimeoutIsATimeoutToCodeThatKnowsOnlyNet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakePool(t, newFakeServer(), sqlpool.DBConfig{MaxOpen: 1})
		c := hold(t, p)
		_, err := p.DB().ExecContext(t.Context(), "x")
		if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
			t.Errorf("%v has no Timeout", err)
		}
		_ = c.Close()
		stop(t, p)
	})
}
