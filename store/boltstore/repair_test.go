package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/journal"
	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

// repairable makes a data directory with mail of every form: of anna alone, of anna and bob, with a delivery to another domain, large; in several
// segments, with deletes among it. What is appended is not in the index yet. It returns the unique-ids of anna's mail by name.
func repairable(t *testing.T, dir string) map[string]string {
	t.Helper()
	initData(t, dir)
	s := openData(t, dir, Options{journal: smallSegments()})
	l := newLedger()
	for i := range 12 {
		noError(t, send(s, l, fmt.Sprintf("small%d", i), 9000, i%3 == 0))
	}
	noError(t, send(s, l, "large", spillAbove, true))
	noError(t, send(s, l, "huge", 3*blockSize, false))
	both(t, s, "both")
	noError(t, s.PutAlias(t.Context(), store.Alias{Name: "sales", Targets: []store.AccountID{1, 2}}))
	m := openDrop(t, s, 1)
	noError(t, m.Expunge(t.Context(), ids(t, m)[2:4], nil))
	noError(t, m.Close())
	found := uids(t, s)
	closeData(t, s)
	return found
}

// both sends a message to anna and bob.
func both(t *testing.T, s *Store, name string) {
	t.Helper()
	d, err := s.NewDraft(t.Context())
	noError(t, err)
	_, err = io.WriteString(d, "Subject: "+name+"\r\n\r\nbody")
	noError(t, err)
	e := envelopeTo(1, 2)
	e.HeaderLen = d.Size() - 4
	for i := range e.Recipients {
		e.Recipients[i].Prefix = fmt.Appendf(nil, "X-Copy: %d\r\n", i)
	}
	_, err = d.Commit(t.Context(), e)
	noError(t, err)
}

// lateMail adds mail that is in the journal and not in the index, and returns the offsets of its records by name. The directory is that of a
// process that was killed.
func lateMail(t *testing.T, dir string, names ...string) (at map[string]journal.Place) {
	t.Helper()
	work := dir + ".work"
	noError(t, os.Rename(dir, work))
	s := openData(t, work, Options{journal: smallSegments()})
	before, err := os.ReadFile(filepath.Join(work, indexName))
	noError(t, err)
	l := newLedger()
	for _, name := range names {
		noError(t, send(s, l, name, 3000, false))
	}
	sweepAll(t, s)
	at = make(map[string]journal.Place)
	m := openDrop(t, s, 1)
	drop, ok := m.(*maildrop)
	if !ok {
		t.Fatalf("%T", m)
	}
	listed(t, m)
	for i := range drop.list {
		l := &drop.list[i]
		name := nameOf(string(readCopy(t, m, l.id)))
		at[name] = journal.Place{Generation: l.segment, Offset: l.offset, Size: l.octets()}
	}
	noError(t, m.Close())
	closeData(t, s)
	noError(t, os.WriteFile(filepath.Join(work, indexName), before, vfs.FileMode))
	noError(t, os.Rename(work, dir))
	return at
}

// repairCase is one damage, and what a repair makes of it.
type repairCase struct {
	name string
	// late is mail that is in the journal and not in the index; at says where all mail lies.
	late   []string
	damage func(t *testing.T, dir string, at map[string]journal.Place)
	// kind is what Check, or Diagnose when nothing can be opened, finds before; "" is nothing.
	kind string
	// lost is mail of anna that is gone then, with says that it is all that is in one segment with that, jobs how many deliveries are lost.
	lost   []string
	with   string
	jobs   int
	raised bool // the epoch
	kept   int  // files put aside, the report not counted
}

func edited(edit func(*bolt.Tx) error) func(*testing.T, string, map[string]journal.Place) {
	return func(t *testing.T, dir string, _ map[string]journal.Place) { change(t, dir, edit) }
}

// flipIn turns a bit of a message's octets in the journal.
func flipIn(name string) func(*testing.T, string, map[string]journal.Place) {
	return func(t *testing.T, dir string, at map[string]journal.Place) {
		p := at[name]
		noError(t, flip(int(p.Offset+journal.SumsSize(p.Size)+p.Size/2))(segmentFile(dir, p.Generation)))
	}
}

