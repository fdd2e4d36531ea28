//go:build torture

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startFaults are system calls that fail while a server starts.
func startFaults() (list []fault) {
	for n := 1; n <= 4; n++ {
		list = append(list,
			fault{calls: "fdatasync,fsync", inject: fmt.Sprintf("error=EIO:when=%d", n)},
			fault{calls: "pwrite64", inject: fmt.Sprintf("error=EIO:when=%d", n)},
			fault{calls: "pwrite64", inject: fmt.Sprintf("error=ENOSPC:when=%d+", n)},
			fault{calls: "pread64", inject: fmt.Sprintf("error=EIO:when=%d", n)},
			fault{calls: "?renameat,?renameat2,?unlinkat", inject: fmt.Sprintf("error=EIO:when=%d", n)},
			fault{calls: "ftruncate,fallocate", inject: fmt.Sprintf("error=ENOSPC:when=%d+", n)},
			fault{calls: "openat", inject: fmt.Sprintf("error=EMFILE:when=%d+", 4*n)},
			fault{calls: "?getdents64", inject: fmt.Sprintf("error=EIO:when=%d", n)},
		)
	}
	return list
}

// TestTortureFaultyStart kills a server at work, and makes a system call of the next start fail. It does not start, and says why, or it runs;
// the start after that has everything that was acknowledged.
func TestTortureFaultyStart(t *testing.T) {
	need(t, "strace")
	seed := newSeed(t)
	list := startFaults()
	dice := rand.New(rand.NewPCG(seed, 1<<32))
	if n := rounds(len(list), 6); n < len(list) {
		dice.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		list = list[:n]
	}
	v, l := newVictim(t, filepath.Join(t.TempDir(), "data")), newLedger(mailboxes()...)
	v.populate("anna", "carl")
	met, refused := 0, 0
	for i, fault := range list {
		v.where = fmt.Sprintf("fault %d, %s", i, fault)
		v.start()
		f := &traffic{v: v, l: l, name: fmt.Sprintf("s%d", i), seed: dice.Uint64()}
		f.begin(4, 2)
		f.run(t, dice)
		v.kill()
		f.wait()
		output := filepath.Join(t.TempDir(), "strace.out")
		v.wrapper = []string{"strace", "-D", "-f", "-y", "-o", output, "-e", "trace=" + fault.calls, "-e", "inject=" + fault.calls + ":" + fault.inject}
		if err := v.tryStart(); err != nil {
			refused++
			t.Logf("%s: %v", fault, err)
			v.wantReason(fault)
		} else {
			v.halfWell(l, fmt.Sprintf("h%d", i), dice.Uint64())
		}
		v.kill()
		v.wrapper = nil
		text, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "(INJECTED)") {
			met++
		}
		v.start()
		v.judge(l)
		v.sound()
		v.healthy()
		v.kill()
		if v.told(l) {
			return
		}
	}
	t.Logf("%d of %d faults were met, %d starts refused", met, len(list), refused)
	if len(list) == len(startFaults()) && met < len(list)/3 { // a few of them may be any
		t.Errorf("most of the calls were never made")
	}
}

// wantReason wants a server that did not start to have said why.
func (v *victim) wantReason(f fault) {
	v.t.Helper()
	for _, words := range deviceErrors() {
		if strings.Contains(v.log.tail(), words) {
			return
		}
	}
	v.t.Errorf("%s: it did not start, and says:\n%s", f, v.log.tail())
}

// halfWell lets mail flow through a server that has something wrong with it.
func (v *victim) halfWell(l *ledger, name string, seed uint64) {
	v.t.Helper()
	f := &traffic{v: v, l: l, name: name, seed: seed, excused: func(refusal string) bool {
		return strings.Contains(refusal, ` got "4`) || strings.Contains(refusal, ` got "-ERR [SYS/`)
	}}
	l.uncertain.Store(true)
	f.begin(2, 1)
	<-time.After(200 * time.Millisecond)
	v.kill()
	f.wait()
	l.uncertain.Store(false)
}
