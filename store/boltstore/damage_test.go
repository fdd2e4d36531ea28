package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/mailaddr"
	"latchkey/internal/vfs"
	"latchkey/store"
)

// TestDamagedBody: no wrong octet of a body is ever handed out, whatever happened to its file.
func TestDamagedBody(t *testing.T) {
	const size = wideSize + blockSize + 100
	const header = len("Subject: one\r\n\r\n")
	tests := []struct {
		name   string
		damage func(path string) error
		whole  int // octets of the body that may be read before the damage
	}{
		{"first octet", flip(0), 0},
		{"end of the first block", flip(blockSize - 1), 0},
		{"second block", flip(blockSize), blockSize},
		{"block behind what is read at once", flip(wideSize), wideSize},
		{"last octet", flip(header + size - 1), wideSize + blockSize},
		{"trailer", flip(header + size), 0},
		{"end of the trailer", flip(header + size + 6*sumSize - 1), 0},
		{"cut", func(p string) error { return os.Truncate(p, size/2) }, 0},
		{"one octet short", func(p string) error { return os.Truncate(p, int64(header+size+6*sumSize-1)) }, 0},
		{"longer", func(p string) error { return os.Truncate(p, int64(header+size+6*sumSize+1)) }, 0},
		{"empty", func(p string) error { return os.Truncate(p, 0) }, 0},
		{"missing", os.Remove, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			initData(t, dir)
			s := openData(t, dir, Options{})
			defer closeData(t, s)
			if err := send(s, newLedger(), "one", size, true); err != nil {
				t.Fatal(err)
			}
			if err := tt.damage(onlyBody(t, dir)); err != nil {
				t.Fatal(err)
			}
			m, err := s.OpenMaildrop(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = m.Close() }()
			prefix := len("X-Copy: 1\r\n")
			text := "Subject: one\r\n\r\n" + strings.Repeat("x", size)
			expectDamage(t, func() (io.ReadCloser, error) { return m.OpenMessage(t.Context(), ids(t, m)[0]) }, prefix+tt.whole, "X-Copy: 1\r\n"+text)
			expectDamage(t, func() (io.ReadCloser, error) { return s.OpenJob(t.Context(), 1) }, tt.whole, text)
			problems, err := s.Check(t.Context())
			if err != nil || len(problems) != 1 || problems[0].Kind != store.ProblemMessage {
				t.Errorf("Check: %+v, %v, want one damaged message", problems, err)
			}
		})
	}
}

func flip(off int) func(string) error {
	return func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[off] ^= 4
		return os.WriteFile(path, b, vfs.FileMode)
	}
}

func onlyBody(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, largeName))
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d bodies (%v), want 1", len(entries), err)
	}
	return filepath.Join(dir, largeName, entries[0].Name())
}

// expectDamage reads twice, by Read and by WriteTo.
func expectDamage(t *testing.T, open func() (io.ReadCloser, error), whole int, text string) {
	t.Helper()
	for _, read := range []func(r io.Reader) ([]byte, error){
		io.ReadAll,
		func(r io.Reader) ([]byte, error) {
			var b bytes.Buffer
			_, err := r.(io.WriterTo).WriteTo(&b)
			return b.Bytes(), err
		},
	} {
		r, err := open()
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("error %v, want %v", err, store.ErrDamaged)
			}
			continue
		}
		b, err := read(r)
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("error %v, want %v", err, store.ErrDamaged)
		}
		if len(b) != whole || string(b) != text[:whole] {
			t.Errorf("read %d octets, want %d, and right ones", len(b), whole)
		}
		if _, again := r.Read(make([]byte, 1)); !errors.Is(again, store.ErrDamaged) {
			t.Errorf("read again: %v, want %v", again, store.ErrDamaged)
		}
		_ = r.Close()
	}
}

// TestWideReaders: so many readers of large bodies have large buffers and the others small ones; all read the same, and give them back.
func TestWideReaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{})
	defer closeData(t, s)
	const size = wideSize + blockSize + 100
	if err := send(s, newLedger(), "one", size, true); err != nil {
		t.Fatal(err)
	}
	m := openDrop(t, s, 1)
	defer func() { _ = m.Close() }()
	id := ids(t, m)[0]
	var readers []io.ReadCloser
	for n := 1; n <= maxWide+2; n++ {
		r, err := m.OpenMessage(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, 100); err != nil { // the buffer is lent with the first octet of the body
			t.Fatal(err)
		}
		readers = append(readers, r)
		if got := int(s.bodies.wide.taken.Load()); got != min(n, maxWide) {
			t.Errorf("%d readers have %d large buffers", n, got)
		}
	}
	want := strings.Repeat("x", 1000)
	for i, r := range readers {
		b, err := io.ReadAll(r)
		if err != nil || len(b) < size-100 || len(b) > size || string(b[len(b)-1000:]) != want {
			t.Errorf("reader %d: %d octets: %v", i, len(b), err)
		}
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	}
	if got := s.bodies.wide.taken.Load(); got != 0 {
		t.Errorf("%d large buffers were not given back", got)
	}
}

