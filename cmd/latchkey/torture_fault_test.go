//go:build torture

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// after says how a server goes on after a system call failed.
type after int

const (
	// passes: mail is refused for the moment, and taken again without a start.
	passes after = iota
	// poisons: no mail and no delete is taken until the next start; what is there can be read.
	poisons
	// either: one of the two.
	either
)

// fault is a system call that fails.
type fault struct {
	calls, inject string
	after         after
	// refusal is how senders are refused.
	refusal string
	// needs is a directory of the data that an engine which makes the call has. file is the one that the call is about, if not any.
	needs, file string
}

func (f fault) String() string { return strings.TrimSpace(f.calls + " " + f.inject + " " + f.file) }

// faults are all that are tried; the calls to fail are counted by each thread for itself, so small numbers are all that count.
func faults(dice *rand.Rand) []fault {
	const full, broken, any4 = "452 4.3.1 ", "451 4.3.0 ", "4"
	later := 2 + dice.IntN(8)
	list := []fault{
		{"fdatasync", "error=EIO:when=1", poisons, broken, "", ""},
		{"fdatasync", fmt.Sprintf("error=EIO:when=%d", later), poisons, broken, "", ""},
		{"fdatasync,fsync", "error=EIO:when=1+", poisons, broken, "", ""},
		{"fdatasync,fsync", fmt.Sprintf("error=EIO:when=%d+", later), poisons, broken, "", ""},
		{"fdatasync,fsync", "error=EIO:when=1", poisons, broken, "", "mail.db"},
		{"fdatasync,fsync", "error=ENOSPC:when=1", poisons, broken, "", ""},
		{"fdatasync,fsync", "error=ENOSPC:when=1", poisons, broken, "", "mail.db"},
		{"fsync", "error=EIO:when=1", poisons, broken, "", ""},
		{"pwrite64", "error=EIO:when=1", poisons, broken, "", ""},
		{"pwrite64", fmt.Sprintf("error=EIO:when=%d", later), poisons, broken, "", ""},
		{"pwrite64", "error=EIO:when=1+", poisons, broken, "", ""},
		{"pwrite64", "error=EIO:when=2", poisons, broken, "", "mail.db"},
		{"pwrite64", "error=ENOSPC:when=1+", passes, full, "", ""},
		{"pwrite64", "error=ENOSPC:when=1+", passes, full, "", "mail.db"},
		{"pwrite64", "error=EDQUOT:when=1+", passes, full, "", ""},
		{"fallocate", "error=ENOSPC:when=1+", passes, full, "journal", ""},
		{"fallocate", "error=EOPNOTSUPP:when=1+", passes, "", "journal", ""},
		{"ftruncate", "error=ENOSPC:when=1+", either, any4, "", ""},
		{"?renameat,?renameat2", "error=ENOSPC:when=1+", passes, full, "", ""},
		{"?renameat,?renameat2", "error=EIO:when=1", poisons, broken, "", ""},
		{"openat", "error=EMFILE:when=1+", passes, any4, "", ""},
		{"openat", "error=ENOSPC:when=1+", passes, any4, "", ""},
		{"accept4", "error=EMFILE:when=1..20", passes, any4, "", ""},
		{"accept4", "error=ECONNABORTED:when=1..20", passes, any4, "", ""},
	}
	for n := 1; n <= 12; n++ {
		list = append(list, fault{"pwrite64", fmt.Sprintf("error=ENOSPC:when=%d", n), passes, full, "", ""})
	}
	return list
}

// faultTorture is a server whose system calls are made to fail one after the other, on a device that loses its power too.
type faultTorture struct {
	*victim
	t    *testing.T
	l    *ledger
	b    *outbox
	d    *device
	dice *rand.Rand
	n    int
}

// TestTortureFaults makes one system call after the other fail under a server at work, for ever or once. A full device is a state that
// passes. After an input/output error or a failed sync nothing is acknowledged until the next start, the log says why, and what is there can
// be read. Whatever was acknowledged is there after the power was cut, the process killed, or stopped in good order.
func TestTortureFaults(t *testing.T) {
	needRoot(t, "strace", "mkfs.ext4", "mount", "umount", "cp", "sync", "truncate")
	seed := newSeed(t)
	dice := rand.New(rand.NewPCG(seed, 1<<32))
	list := faults(dice)
	if n := rounds(len(list), 8); n < len(list) {
		dice.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		list = list[:n]
	}
	d := newDevice(t, dice, "384M")
	ft := &faultTorture{victim: newVictim(t, filepath.Join(d.dir, "data")), t: t, l: newLedger(mailboxes()...), d: d, dice: dice}
	ft.populate("anna", "carl", submitter)
	ft.b = newOutbox(ft.victim, ft.l)
	ft.addCrowd()
	for i, f := range list {
		ft.where = fmt.Sprintf("fault %d, %s", i, f)
		if f.needs != "" {
			if _, err := os.Stat(filepath.Join(ft.dir, f.needs)); err != nil {
				t.Logf("%s: not tried, there is no %s", f, f.needs)
				continue
			}
		}
		ft.try(f)
		if ft.told(ft.l) {
			return
		}
	}
	ft.kill()
}