func segmentFile(dir string, generation uint64) string {
	return filepath.Join(dir, journalName, journal.SegmentName(generation))
}

// largeFile returns the file of a large body that holds the text.
func largeFile(t *testing.T, dir, text string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, largeName))
	noError(t, err)
	for _, e := range entries {
		path := filepath.Join(dir, largeName, e.Name())
		b, err := os.ReadFile(path)
		noError(t, err)
		if bytes.Contains(b, []byte("Subject: "+text+"\r\n")) {
			return path
		}
	}
	t.Fatalf("no large body has %q", text)
	return ""
}

func overwrite(t *testing.T, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	noError(t, err)
	_, err = f.WriteAt(b, off)
	noError(t, errors.Join(err, f.Close()))
}

// inSegment lists the mail in a segment.
func inSegment(at map[string]journal.Place, generation uint64) (names []string) {
	for name, p := range at {
		if p.Generation == generation {
			names = append(names, name)
		}
	}
	return names
}

// damagedMail are damages of what the index points to.
func damagedMail() []repairCase {
	zeroed := func(t *testing.T, dir string, _ map[string]journal.Place) {
		overwrite(t, segmentFile(dir, 1), 0, make([]byte, 64))
	}
	return []repairCase{
		{name: "nothing"},
		{name: "octets of a message", damage: flipIn("small4"), kind: store.ProblemMessage, lost: []string{"small4"}, kept: 1},
		{name: "octets of a message with a delivery", damage: flipIn("small6"), kind: store.ProblemMessage, lost: []string{"small6"}, jobs: 1, kept: 1},
		{name: "octets of a shared message", damage: flipIn("both"), kind: store.ProblemMessage, lost: []string{"both"}, kept: 1},
		{name: "large body flipped", damage: func(t *testing.T, dir string, _ map[string]journal.Place) {
			noError(t, flip(blockSize+1)(largeFile(t, dir, "large")))
		}, kind: store.ProblemMessage, lost: []string{"large"}, jobs: 1, kept: 1},
		{name: "large body cut", damage: func(t *testing.T, dir string, _ map[string]journal.Place) {
			noError(t, os.Truncate(largeFile(t, dir, "huge"), 100))
		}, kind: store.ProblemMessage, lost: []string{"huge"}, kept: 1},
		{name: "large body missing", damage: func(t *testing.T, dir string, _ map[string]journal.Place) {
			noError(t, os.Remove(largeFile(t, dir, "huge")))
		}, kind: store.ProblemMessage, lost: []string{"huge"}, kept: 1},
		{name: "header of a segment", damage: zeroed, kind: store.ProblemSegment, kept: 1},
		{name: "segment missing", damage: func(t *testing.T, dir string, _ map[string]journal.Place) {
			noError(t, os.Remove(segmentFile(dir, 1)))
		}, kind: store.ProblemSegment, with: "small1", jobs: 2},
		{name: "segment without header and first record", damage: func(t *testing.T, dir string, _ map[string]journal.Place) {
			overwrite(t, segmentFile(dir, 1), 0, make([]byte, 5000))
		}, kind: store.ProblemSegment, lost: []string{"small0"}, jobs: 1, kept: 2},
		{name: "segment of zeros", damage: func(t *testing.T, dir string, _ map[string]journal.Place) {
			overwrite(t, segmentFile(dir, 1), 0, make([]byte, 64<<10))
		}, kind: store.ProblemSegment, with: "small1", jobs: 2, kept: 1},
		{name: "last segment of zeros", late: []string{"late1", "late2"}, damage: func(t *testing.T, dir string, at map[string]journal.Place) {
			info, err := os.Stat(segmentFile(dir, at["late1"].Generation))
			noError(t, err)
			overwrite(t, segmentFile(dir, at["late1"].Generation), 0, make([]byte, info.Size()))
		}, kind: store.ProblemJournal, with: "late1", jobs: 3, raised: true, kept: 1},
		{name: "segment cut short", damage: func(t *testing.T, dir string, _ map[string]journal.Place) {
			noError(t, os.Truncate(segmentFile(dir, 1), 1000))
		}, kind: store.ProblemMessage, with: "small1", jobs: 2, kept: 1},
		{name: "orphan", damage: func(t *testing.T, dir string, _ map[string]journal.Place) {
			noError(t, os.WriteFile(filepath.Join(dir, largeName, newToken().String()), []byte("x"), vfs.FileMode))
		}, kept: 1},
		{name: "late mail", late: []string{"late1", "late2"}},
		{name: "late mail damaged in the middle", late: []string{"late1", "late2", "late3", "late4"}, damage: flipIn("late2"),
			kind: store.ProblemJournal, lost: []string{"late2"}, raised: true, kept: 1},
	}
}