// TestSwappedBody: a whole and sound file of another message is damage too.
func TestSwappedBody(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{})
	defer closeData(t, s)
	if err := send(s, newLedger(), "one", spillAbove, false); err != nil {
		t.Fatal(err)
	}
	first := onlyBody(t, dir)
	if err := send(s, newLedger(), "two", spillAbove, false); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, largeName))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if p := filepath.Join(dir, largeName, e.Name()); p != first {
			if err := os.Rename(p, first); err != nil {
				t.Fatal(err)
			}
		}
	}
	m, err := s.OpenMaildrop(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	for _, id := range ids(t, m) {
		expectDamage(t, func() (io.ReadCloser, error) { return m.OpenMessage(t.Context(), id) }, len("X-Copy: 1\r\n"), "X-Copy: 1\r\n")
	}
}

// TestCheckFinds breaks the index behind the store's back.
func TestCheckFinds(t *testing.T) {
	tests := []struct {
		name string
		kind string
		edit func(*bolt.Tx) error
	}{
		{"usage", "counter off", put(bUsage, key8(1), encodeUsage(store.Usage{Octets: 1, Messages: 7}))},
		{"references", "counter off", edit(bBodies, key8(1), func(b []byte) []byte { b[0]++; return b })},
		{"copy without message", "dangling reference", put(bCopies, key16(1, 1), copyAt(99, copyShared))},
		{"body without record", "dangling reference", del(bBodies, key8(1))},
		{"copy without account", "dangling reference", put(bCopies, key16(77, 1), copyAt(1, copyShared))},
		{"copy at another place than the others", "dangling reference", put(bCopies, key16(1, 1), copyAt(1, copyShared))},
		{"live octets", "counter off", put(bSegments, key8(1), live{Messages: 1, Octets: 1}.encode())},
		{"segment that nobody needs", "counter off", put(bSegments, key8(77), live{Messages: 1, Octets: 1}.encode())},
		{"segment that nobody counts", "counter off", del(bSegments, key8(1))},
		{"name to nowhere", "dangling reference", put(bAccountNames, []byte("carl"), key8(77))},
		{"account without name", "dangling reference", del(bAccountNames, []byte("anna"))},
		{"alias to nowhere", "dangling reference", put(bAliases, []byte("sales"), encodeAlias(&store.Alias{Targets: []store.AccountID{77}}))},
		{"address lent by nobody", "counter off", put(bLent, lentKey(lentAddress(), domain, 1), nil)},
		{"address lent and not found", "dangling reference", editAccount(1, func(a *store.Account) { a.SendAs = append(a.SendAs, lentAddress()) })},
		{"job out of order", "dangling reference", func(tx *bolt.Tx) error {
			key, _ := tx.Bucket([]byte(bDue.String())).Cursor().First()
			return tx.Bucket([]byte(bDue.String())).Delete(key)
		}},
		{"job without record", "counter off", del(bJobs, key8(1))},
		{"trail", "counter off", del(bTrailOpen, pieceKey(3, 0))},
		{"torn record", "damaged record", put(bCopies, key16(1, 1), []byte{1, 2, 3})},
		{"grant without account", "dangling reference", put(bGrants, key16(77, 1), encodeGrant(&store.Grant{Network: grantFor(1).Network}))},
		{"grant id to be given again", "counter off", put(bGrants, key16(1, 1), encodeGrant(&store.Grant{Network: grantFor(1).Network}))},
		{"torn grant", "damaged record", put(bGrants, key16(1, 1), []byte{1, 2, 3})},
		{"client without account", "dangling reference", put(bClients, clientKey(77, 0), encodeClient(&store.Client{Program: "x"}))},
		{"client that is there twice", "dangling reference", func(tx *bolt.Tx) error {
			c := encodeClient(&store.Client{Program: "x"})
			return errors.Join(put(bClients, clientKey(1, 0), c)(tx), put(bClients, clientKey(1, 1), c)(tx))
		}},
		{"habit without account", "dangling reference", put(bHabits, habitKey(77, store.HabitNetwork, "x"), encodeHabit(&store.Habit{}))},
		{"torn suppression", "damaged record", put(bSuppressions, []byte("a@x.example"), []byte{1})},
		{"suppression of another address", "damaged record", put(bSuppressions, []byte("b@x.example"), encodeSuppression(
			&store.Suppression{Address: mustAddress("a@x.example")}))},
		{"torn habit", "damaged record", put(bHabits, habitKey(1, store.HabitNetwork, "x"), []byte{1})},
		{"habit of no kind", "damaged record", put(bHabits, habitKey(1, 'x', "x"), encodeHabit(&store.Habit{}))},
		{"torn client", "damaged record", put(bClients, clientKey(1, 0), []byte{1, 2, 3})},
		{"client beyond the bound", "damaged record", put(bClients, clientKey(1, store.MaxClients), encodeClient(&store.Client{Program: "x"}))},
		{"client with a text beyond the bound", "damaged record", put(bClients, clientKey(1, 0), encodeClient(longClient()))},
		{"device without account", "dangling reference", put(bDevices, key16(77, 1), aDevice("x"))},
		{"two devices of one name", "dangling reference", func(tx *bolt.Tx) error {
			return errors.Join(put(bDevices, key16(1, 1), aDevice("x"))(tx), put(bDevices, key16(1, 2), aDevice("X"))(tx))
		}},
		{"torn device", "damaged record", put(bDevices, key16(1, 1), []byte{1, 2, 3})},
		{"device that cannot be", "damaged record", put(bDevices, key16(1, 1), aDevice(""))},
		{"device id to be given again", "counter off", put(bDevices, key16(1, 1), aDevice("x"))},
		{"sealed and not allowed", "dangling reference", editAccount(1, func(a *store.Account) { a.Sealed = "sealed" })},
		{"selection that cannot be", "dangling reference", editAccount(1, func(a *store.Account) { a.POP3.Select = "all" })},
		{"id to be given again", "counter off", put(bMeta, []byte(metaTally), (&tally{}).encode())},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			initData(t, dir)
			s := openData(t, dir, Options{})
			if err := send(s, newLedger(), "one", 100, true); err != nil {
				t.Fatal(err)
			}
			closeData(t, s)
			change(t, dir, tt.edit)
			s = openData(t, dir, Options{})
			defer func() { _ = s.Close() }()
			problems, err := s.Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range problems {
				if p.Kind == tt.kind {
					return
				}
			}
			t.Errorf("Check found %+v, want a %s", problems, tt.kind)
		})
	}
}

