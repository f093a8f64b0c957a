package redispool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// checkGoRedis reports how the go-redis in this program behaves otherwise than the pool needs to
// know its sessions, or nil. It uses no network.
//
//nolint:gochecknoglobals // the answer is a constant of the program
var checkGoRedis = sync.OnceValue(func() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("a command with a token panics: %v", r)
		}
	}()
	t := &tryout{wants: chainRoot}
	t.client = redis.NewClient(&redis.Options{
		Addr: "tryout", Dialer: t.dial, Protocol: 2, PoolSize: 2, PipelinePoolSize: -1, MaxRetries: -1,
		DisableIdentity: true, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.own = t.client.WithTimeout(time.Second)
	err = t.run()
	return errors.Join(err, t.client.Close())
})

// tryout is a client of go-redis that a server within the program answers, and the hook that
// watches it.
type tryout struct {
	client, own *redis.Client
	dials       int
	conn        *tryoutConn // dialled last

	wants   chainKind // what chains are built for now
	built   int       // how many
	wrong   int       // how many were told to be for something else
	command redis.ProcessHook
	ways    []redis.ProcessPipelineHook // for pipelines, of the chain built last
}

// DialHook implements redis.Hook.
func (*tryout) DialHook(redis.DialHook) redis.DialHook { return nil }

// ProcessHook implements redis.Hook.
func (t *tryout) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	t.note(kindOfChain(1))
	t.command, t.ways = next, nil
	return nil
}

// ProcessPipelineHook implements redis.Hook.
func (t *tryout) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	t.note(kindOfChain(1))
	t.ways = append(t.ways, next)
	return nil
}

func (t *tryout) note(kind chainKind) {
	t.built++
	if kind != t.wants {
		t.wrong++
	}
}

// dial opens a connection to the server within the program.
func (t *tryout) dial(context.Context, string, string) (net.Conn, error) {
	t.dials++
	t.conn = &tryoutConn{serial: t.dials}
	return t.conn, nil
}

func (t *tryout) run() error {
	ctx := context.Background() //nolint:forbidigo // nothing here waits
	t.client.AddHook(t)
	if err := t.told("AddHook", 3); err != nil {
		return err
	}
	t.wants = chainConn
	_ = t.client.EphemeralConn().Close()
	lent := t.client.Conn()
	if err := t.told("Conn and EphemeralConn", 6); err != nil {
		return err
	}
	if err := t.asks(ctx); err != nil {
		return err
	}
	if err := lent.Close(); err != nil {
		return err
	}
	t.wants = chainWatch
	if err := t.client.Watch(ctx, func(*redis.Tx) error { return nil }); err != nil {
		return err
	}
	if err := t.told("Watch", 3); err != nil {
		return err
	}
	return t.lends(ctx)
}

// told reports an error if not all chains built meanwhile were told.
func (t *tryout) told(method string, built int) error {
	defer func() { t.built, t.wrong = 0, 0 }()
	if t.built != built || t.wrong > 0 {
		return fmt.Errorf("%d of %d chains of hooks by %s were recognised", t.built-t.wrong, built, method)
	}
	return nil
}

// asks acquires the connection of a Conn in all ways.
func (t *tryout) asks(ctx context.Context) error {
	command, ways := t.command, t.ways
	if _, err := askByCommand(withEnd(ctx), command); !errors.Is(err, context.Canceled) || t.dials != 0 {
		return fmt.Errorf("a Conn without a connection, asked with a context that has ended: %d dials, %w", t.dials, err)
	}
	t.wants = chainUnknown // the handshake
	answer, err := askByCommand(ctx, command)
	t.built = 0
	if err != nil || answer != "1" || t.wrong > 0 {
		return fmt.Errorf("a Conn's connection is %q, not 1, with %d handshakes not recognised: %w", answer, t.wrong, err)
	}
	for _, next := range ways {
		if answer, err := askByPipeline(withEnd(ctx), next); err != nil || answer != "1" {
			return fmt.Errorf("a Conn's connection by a pipeline is %q, not 1: %w", answer, err)
		}
	}
	return nil
}

// lends borrows the connection that is idle, and then makes it refuse its checkout.
func (t *tryout) lends(ctx context.Context) error {
	for serial := 1; serial <= 2; serial++ {
		lent := t.own.Conn()
		answer, err := askByCommand(ctx, lent.Process)
		if err != nil || answer != fmt.Sprint(serial) || t.built > 0 || !t.conn.checkedOut && serial == 1 {
			return fmt.Errorf("the pool's own Conn got connection %q, want %d (checked: %v): %w", answer, serial, t.conn.checkedOut, err)
		}
		t.conn.refuses = true
		if err := lent.Close(); err != nil {
			return err
		}
	}
	return nil
}

// tryoutConn is a connection to a server that knows no command. It answers tokens.
type tryoutConn struct {
	unusedConn

	serial     int
	answer     []byte
	clears     bool
	checkedOut bool
	refuses    bool
}

// Write answers what is written.
func (c *tryoutConn) Write(b []byte) (int, error) {
	switch string(b) {
	case string(pingToken):
		c.answer = fmt.Appendf(nil, "+%d\r\n", c.serial)
	case string(multiToken):
		c.answer = fmt.Appendf(nil, "+%d\r\n+%s\r\n*1\r\n+%[1]d\r\n", c.serial, queued)
	default:
		c.answer = []byte("-ERR unknown command\r\n")
	}
	return len(b), nil
}

// Read returns the answer.
func (c *tryoutConn) Read(b []byte) (int, error) {
	if len(c.answer) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.answer)
	c.answer = c.answer[n:]
	return n, nil
}

// SetDeadline notes the first step of a checkout.
func (c *tryoutConn) SetDeadline(t time.Time) error {
	c.clears = t.IsZero()
	return nil
}

// SyscallConn notes the second one.
func (c *tryoutConn) SyscallConn() (syscall.RawConn, error) {
	if c.clears && c.refuses {
		return nil, errCondemned
	}
	c.checkedOut = c.checkedOut || c.clears
	c.clears = false
	return blindConn{}, nil
}

// unusedConn has the methods of a connection that do nothing.
type unusedConn struct{ net.Conn }

func (unusedConn) Close() error                     { return nil }
func (unusedConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (unusedConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (unusedConn) SetReadDeadline(time.Time) error  { return nil }
func (unusedConn) SetWriteDeadline(time.Time) error { return nil }
