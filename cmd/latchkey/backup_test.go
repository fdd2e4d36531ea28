package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"latchkey/cli"
	"latchkey/store"
)

// uidl returns the unique-ids of a mailbox, in order.
func (s *testServer) uidl(user, password string) (ids []string) {
	s.t.Helper()
	p := s.pop("pop3s")
	if err := p.login(user, password); err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(p.multi("UIDL")), "\n") {
		if _, id, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			ids = append(ids, id)
		}
	}
	p.must("QUIT")
	return ids
}

// mustRun runs a command that has to succeed, and returns what it said.
func (s *testServer) mustRun(args ...string) string {
	s.t.Helper()
	status, stdout, stderr := s.latchkey(args...)
	if status != 0 {
		s.t.Fatalf("%v: %d %s%s", args, status, stdout, stderr)
	}
	return stdout + stderr
}

// TestBackupAndMove: a running server is backed up while mail comes in, then stopped, backed up once more and restored at another place: every
// message that was acknowledged is there with its unique-id, what was deleted is not, passwords work, and new mail has ids of its own.
func TestBackupAndMove(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	s.addAccount("bert", "password of bert")
	backup := filepath.Join(t.TempDir(), "backup")
	for i := range 5 {
		s.deliver("x@out.example", []string{"anna@example.com"}, message(fmt.Sprintf("before %d", i)))
	}
	if said := s.mustRun("backup", backup); !strings.Contains(said, "holds example.com as it was at ") {
		t.Errorf("backup: %s", said)
	}
	var senders sync.WaitGroup
	for c := range 3 {
		senders.Go(func() {
			for i := range 5 {
				if err := s.tryDeliver("x@out.example", []string{"bert@example.com"}, message(fmt.Sprintf("beside %d %d", c, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		s.mustRun("backup", backup)
	}
	senders.Wait()
	reading := s.pop("pop3s")
	if err := reading.login("anna", "password of anna"); err != nil {
		t.Fatal(err)
	}
	reading.must("DELE 2")
	reading.must("QUIT")
	s.send("anna", "password of anna", []string{"bert@example.com"}, message("submitted"))
	anna, bert := s.uidl("anna", "password of anna"), s.uidl("bert", "password of bert")
	s.stop()
	s.mustRun("backup", backup)
	if status := cli.Run(t.Context(), s.env, []string{"verify", backup}); status != cli.ExitDone {
		t.Errorf("verify: %d", status)
	}

	before := s.dir
	s.dir = filepath.Join(t.TempDir(), "moved")
	if said := s.mustRun("restore", backup); !strings.Contains(said, "serves example.com as it was at ") {
		t.Errorf("restore: %s", said)
	}
	s.config.Data = s.dir
	s.start()
	holds(t, s.fetch("anna", "password of anna"), "before 0", "before 2", "before 3", "before 4")
	if got := s.uidl("anna", "password of anna"); strings.Join(got, " ") != strings.Join(anna, " ") {
		t.Errorf("anna's unique-ids are %v, were %v", got, anna)
	}
	if got := s.uidl("bert", "password of bert"); strings.Join(got, " ") != strings.Join(bert, " ") || len(bert) != 16 {
		t.Errorf("bert's unique-ids are %v, were %v", got, bert)
	}
	s.deliver("x@out.example", []string{"anna@example.com"}, message("after"))
	ids := s.uidl("anna", "password of anna")
	if last := ids[len(ids)-1]; len(ids) != 5 || last[:8] == ids[0][:8] {
		t.Errorf("the new message has the unique-id %s among %v", last, ids)
	}
	if said := s.mustRun("check"); said != "no problems\n" {
		t.Errorf("check: %s", said)
	}
	s.stop()
	s.dir = before
	if status, _, said := s.latchkey("restore", backup); status != 1 || !strings.Contains(said, "is not empty") {
		t.Errorf("restore onto the old place: %d %s", status, said)
	}
}

// TestRepairTellsTheOwner: a message whose octets changed on the disk ends the session that asks for it, and the mailbox is stuck; after a repair it
// is gone, the rest is there, and its owner has a message that says which one is lost.
func TestRepairTellsTheOwner(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	for _, subject := range []string{"one", "two", "three"} {
		s.deliver("x@out.example", []string{"anna@example.com"}, message(subject))
	}
	s.stop()
	segments, err := filepath.Glob(filepath.Join(s.dir, "journal", "*.seg"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments: %v, %v", segments, err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), "body of two")
	b[at] ^= 2
	if err := os.WriteFile(segments[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	status, said, _ := s.latchkey("check")
	if status != 1 || !strings.Contains(said, store.ProblemMessage+": 1\n") || !strings.Contains(said, "mailbox anna, unique-id ") {
		t.Errorf("check: %d %s", status, said)
	}
	if said := s.mustRun("check", "--repair"); !strings.Contains(said, "1 copy or delivery is lost; no problems are left") {
		t.Errorf("repair: %s", said)
	}
	s.start()
	messages := s.fetch("anna", "password of anna")
	if len(messages) != 3 {
		t.Fatalf("anna has %q", messages)
	}
	holds(t, messages[:2], "one", "three")
	for _, words := range []string{"Subject: Mail that was lost", "from <x@out.example>"} {
		if !strings.Contains(messages[2], words) {
			t.Errorf("the notice says %q, not %q", messages[2], words)
		}
	}
	if said := s.mustRun("check"); said != "no problems\n" {
		t.Errorf("check: %s", said)
	}
}