// damagedIndex are damages of the index.
func damagedIndex() []repairCase {
	return []repairCase{
		{name: "no unique-id is known", damage: edited(put(bMeta, []byte(metaTally), []byte{1})), kind: store.ProblemRecord, raised: true},
		{name: "usage", damage: edited(put(bUsage, key8(1), encodeUsage(store.Usage{Octets: 1, Messages: 7}))), kind: store.ProblemCounter},
		{name: "usage of nobody", damage: edited(put(bUsage, key8(77), encodeUsage(store.Usage{Octets: 1, Messages: 7}))), kind: store.ProblemReference},
		{name: "references", damage: edited(edit(bBodies, key8(1), func(b []byte) []byte { b[0]++; return b })), kind: store.ProblemCounter},
		{name: "copy of another message", damage: edited(put(bCopies, key16(1, 1), copyAt(99, copyShared))), kind: store.ProblemReference},
		{name: "copy at another place", damage: edited(put(bCopies, key16(1, 1), copyAt(1, copyShared))), kind: store.ProblemReference},
		{name: "own copy at another place", damage: edited(edit(bCopies, key16(1, 2), func(b []byte) []byte {
			l, _ := decodeListing(key16(1, 2), b)
			l.offset += 17
			var e encoder
			l.encode(&e)
			return e.b
		})), kind: store.ProblemMessage},
		{name: "no shared record", damage: edited(del(bBodies, key8(1))), kind: store.ProblemReference},
		{name: "no shared record of a large body", damage: edited(func(tx *bolt.Tx) error {
			key, _ := tx.Bucket([]byte(bBodies.String())).Cursor().Last()
			return tx.Bucket([]byte(bBodies.String())).Delete(key)
		}), kind: store.ProblemReference},
		{name: "shared record torn", damage: edited(put(bBodies, key8(1), []byte{1})), kind: store.ProblemRecord},
		{name: "shared record of nobody", damage: edited(put(bBodies, key8(77), (&sharedRecord{Refs: 1}).encode())), kind: store.ProblemCounter},
		{name: "copy torn", damage: edited(put(bCopies, key16(1, 2), []byte{1, 2, 3})), kind: store.ProblemRecord},
		{name: "shared copy torn", damage: edited(put(bCopies, key16(1, 1), []byte{1, 2, 3})), kind: store.ProblemRecord},
		{name: "job torn", damage: edited(put(bJobs, key8(1), []byte{1, 2, 3})), kind: store.ProblemRecord},
		{name: "copy that never was", damage: edited(put(bCopies, key16(1, 7777), []byte{1, 2, 3})), kind: store.ProblemRecord, lost: []string{""}, raised: false},
		{name: "account torn", damage: edited(put(bAccounts, key8(1), []byte{1})), kind: store.ProblemRecord},
		{name: "account missing", damage: edited(del(bAccounts, key8(2))), kind: store.ProblemReference},
		{name: "account and name missing", damage: edited(func(tx *bolt.Tx) error {
			return errors.Join(del(bAccounts, key8(2))(tx), del(bAccountNames, []byte("bob"))(tx))
		}), kind: store.ProblemReference},
		{name: "name to nowhere", damage: edited(put(bAccountNames, []byte("carl"), key8(77))), kind: store.ProblemReference},
		{name: "account without name", damage: edited(del(bAccountNames, []byte("anna"))), kind: store.ProblemReference},
		{name: "two accounts of one name", damage: edited(put(bAccounts, key8(5), encodeAccount(&store.Account{ID: 5, Name: "anna"}))), kind: store.ProblemReference},
		{name: "alias to nowhere", damage: edited(put(bAliases, []byte("other"), encodeAlias(&store.Alias{Targets: []store.AccountID{77}}))), kind: store.ProblemReference},
		{name: "alias torn", damage: edited(put(bAliases, []byte("sales"), []byte{1})), kind: store.ProblemRecord},
		{name: "alias with a mailbox's name", damage: edited(put(bAliases, []byte("anna"), encodeAlias(&store.Alias{Targets: []store.AccountID{1}}))), kind: store.ProblemReference},
		{name: "removed and present", damage: edited(put(bCondemned, key8(1), nil)), kind: store.ProblemCounter},
		{name: "live octets", damage: edited(put(bSegments, key8(1), live{Messages: 1, Octets: 1}.encode())), kind: store.ProblemCounter},
		{name: "segment that nobody needs", damage: edited(put(bSegments, key8(77), live{Messages: 1, Octets: 1}.encode())), kind: store.ProblemCounter},
		{name: "segment that nobody counts", damage: edited(del(bSegments, key8(1))), kind: store.ProblemCounter},
		{name: "due of no job", damage: edited(put(bDue, dueKey(&store.Job{ID: 99, Recipient: mustAddress("x@y.example")}), nil)), kind: store.ProblemCounter},
		{name: "job without due", damage: edited(func(tx *bolt.Tx) error {
			key, _ := tx.Bucket([]byte(bDue.String())).Cursor().First()
			return tx.Bucket([]byte(bDue.String())).Delete(key)
		}), kind: store.ProblemReference},
		{name: "run of the trail torn", damage: edited(func(tx *bolt.Tx) error {
			key, _ := tx.Bucket([]byte(bTrailOpen.String())).Cursor().First()
			return put(bTrailOpen, slices.Clone(key), []byte{9})(tx)
		}), kind: store.ProblemRecord, kept: 1},
		{name: "piece of the trail with an odd key", damage: edited(put(bTrail, []byte{1, 2}, []byte{9})), kind: store.ProblemRecord},
		{name: "client of nobody", damage: edited(put(bClients, clientKey(77, 3), encodeClient(&store.Client{Program: "x"}))), kind: store.ProblemReference},
		{name: "client that is there twice", damage: edited(func(tx *bolt.Tx) error {
			c := encodeClient(&store.Client{Program: "x"})
			return errors.Join(put(bClients, clientKey(2, 0), c)(tx), put(bClients, clientKey(2, 31), c)(tx))
		}), kind: store.ProblemReference},
		{name: "habit of nobody", damage: edited(put(bHabits, habitKey(77, store.HabitNetwork, "x"), encodeHabit(&store.Habit{}))), kind: store.ProblemReference},
		{name: "suppression torn", damage: edited(put(bSuppressions, []byte("a@x.example"), []byte{9})), kind: store.ProblemRecord},
		{name: "habit torn", damage: edited(put(bHabits, habitKey(1, store.HabitNetwork, "x"), []byte{9})), kind: store.ProblemRecord},
		{name: "client torn", damage: edited(put(bClients, clientKey(1, 0), []byte{9})), kind: store.ProblemRecord},
		{name: "client beyond the bound", damage: edited(put(bClients, clientKey(1, store.MaxClients), encodeClient(&store.Client{}))), kind: store.ProblemRecord},
		{name: "device of nobody", damage: edited(put(bDevices, key16(77, 3), aDevice("x"))), kind: store.ProblemReference},
		{name: "two devices of one name", damage: edited(func(tx *bolt.Tx) error {
			return errors.Join(put(bDevices, key16(2, 1), aDevice("x"))(tx), put(bDevices, key16(2, 2), aDevice("X"))(tx))
		}), kind: store.ProblemReference},
		{name: "device torn", damage: edited(put(bDevices, key16(1, 1), []byte{9})), kind: store.ProblemRecord},
		{name: "sealed and not allowed", damage: edited(editAccount(1, func(a *store.Account) { a.Sealed = "sealed" })), kind: store.ProblemReference},
		{name: "selection that cannot be", damage: edited(editAccount(2, func(a *store.Account) { a.POP3.Select = "07d" })), kind: store.ProblemReference},
		{name: "address lent by nobody", damage: edited(put(bLent, lentKey(lentAddress(), domain, 1), nil)), kind: store.ProblemCounter},
		{name: "session out of order", damage: edited(put(bSessionOrder, make([]byte, 44), nil)), kind: store.ProblemReference},
		{name: "audit torn", damage: edited(put(bAudit, key8(1), []byte{9})), kind: store.ProblemRecord},
		{name: "counter torn", damage: edited(put(bCounters, []byte("k"), []byte{0x80})), kind: store.ProblemRecord},
		{name: "grant of nobody", damage: edited(put(bGrants, key16(77, 1), encodeGrant(&store.Grant{Network: grantFor(1).Network}))), kind: store.ProblemReference},
		{name: "ids", damage: edited(put(bMeta, []byte(metaTally), (&tally{}).encode())), kind: store.ProblemCounter, raised: true},
	}
}

