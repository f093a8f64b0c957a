//go:build unix

package testserver

import (
	"os/exec"
	"syscall"
)

// credential is the user that a server runs as.
type credential = syscall.Credential

const (
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

func signalPid(pid int, sig syscall.Signal) error { return syscall.Kill(pid, sig) }

// kill ends the process and its children at once.
func kill(cmd *exec.Cmd) {
	for _, pid := range family(cmd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // one that is gone already is what we want
	}
}