// aDevice is the record of one that sends.
func aDevice(name string) []byte {
	return encodeDevice(&store.Device{Name: name, Verifier: "v", Send: true})
}

// copyAt is a copy whose message lies where none does.
func copyAt(id store.MessageID, flags uint8) []byte {
	var e encoder
	(&listing{message: id, size: 10, header: 5, segment: 1, offset: 5000, flags: flags}).encode(&e)
	return e.b
}

// lentAddress is an address that no account of the test has.
func lentAddress() mailaddr.Address {
	a, err := mailaddr.New("press", "partner.example")
	if err != nil {
		panic(err)
	}
	return a
}

// longClient has one octet more than a client may have.
func longClient() *store.Client {
	return &store.Client{Program: strings.Repeat("x", store.MaxClientText+1)}
}

func editAccount(id uint64, change func(*store.Account)) func(*bolt.Tx) error {
	return edit(bAccounts, key8(id), func(b []byte) []byte {
		a, err := decodeAccount(b)
		if err != nil {
			panic(err)
		}
		change(&a)
		return encodeAccount(&a)
	})
}

func put(id bucketID, key, value []byte) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error { return tx.Bucket([]byte(id.String())).Put(key, value) }
}

func del(id bucketID, key []byte) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error { return tx.Bucket([]byte(id.String())).Delete(key) }
}

func edit(id bucketID, key []byte, change func([]byte) []byte) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(id.String()))
		value := b.Get(key)
		if value == nil {
			return fmt.Errorf("no %s %x", id, key)
		}
		return b.Put(key, change(append([]byte(nil), value...)))
	}
}

// TestCheckFindsOrphan: a body that nobody names, found beside the work.
func TestCheckFindsOrphan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{})
	defer closeData(t, s)
	orphan := newToken().String()
	if err := os.WriteFile(filepath.Join(dir, largeName, orphan), nil, vfs.FileMode); err != nil {
		t.Fatal(err)
	}
	problems, err := s.Check(t.Context())
	if err != nil || len(problems) != 1 || problems[0].Kind != "orphan body" {
		t.Errorf("Check: %+v, %v, want one orphan body", problems, err)
	}
}