// TestRepair: every damage is found; after the repair a check finds nothing, all mail is there but what is said to be lost, with its
// unique-ids, what was removed is put aside, and another repair finds nothing to do.
func TestRepair(t *testing.T) {
	template := filepath.Join(vfstest.TempDir(t), "data")
	ids := repairable(t, template)
	for i, tt := range append(damagedMail(), damagedIndex()...) {
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(vfstest.TempDir(t), "data")
			copyData(t, template, dir)
			at := lateMail(t, dir, tt.late...)
			want := make(map[string]string)
			for name, id := range ids {
				want[name] = id
			}
			if tt.damage != nil {
				tt.damage(t, dir, at)
			}
			if tt.with != "" {
				tt.lost = inSegment(at, at[tt.with].Generation)
			}
			mustFind(t, dir, tt.kind)
			got, err := Repair(t.Context(), dir, Options{})
			if err != nil || len(got.Left) > 0 {
				t.Fatalf("Repair: %+v, %v", got, err)
			}
			if tt.kind != "" && len(got.Mended)+len(got.Lost) == 0 {
				t.Error("nothing was done")
			}
			mustBeRepaired(t, dir, &tt, want, &got)
			again, err := Repair(t.Context(), dir, Options{})
			if err != nil || len(again.Mended)+len(again.Lost)+len(again.Left) > 0 || again.Quarantine != "" {
				t.Errorf("a second repair: %+v, %v", again, err)
			}
		})
	}
}

