package redispool_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// newFakeServer returns the client's end of a connection to a server that knows PING, GET and
// BLPOP, in memory, so that it works in a synctest bubble. GET of "slow" takes a second. BLPOP
// always takes its timeout, and finds nothing.
func newFakeServer() net.Conn {
	client, server := net.Pipe()
	// It ends when the client's end is closed.
	go func() {
		defer func() { _ = server.Close() }()
		in := bufio.NewReader(server)
		for {
			args, err := readCommand(in)
			if err != nil {
				return
			}
			reply := "-ERR unknown command\r\n" // HELLO and CLIENT too, which go-redis does without
			switch strings.ToLower(args[0]) {
			case "auth":
				reply = "+OK\r\n"
			case "ping":
				reply = "+PONG\r\n"
			case "get":
				if args[1] == "slow" {
					<-time.After(time.Second)
				}
				reply = "$5\r\nvalue\r\n"
			case "blpop":
				limit, _ := strconv.Atoi(args[len(args)-1])
				<-time.After(time.Duration(limit) * time.Second)
				reply = "*-1\r\n"
			}
			if _, err := io.WriteString(server, reply); err != nil {
				return
			}
		}
	}()
	return client
}

func readCommand(in *bufio.Reader) ([]string, error) {
	n, err := readNumber(in, '*')
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		size, err := readNumber(in, '$')
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, err
		}
		args[i] = string(b[:size])
	}
	return args, nil
}

func readNumber(in *bufio.Reader, kind byte) (int, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != kind {
		return 0, fmt.Errorf("%q where %q was expected", line, kind)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}
