//go:build !unix

package testserver

import (
	"errors"
	"os/exec"
	"syscall"
)

// Windows has no signals that stop a process and let it go on. Servers are started and killed
// there, and tests that freeze them fail.
const (
	sigStop = syscall.Signal(-1)
	sigCont = syscall.Signal(-2)
)

// credential is the user that a server runs as: here always our own.
type credential struct{ Uid, Gid uint32 }

func attributes(*credential) *syscall.SysProcAttr { return nil }

// family returns pid alone: children are not looked for.
func family(pid int) []int { return []int{pid} }

func signalPid(int, syscall.Signal) error { return errors.ErrUnsupported }

// kill ends the process at once.
func kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