// mustFind makes sure that a check finds a problem of a kind in data that nobody has open.
func mustFind(t *testing.T, dir, kind string) {
	t.Helper()
	copied := filepath.Join(vfstest.TempDir(t), "copy")
	copyData(t, dir, copied)
	problems, err := Diagnose(t.Context(), copied, Options{})
	if err == nil && len(problems) == 0 {
		s := openData(t, copied, Options{})
		problems, err = s.Check(t.Context())
		err = errors.Join(err, s.Close())
	}
	noError(t, err)
	if kind == "" && len(problems) > 0 || kind != "" && !slices.ContainsFunc(problems, func(p store.Problem) bool { return p.Kind == kind }) {
		t.Errorf("found %+v, want a %q", problems, kind)
	}
	for _, p := range problems {
		if _, ok := store.Explain(p.Kind); !ok {
			t.Errorf("%q is not explained", p.Kind)
		}
	}
}

func mustBeRepaired(t *testing.T, dir string, tt *repairCase, want map[string]string, got *store.Repaired) {
	t.Helper()
	s := openData(t, dir, Options{})
	defer closeData(t, s)
	mustBeSound(t, s)
	for _, name := range tt.lost {
		delete(want, name)
	}
	has := uids(t, s)
	for name, id := range want {
		if has[name] != id {
			t.Errorf("%s has the unique-id %q, had %q", name, has[name], id)
		}
	}
	late := 0
	for _, name := range tt.late {
		if has[name] != "" {
			late++
		} else if !slices.Contains(tt.lost, name) {
			t.Errorf("%s is lost", name)
		}
	}
	if len(has) != len(want)+late {
		t.Errorf("anna has %v, want %v and %d late ones", has, want, late)
	}
	jobs, _, err := s.ListJobs(t.Context(), store.QueueFilter{}, 0, 100)
	if err != nil || len(jobs) != 5-tt.jobs {
		t.Errorf("%d deliveries, want %d: %v", len(jobs), 5-tt.jobs, err)
	}
	if raised := s.epochs.last() > 1; raised != tt.raised {
		t.Errorf("the epoch was raised: %t, want %t", raised, tt.raised)
	}
	if tt.raised {
		r := deliver(t, s, 10, 2)
		if strings.HasPrefix(r.Copies[0].UID, "00000001") {
			t.Errorf("a new copy has the unique-id %s", r.Copies[0].UID)
		}
	}
	kept := 0
	if got.Quarantine != "" {
		entries, err := os.ReadDir(got.Quarantine)
		noError(t, err)
		kept = len(entries) - 1
	}
	if kept < tt.kept || tt.kept == 0 && kept > 0 {
		t.Errorf("%d files were put aside, want %d", kept, tt.kept)
	}
	for _, l := range got.Lost {
		if l.Why == "" || l.Account != 0 && l.UID == "" {
			t.Errorf("lost: %+v", l)
		}
	}
}

