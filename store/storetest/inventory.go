package storetest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"latchkey/store"
)

var inventoryTests = []test{
	{"NoteClients", TestNoteClients},
	{"ClientsAreToldApart", TestClientsAreToldApart},
	{"MostClients", TestMostClients},
	{"ClientTexts", TestClientTexts},
	{"NoteClientsBounds", TestNoteClientsBounds},
	{"ListClients", TestListClients},
	{"RemovedAccountsClients", TestRemovedAccountsClients},
}

// client is one that was seen once, n minutes after the harness's moment.
func (h *harness) client(a store.Account, program string, n int) store.Client {
	at := h.now.Add(time.Duration(n) * time.Minute)
	return store.Client{
		Account: a.ID, Program: program, Door: "pop3", Mechanism: "PLAIN", TLS: "TLS 1.3", Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}),
		First: at, Last: at.Add(time.Second), Sessions: 1, Fetched: 2, Deleted: 3, Keeps: 1,
	}
}

func (h *harness) wantClients(id store.AccountID, limit int, want ...store.Client) {
	h.t.Helper()
	got, err := h.s.ListClients(h.ctx, id, limit)
	h.must(err)
	if !slices.EqualFunc(got, want, sameClient) {
		h.t.Errorf("clients of account %d, at most %d:\n%+v\nwant\n%+v", id, limit, got, want)
	}
}

func sameClient(a, b store.Client) bool {
	if !a.First.Equal(b.First) || !a.Last.Equal(b.Last) {
		return false
	}
	a.First, a.Last = b.First, b.Last
	return a == b
}

// TestNoteClients: what is seen again keeps the earlier First, has the later Last with its address, and its counts add up.
func TestNoteClients(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	h.must(h.s.NoteClients(h.ctx, nil))
	h.wantClients(anna.ID, 10)
	middle, early, late := h.client(anna, "Eudora", 20), h.client(anna, "Eudora", 10), h.client(anna, "Eudora", 30)
	h.must(h.s.NoteClients(h.ctx, []store.Client{middle}))
	want := middle
	h.wantClients(anna.ID, 10, want)
	h.must(h.s.NoteClients(h.ctx, []store.Client{early}))
	want.First = early.First
	want.Sessions, want.Fetched, want.Deleted, want.Keeps = 2, 4, 6, 2
	h.wantClients(anna.ID, 10, want)
	h.reopen()
	other := h.client(anna, "Outlook", 25)
	other.Address = netip.MustParseAddr("2001:db8::1")
	h.must(h.s.NoteClients(h.ctx, []store.Client{late, other, late}))
	want.Last, want.Address = late.Last, late.Address
	want.Sessions, want.Fetched, want.Deleted, want.Keeps = 4, 8, 12, 4
	for range 2 {
		h.wantClients(anna.ID, 10, want, other)
		h.reopen()
	}
}

// TestClientsAreToldApart: by each of what makes them one, and by nothing else.
func TestClientsAreToldApart(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	seen := []store.Client{h.client(anna, "Eudora", 9)}
	for i, change := range []func(*store.Client){
		func(c *store.Client) { c.Account = bob.ID },
		func(c *store.Client) { c.Program = "Eudora " },
		func(c *store.Client) { c.Program = "" },
		func(c *store.Client) { c.Door = "old_pop3" },
		func(c *store.Client) { c.Mechanism = "APOP" },
		func(c *store.Client) { c.TLS = "" },
		func(c *store.Client) { c.Device = "Scanner" },
		func(c *store.Client) { c.Program, c.Door = "Eudorapop3", "" }, // the texts are not run together
	} {
		c := h.client(anna, "Eudora", 8-i)
		change(&c)
		seen = append(seen, c)
	}
	h.must(h.s.NoteClients(h.ctx, seen))
	again := slices.Clone(seen)
	for i := range again {
		again[i].Address, again[i].Fetched = netip.Addr{}, 0
	}
	h.must(h.s.NoteClients(h.ctx, again))
	var annas []store.Client
	for i, c := range seen {
		c.Address = netip.Addr{} // that of the last time
		c.Sessions, c.Deleted, c.Keeps = 2, 6, 2
		if i != 1 {
			annas = append(annas, c)
			continue
		}
		h.wantClients(bob.ID, 10, c)
	}
	h.reopen()
	h.wantClients(anna.ID, 10, annas...)
}

// TestMostClients: at the bound the one that was not seen for longest makes room, and one that is older than all gets none.
func TestMostClients(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	var known []store.Client
	for i := range store.MaxClients {
		known = append(known, h.client(anna, fmt.Sprint("program ", i), 100+i))
	}
	known[7].Last = h.now.Add(-time.Hour)
	h.must(h.s.NoteClients(h.ctx, known))
	h.must(h.s.NoteClients(h.ctx, []store.Client{h.client(bob, "other", 1)}))
	newestFirst := func() []store.Client { return slices.SortedFunc(slices.Values(known), store.CompareClients) }
	h.wantClients(anna.ID, 100, newestFirst()...)
	older := h.client(anna, "older than all", 0)
	older.Last = known[7].Last.Add(-time.Second)
	h.must(h.s.NoteClients(h.ctx, []store.Client{older}))
	h.wantClients(anna.ID, 100, newestFirst()...)
	for i, at := range []int{7, 0, 1} { // then the ones that are next
		known[at] = h.client(anna, fmt.Sprint("new ", i), 200+i)
		h.must(h.s.NoteClients(h.ctx, known[at:at+1]))
		h.reopen()
		h.wantClients(anna.ID, 100, newestFirst()...)
	}
	again := h.client(anna, "program 2", 300) // is known, and takes nobody's place
	h.must(h.s.NoteClients(h.ctx, []store.Client{again}))
	known[2] = known[2].With(again)
	h.wantClients(anna.ID, 100, newestFirst()...)
	h.wantClients(bob.ID, 100, h.client(bob, "other", 1))
}

