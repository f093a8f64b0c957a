//go:build unix && !linux

package testserver

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

func attributes(cred *credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: cred}
}

// family returns pid and its children, the parent first.
func family(pid int) []int {
	pids := []int{pid}
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output() //nolint:noctx // ends by itself
	if err != nil {
		return pids
	}
	for _, f := range strings.Fields(string(out)) {
		if child, err := strconv.Atoi(f); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}