// keptText reports whether a quarantine has a file, besides reports, with the text.
func keptText(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, quarantineName), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == reportName {
			return err
		}
		b, err := os.ReadFile(path)
		found = found || bytes.Contains(b, []byte(text))
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

// TestRepairCutShort: whenever the power goes during a repair, another one comes to the same end, and what was removed is kept.
func TestRepairCutShort(t *testing.T) {
	template := filepath.Join(vfstest.TempDir(t), "data")
	ids := repairable(t, template)
	stride := 1
	if testing.Short() {
		stride = 7
	}
	for _, tt := range []repairCase{
		{name: "octets of a message with a delivery", damage: flipIn("small6"), lost: []string{"small6"}, jobs: 1, kept: 1},
		{name: "large body flipped", damage: func(t *testing.T, dir string, _ map[string]journal.Place) {
			noError(t, flip(blockSize+1)(largeFile(t, dir, "large")))
		}, lost: []string{"large"}, jobs: 1, kept: 1},
		{name: "late mail damaged in the middle", late: []string{"late1", "late2", "late3"}, damage: flipIn("late2"), lost: []string{"late2"}, raised: true, kept: 1},
		{name: "account torn", damage: edited(put(bAccounts, key8(1), []byte{1}))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			damaged := filepath.Join(vfstest.TempDir(t), "data")
			copyData(t, template, damaged)
			tt.damage(t, damaged, lateMail(t, damaged, tt.late...))
			for step, done := 1, false; !done; step += stride {
				base := vfstest.TempDir(t)
				dir := filepath.Join(base, "data")
				copyData(t, damaged, dir)
				d := vfstest.NewDisk(t, dir, uint64(step), step)
				first, err := Repair(t.Context(), dir, Options{fs: d})
				if done = !d.Dead(); done {
					noError(t, err)
				}
				after := filepath.Join(base, "after")
				d.Restore(after)
				got, err := Repair(t.Context(), after, Options{})
				if err != nil || len(got.Left) > 0 {
					t.Fatalf("step %d: %+v, %v, after %+v", step, got, err, first)
				}
				want := make(map[string]string)
				for name, id := range ids {
					want[name] = id
				}
				mustEndLike(t, after, &tt, want)
				for _, name := range tt.lost {
					if !keptText(t, after, "Subject: "+name+"\r\n") {
						t.Errorf("%s was not kept", name)
					}
				}
				if t.Failed() {
					t.Fatalf("step %d", step)
				}
			}
		})
	}
}