// try has one fault.
func (ft *faultTorture) try(f fault) {
	ft.t.Helper()
	ft.n++
	if ft.cmd == nil {
		ft.start()
	}
	ft.mustDeliver("before")
	load := &traffic{v: ft.victim, l: ft.l, name: fmt.Sprintf("f%d", ft.n), seed: ft.dice.Uint64(), excused: func(refusal string) bool {
		return strings.Contains(refusal, ` got "-ERR [SYS/`) || f.refusal != "" && strings.Contains(refusal, ` got "`+f.refusal)
	}}
	ft.l.uncertain.Store(f.after != passes)
	var files []string
	if f.file != "" {
		files = append(files, f.file)
	}
	tr := ft.trace(f.calls, f.inject, files...)
	load.begin(4, 2)
	ft.b.begin(load, ft.dice)
	if f.calls == "ftruncate" {
		load.work.Go(func() { ft.growIndex(tr) })
	}
	ft.awaitFault(tr, load, f)
	load.stop()
	ft.l.uncertain.Store(false) // what is refused from now on never happened
	injected := tr.injected()
	if len(injected) == 0 {
		ft.t.Errorf("%s: the call was never made", f)
	}
	if f.after == poisons {
		ft.wantPoisoned(ft.l, fmt.Sprintf("f%d", ft.n))
	}
	tr.detach()
	switch {
	case f.after == passes:
		ft.wantPassed(f)
	case f.after == poisons || !ft.accepts("either"):
		ft.wantPoisoned(ft.l, fmt.Sprintf("f%d", ft.n))
		ft.wantSyncedOnce(tr.injected())
	}
	ft.t.Logf("%s: %d calls failed, %d messages and %d QUITs refused", f, len(injected), load.refused.Load(), load.kept.Load())
	ft.again(f)
}

// Of the mail that makes an index grow.
const (
	crowd     = "crowd"
	crowdSize = 300
)

// addCrowd adds mailboxes that nobody reads, and an alias for all of them.
func (v *victim) addCrowd() {
	v.t.Helper()
	ctx := context.Background()
	st, err := openStore(ctx, v.dir)
	if err != nil {
		v.t.Fatal(err)
	}
	all := store.Alias{Name: crowd}
	for i := range crowdSize {
		account, err := st.AddAccount(ctx, store.Account{Name: fmt.Sprintf("%s%d", crowd, i), Verifier: cheapVerifier})
		if err != nil {
			v.t.Fatal(err)
		}
		all.Targets = append(all.Targets, account.ID)
	}
	if err := errors.Join(st.PutAlias(ctx, all), st.Close()); err != nil {
		v.t.Fatal(err)
	}
}

// growIndex sends small messages to the crowd until the fault is met, or nothing is taken any more.
func (ft *faultTorture) growIndex(tr *tracer) {
	c, err := ft.dialMail("mx")
	for i := 0; err == nil && i < 400 && len(tr.injected()) == 0; i++ {
		if err = c.envelope("torture@other.example", crowd+"@example.com"); err == nil {
			err = c.ask("Subject: all\r\n\r\nbody\r\n.\r\n", "250")
		}
	}
	if err != nil && !isRefused(err) {
		ft.l.problem("mail for all: %v", err)
	}
	if c != nil {
		_ = c.conn.Close() // all is said
	}
}

// awaitFault waits until the fault has been met and somebody was told so, or nobody is going to be.
func (ft *faultTorture) awaitFault(tr *tracer, load *traffic, f fault) {
	ft.t.Helper()
	met := func() bool { return len(tr.injected()) > 0 }
	eventually(ft.t, "the call that fails: "+f.String(), func() bool { return met() || ft.gone() || ft.l.troubled() })
	most := time.Second // for those who need not be told
	if f.after == poisons {
		most = patience
	}
	told := func() bool { return load.refused.Load() > 0 || load.kept.Load() > 0 || ft.gone() || ft.l.troubled() }
	for end := time.Now().Add(most); !told() && time.Now().Before(end); {
		<-time.After(5 * time.Millisecond)
	}
	<-time.After(100 * time.Millisecond) // let it be met some more
}

