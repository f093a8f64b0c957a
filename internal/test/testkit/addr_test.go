package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// claimEnv names ports, separated by blanks, that another process is to claim, see TestMain.
const claimEnv = "POOLKEEPER_TEST_CLAIM"

func TestClaimedAddressIsFreeAndNobodyElses(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		addr := testkit.FreeAddr(t)
		if seen[addr] {
			t.Fatalf("%s was given twice", addr)
		}
		seen[addr] = true
		if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("dial %s: %v %v, want connection refused", addr, c, err)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Two packages are tested at the same time, and each starts servers.
func TestClaimedPortIsRefusedToAnotherProcessUntilItIsGivenBack(t *testing.T) {
	var ports []string
	var releases []func()
	for range 20 {
		addr, release, err := testkit.ClaimAddr(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(addr)
		ports, releases = append(ports, port), append(releases, release)
	}
	if got := claimedElsewhere(t, ports); got != 0 {
		t.Errorf("another process got %d of %d ports that are ours", got, len(ports))
	}
	for _, release := range releases {
		release()
		release() // gives back once
	}
	if got := claimedElsewhere(t, ports); got != len(ports) {
		t.Errorf("another process got %d of %d ports that were given back", got, len(ports))
	}
}

// claimedElsewhere is how many of the ports another process can claim.
func claimedElsewhere(t *testing.T, ports []string) (n int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), claimEnv+"="+strings.Join(ports, " "))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, answer, found := strings.Cut(string(out), "claimed: ")
	if _, err := fmt.Sscan(answer, &n); err != nil || !found {
		t.Fatalf("%v\n%s", err, out)
	}
	return n
}

// claim is what the other process does instead of tests.
func claim(asked string) error {
	n := 0
	for port := range strings.FieldsSeq(asked) {
		p, err := strconv.Atoi(port)
		if err != nil {
			return err
		}
		got, err := testkit.Claim(context.Background(), p)
		if err != nil {
			return err
		}
		if got {
			n++
		}
	}
	_, err := fmt.Println("claimed:", n)
	return err
}

func TestPortThatSomebodyListensAtIsNotClaimed(t *testing.T) {
	addr := testkit.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	p, _ := strconv.Atoi(port)
	testkit.GiveUp(p)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := testkit.Claim(t.Context(), p); got || err != nil {
		t.Errorf("claimed %v %v, although somebody listens", got, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := testkit.Claim(t.Context(), p); !got || err != nil {
		t.Errorf("claimed %v %v, and nobody listens any more", got, err)
	}
}