// mustEndLike is mustBeRepaired for several repairs: of the epoch and of what was kept only the least is asked.
func mustEndLike(t *testing.T, dir string, tt *repairCase, want map[string]string) {
	t.Helper()
	s := openData(t, dir, Options{})
	defer closeData(t, s)
	mustBeSound(t, s)
	for _, name := range tt.lost {
		delete(want, name)
	}
	has := uids(t, s)
	for name, id := range want {
		if has[name] != id {
			t.Errorf("%s has the unique-id %q, had %q", name, has[name], id)
		}
	}
	for _, name := range tt.late {
		if has[name] == "" && !slices.Contains(tt.lost, name) {
			t.Errorf("%s is lost", name)
		}
	}
	if tt.raised && s.epochs.last() == 1 {
		t.Error("the epoch was not raised")
	}
}

// TestRepairLeavesAnIndexAlone: an index whose pages contradict each other is not touched, and neither is anything else.
func TestRepairLeavesAnIndexAlone(t *testing.T) {
	dir := filepath.Join(vfstest.TempDir(t), "data")
	repairable(t, dir)
	path := filepath.Join(dir, indexName)
	size := int64(os.Getpagesize())
	for page := int64(2); page < 8; page++ {
		overwrite(t, path, page*size+10, []byte{0xff, 0xff})
	}
	before, err := os.ReadFile(path)
	noError(t, err)
	got, err := Repair(t.Context(), dir, Options{})
	if err != nil || len(got.Left) == 0 || got.Left[0].Kind != store.ProblemIndex || len(got.Mended)+len(got.Lost) > 0 || got.Quarantine != "" {
		t.Errorf("Repair: %+v, %v", got, err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the index was changed: %v", err)
	}
	problems, err := Diagnose(t.Context(), dir, Options{})
	if err != nil || len(problems) == 0 || problems[0].Kind != store.ProblemIndex {
		t.Errorf("Diagnose: %+v, %v", problems, err)
	}
}

// TestUnrepairable: what there is no second copy of is said, and left.
func TestUnrepairable(t *testing.T) {
	template := filepath.Join(vfstest.TempDir(t), "data")
	repairable(t, template)
	for name, damage := range map[string]func(*bolt.Tx) error{
		"settings": put(bMeta, []byte(metaSettings), []byte("{")),
		"applied":  put(bMeta, []byte(metaApplied), []byte{1}),
		"format":   put(bMeta, []byte(metaFormat), []byte{1}),
		"meta":     func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(bMeta.String())) },
	} {
		dir := filepath.Join(vfstest.TempDir(t), "data")
		copyData(t, template, dir)
		change(t, dir, damage)
		mustFind(t, dir, store.ProblemRecord)
		got, err := Repair(t.Context(), dir, Options{})
		if err != nil || len(got.Left) != 1 || got.Left[0].Kind != store.ProblemRecord {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestRepairLocked: nobody repairs what somebody has open.
func TestRepairLocked(t *testing.T) {
	s, dir := fresh(t, Options{})
	deliver(t, s, 100, 1)
	if _, err := Repair(t.Context(), dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("Repair: %v", err)
	}
	if _, err := Diagnose(t.Context(), dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("Diagnose: %v", err)
	}
	if _, err := Repair(t.Context(), t.TempDir(), Options{}); !errors.Is(err, store.ErrNotInitialised) {
		t.Errorf("of nothing: %v", err)
	}
}