// TestClientTexts: they are cut between characters, and fit to be shown; what is cut to the same is the same client.
func TestClientTexts(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	whole := strings.Repeat("x", store.MaxClientText)
	umlaut := strings.Repeat("x", store.MaxClientText-1) + "ü"
	c := h.client(anna, whole+"y", 5)
	c.Door, c.Mechanism, c.TLS = whole, umlaut, "a\r\nb\xff\x00"
	h.must(h.s.NoteClients(h.ctx, []store.Client{c}))
	want := c
	want.Program, want.Mechanism, want.TLS = whole, whole[1:], "a  b\uFFFD "
	h.wantClients(anna.ID, 10, want)
	h.reopen()
	got, err := h.s.ListClients(h.ctx, anna.ID, 10)
	h.must(err)
	if len(got) != 1 || !utf8.ValidString(got[0].Mechanism) || len(got[0].Door) != store.MaxClientText {
		t.Errorf("kept %+v", got)
	}
	c.Program = whole + "z"
	h.must(h.s.NoteClients(h.ctx, []store.Client{c, want}))
	want.Sessions, want.Fetched, want.Deleted, want.Keeps = 3, 6, 9, 3
	h.wantClients(anna.ID, 10, want)
}

// TestNoteClientsBounds: what is refused changes nothing, and both ends of the bound hold.
func TestNoteClientsBounds(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	c := h.client(anna, "Eudora", 1)
	most := slices.Repeat([]store.Client{c}, store.MaxNotedClients)
	h.want(h.s.NoteClients(h.ctx, append(most, c)), store.ErrBound)
	for _, change := range []func(*store.Client){
		func(c *store.Client) { c.Sessions = -1 },
		func(c *store.Client) { c.Fetched = -1 },
		func(c *store.Client) { c.Deleted = -1 },
		func(c *store.Client) { c.Keeps = -1 },
	} {
		wrong := c
		change(&wrong)
		h.want(h.s.NoteClients(h.ctx, []store.Client{c, wrong}), store.ErrInvalid)
	}
	h.wantClients(0, 10)
	h.must(h.s.NoteClients(h.ctx, most))
	want := c
	want.Sessions, want.Fetched, want.Deleted, want.Keeps = 10_000, 20_000, 30_000, 10_000
	h.wantClients(0, 10, want)
}

// TestListClients: of one account or of all, never more than asked for, and none of an account that is not there.
func TestListClients(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob, carl := h.account("anna"), h.account("bob"), h.account("carl")
	a1, a2, a3 := h.client(anna, "a", 3), h.client(anna, "b", 9), h.client(anna, "c", 6)
	b1, c1 := h.client(bob, "b", 20), h.client(carl, "a", 10)
	c2 := h.client(carl, "b", 10) // of the same moment: the texts settle it
	h.must(h.s.NoteClients(h.ctx, []store.Client{c2, a1, b1, a2, c1, a3}))
	all := []store.Client{a2, a3, a1, b1, c1, c2}
	for range 2 {
		for limit := range len(all) + 2 {
			h.wantClients(0, limit, all[:min(limit, len(all))]...)
			h.wantClients(anna.ID, limit, all[:min(limit, 3)]...)
		}
		h.wantClients(0, -1)
		h.wantClients(carl.ID, 10, c1, c2)
		h.wantClients(carl.ID+1, 10)
		h.reopen()
	}
}

// TestRemovedAccountsClients: they are forgotten with it, and what is noted later of it too.
func TestRemovedAccountsClients(t *testing.T, f Factory) {
	h := open(t, f)
	old, bob := h.account("anna"), h.account("bob")
	b := h.client(bob, "b", 1)
	var many []store.Client
	for i := range store.MaxClients {
		many = append(many, h.client(old, fmt.Sprint(i), i))
	}
	h.must(h.s.NoteClients(h.ctx, append(many, b)))
	h.must(h.s.RemoveAccount(h.ctx, old.ID))
	h.wantClients(0, 100, b)
	nobody := store.Account{}
	h.must(h.s.NoteClients(h.ctx, []store.Client{many[0], h.client(nobody, "x", 1), b}))
	b = b.With(b)
	anna := h.account("anna")
	for range 2 {
		h.wantClients(old.ID, 100)
		h.wantClients(anna.ID, 100)
		h.wantClients(0, 100, b)
		h.reopen()
	}
}