// accepts reports whether a small message is taken within some seconds.
func (ft *faultTorture) accepts(name string) bool {
	ft.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := range 50 {
		err := ft.deliver(ft.l, fmt.Sprintf("f%d-%s-%d", ft.n, name, i), 1, 300)
		if err == nil {
			return true
		}
		if !isRefused(err) {
			ft.t.Fatalf("%v\n%s", err, ft.log.tail())
		}
		<-tick.C
	}
	return false
}

func (ft *faultTorture) mustDeliver(name string) {
	ft.t.Helper()
	if err := ft.deliver(ft.l, fmt.Sprintf("f%d-%s", ft.n, name), 3, 3000); err != nil {
		ft.t.Fatalf("%s: %v\n%s", name, err, ft.log.tail())
	}
}

// wantPassed wants a server to be as before, without a start.
func (ft *faultTorture) wantPassed(f fault) {
	ft.t.Helper()
	if !ft.accepts("room") {
		ft.t.Errorf("%s is over, and nothing is taken\n%s", f, ft.log.tail())
		return
	}
	if err := ft.deliver(ft.l, fmt.Sprintf("f%d-large", ft.n), 2, 300<<10); err != nil {
		ft.t.Errorf("%s is over: %v", f, err)
	}
	ft.judge(ft.l)
	if err := ft.removeFrom(ft.l, "bert", func(i int) bool { return i%3 == 0 }); err != nil {
		ft.t.Errorf("%s is over: deleting: %v", f, err)
	}
}

// wantPoisoned wants a server to take nothing, to say why, and to show what it has.
func (v *victim) wantPoisoned(l *ledger, name string) {
	v.t.Helper()
	for i, size := range []int{300, 3000, 300 << 10} {
		err := v.deliver(l, fmt.Sprintf("%s-%d-%d", name, i, l.now()), 1, size)
		if err == nil || !isRefused(err) {
			v.t.Errorf("%s: message %d after it: %v, want a refusal\n%s", name, i, err, v.log.tail())
		}
	}
	for _, account := range mailboxes() {
		began := l.now()
		list, err := v.read(account)
		if err != nil {
			v.t.Errorf("%s: reading after it: %v", name, err)
			continue
		}
		l.listed(account, began, list)
		if len(list) == 0 {
			continue
		}
		if err := v.deleteFirst(account); err == nil || !isRefused(err) {
			v.t.Errorf("%s: a delete after it: %v, want a refusal", name, err)
		}
	}
	if !v.log.says(deviceErrors()...) {
		v.t.Errorf("%s: the operator is not told\n%s", name, v.log.tail())
	}
}

// deleteFirst deletes a message behind the ledger's back.
func (v *victim) deleteFirst(account string) error {
	c, err := v.dialPOP(account)
	if err != nil {
		return err
	}
	defer func() { _ = c.conn.Close() }() // after QUIT, or after what is reported
	if err := c.delete([]int{1}); err != nil {
		return fmt.Errorf("DELE was refused already: %s", err.Error())
	}
	_, err = c.ask("QUIT")
	return err
}

// wantSyncedOnce wants no file to be synced again after that has failed once.
func (ft *faultTorture) wantSyncedOnce(injected []string) {
	ft.t.Helper()
	failed := map[string]bool{}
	for _, line := range injected {
		if !strings.Contains(line, "sync(") {
			continue
		}
		if name := traced.FindString(line); failed[name] {
			ft.t.Errorf("synced again after that failed: %s", line)
		} else {
			failed[name] = true
		}
	}
}

// again ends the process in one of the three ways, starts it, and compares.
func (ft *faultTorture) again(f fault) {
	ft.t.Helper()
	switch n := ft.dice.IntN(3); {
	case ft.gone():
		ft.t.Errorf("%s: the server has ended by itself\n%s", f, ft.log.tail())
	case n == 0:
		ft.freeze()
		ft.d.cut(ft.victim)
	case n == 1:
		ft.stop()
	}
	ft.kill()
	ft.b.killed()
	ft.start()
	ft.judge(ft.l)
	ft.b.reconcile(ft.t)
	ft.sound()
	ft.b.tidy(ft.t)
	ft.mustDeliver("after")
}
