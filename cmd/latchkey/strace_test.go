//go:build torture

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tracer is an strace that does something to the system calls of a process.
type tracer struct {
	t      testing.TB
	cmd    *exec.Cmd
	output string
	ended  chan struct{}
}

// trace attaches to a running process; what inject says is as strace has it, and holds for every call of -e trace=calls from now on. The
// count of its when= is each thread's own. If files are named only calls about them count.
func (v *victim) trace(calls, inject string, files ...string) *tracer {
	v.t.Helper()
	tr := &tracer{t: v.t, output: filepath.Join(v.t.TempDir(), "strace.out"), ended: make(chan struct{})}
	said := filepath.Join(filepath.Dir(tr.output), "strace.err")
	errs, err := os.Create(said)
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = errs.Close() }() // the child has its own
	tr.cmd = exec.Command("strace", "-f", "-y", "-o", tr.output, "-p", fmt.Sprint(v.cmd.Process.Pid),
		"-e", "trace="+calls, "-e", "inject="+calls+":"+inject)
	for _, name := range files {
		tr.cmd.Args = append(tr.cmd.Args, "-P", filepath.Join(v.dir, name))
	}
	tr.cmd.Stderr = errs
	tr.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := tr.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	go func() {
		_ = tr.cmd.Wait() // stopped, or the process that it watched has ended
		close(tr.ended)
	}()
	v.t.Cleanup(tr.detach)
	v.tracer = tr
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		text, err := os.ReadFile(said)
		if err != nil {
			v.t.Fatal(err)
		}
		if bytes.Contains(text, []byte(" attached")) {
			return tr
		}
		if tr.over() || time.Now().After(end) {
			v.t.Fatalf("strace does not attach: %s", text)
		}
	}
}

func (tr *tracer) over() bool {
	select {
	case <-tr.ended:
		return true
	default:
		return false
	}
}

func (tr *tracer) signal(s syscall.Signal) {
	_ = tr.cmd.Process.Signal(s) // it may have ended with the process
}

// detach lets the process go on by itself. It may be called again.
func (tr *tracer) detach() {
	tr.signal(syscall.SIGINT)
	select {
	case <-tr.ended:
	case <-time.After(patience):
		_ = tr.cmd.Process.Kill() // it may have ended in this moment
		<-tr.ended
		tr.t.Error("strace does not detach")
	}
}

// injected are the lines of the calls that were made to fail.
func (tr *tracer) injected() (lines []string) {
	tr.t.Helper()
	text, err := os.ReadFile(tr.output)
	if err != nil {
		tr.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "(INJECTED)") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// traced is the file that a call was about, as strace -y shows descriptors.
var traced = regexp.MustCompile(`\d+<([^>]*)>`)

// trap makes a process get a signal at one of its next system calls that change what is on the device; chance says which. With SIGKILL
// the call is not made; with SIGSTOP it is, or is not.
func (v *victim) trap(dice *rand.Rand, signal string) *tracer {
	v.t.Helper()
	calls := []string{"fdatasync", "fdatasync", "fsync", "pwrite64", "?renameat,?renameat2", "?unlinkat,?unlink", "fallocate", "ftruncate", "openat"}
	inject := fmt.Sprintf("signal=%s:when=%d", signal, 1+dice.IntN(8))
	if signal == "SIGSTOP" && dice.IntN(2) == 0 {
		inject += ":error=EIO" // which the process never learns
	}
	call := calls[dice.IntN(len(calls))]
	v.t.Logf("trap: %s %s", call, inject)
	return v.trace(call, inject)
}

// awaitTrap waits until a condition holds, for as long as a trap deserves: the call may never be made.
func awaitTrap(sprung func() bool) bool {
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for end := time.Now().Add(400 * time.Millisecond); !sprung(); <-tick.C {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
