package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"latchkey/store"
)

// skippedEntry stands for a record of the journal that makes no sense.
type skippedEntry struct{}

func (skippedEntry) encode(*encoder) {}
func (skippedEntry) apply(*txn)      {}
func (skippedEntry) octets() int     { return 0 }

// structure makes what is derived anew, and takes out what points to nothing. It is one transaction.
func (m *mender) structure(ctx context.Context, s *Store) error {
	r := &request{frees: true, apply: func(t *txn) error {
		x := structure{m: m, t: t, s: s}
		for _, step := range []func(){
			x.oldClients, x.accounts, x.aliases, x.condemned, x.unreadable, x.shared, x.unreadable, x.sharedAgain, x.usage, x.live, x.due, x.trail, x.sessions,
			x.grants, x.clients, x.devices, x.habits, x.ids, x.epoch,
		} {
			if step(); t.err != nil {
				break
			}
		}
		t.fail(errors.Join(ctx.Err(), m.q.flush()))
		return nil
	}}
	return errors.Join(s.tryBatch(nil, []*request{r}), r.err)
}

// structure is the mending of an index whose records can all be read.
type structure struct {
	m *mender
	t *txn
	s *Store
	// again is set when what shares a message is looked at for the second time: nothing more is looked for.
	again bool
	// newest is the highest message of the trail, lastEvent its last event.
	newest, lastEvent uint64
}

func (x *structure) mended(kind, object, detail, action string) {
	x.m.mended(kind, object, detail, action)
}

// sameBucket makes a bucket hold exactly the wanted entries, and calls tell for each that it did not.
func (x *structure) sameBucket(id bucketID, wanted map[string]string, tell func(key string, was, is *string)) {
	var wrong []string
	seen := make(map[string]struct{}, len(wanted))
	x.t.scan(id, nil, nil, func(key, value []byte) bool {
		seen[string(key)] = struct{}{}
		if is, ok := wanted[string(key)]; !ok || is != string(value) {
			wrong = append(wrong, string(key))
		}
		return true
	})
	for key := range wanted {
		if _, ok := seen[key]; !ok {
			wrong = append(wrong, key)
		}
	}
	slices.Sort(wrong)
	for _, key := range wrong {
		var was, is *string
		if b := x.t.get(id, []byte(key)); b != nil {
			text := string(b)
			was = &text
		}
		if value, ok := wanted[key]; ok {
			is = &value
			x.t.put(id, []byte(key), []byte(value))
		} else {
			x.t.delete(id, []byte(key))
		}
		tell(key, was, is)
	}
}

// accounts makes mailboxes again that mail or a name says were there, and lets every name lead to its mailbox.
func (x *structure) accounts() {
	accounts := make(map[store.AccountID]*store.Account)
	x.t.scan(bAccounts, nil, nil, func(key, value []byte) bool {
		a, err := decodeAccount(value)
		if x.t.fail(err); err == nil {
			accounts[store.AccountID(id8(key))] = &a
		}
		return true
	})
	names := make(map[string]store.AccountID)
	called := make(map[store.AccountID]string)
	x.t.scan(bAccountNames, nil, nil, func(key, value []byte) bool {
		names[string(key)] = store.AccountID(id8(value))
		called[store.AccountID(id8(value))] = string(key)
		return true
	})
	for _, id := range x.missing(accounts, called) {
		name, action := called[id], "the mailbox was made again; set its password"
		if name == "" {
			name, action = fmt.Sprintf("recovered-%d", id), "a mailbox of this name has its mail now; set its password"
		}
		accounts[id] = &store.Account{ID: id, Name: name, Created: x.m.o.Now(), CredentialVersion: uint64(x.m.o.Now().Unix()), Version: 1}
		x.t.put(bAccounts, key8(uint64(id)), encodeAccount(accounts[id]))
		x.mended(store.ProblemReference, accountObject(uint64(id)), fmt.Sprintf("the record of mailbox %q is missing", name), action)
	}
	wanted := make(map[string]string)
	ids := make([]store.AccountID, 0, len(accounts))
	for id := range accounts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		a := accounts[id]
		_, taken := wanted[a.Name]
		if a.ID != id || taken || a.Validate() != nil {
			was := a.Name
			a.ID = id
			if taken || a.Validate() != nil {
				a.Name, a.DisplayName, a.SendAs = fmt.Sprintf("recovered-%d", id), "", nil
			}
			x.t.put(bAccounts, key8(uint64(id)), encodeAccount(a))
			x.mended(store.ProblemReference, accountObject(uint64(id)), fmt.Sprintf("its record says account %q, which is another's or no name", was),
				fmt.Sprintf("its name is %s now", a.Name))
		}
		wanted[a.Name] = string(key8(uint64(id)))
	}
	lent := make(map[string]string)
	for _, id := range ids {
		for _, addr := range accounts[id].SendAs {
			lent[string(lentKey(addr, x.m.domain, id))] = ""
		}
	}
	x.sameBucket(bLent, lent, func(key string, _, _ *string) {
		object := accountObject(id8([]byte(key[len(key)-8:])))
		x.mended(store.ProblemReference, object, "what it may send as, and its place in the list of such addresses, do not agree", "the mailbox counts")
	})
	x.sameBucket(bAccountNames, wanted, func(name string, _, is *string) {
		action := "it was removed"
		if is != nil {
			action = fmt.Sprintf("it leads to account %d", id8([]byte(*is)))
		}
		x.mended(store.ProblemReference, fmt.Sprintf("name %q", name), "it does not lead to its mailbox", action)
	})
}

// missing returns ids of accounts that have mail or a name, and no record, and were not removed. Copies of others are nobody's.
func (x *structure) missing(accounts map[store.AccountID]*store.Account, called map[store.AccountID]string) (missing []store.AccountID) {
	gone := func(id store.AccountID) bool { return accounts[id] == nil && !x.t.has(bCondemned, key8(uint64(id))) }
	for id := range called {
		if gone(id) {
			missing = append(missing, id)
		}
	}
	c := x.t.bucket(bCopies).Cursor()
	for key, _ := c.First(); key != nil; {
		id := store.AccountID(id8(key))
		if called[id] == "" && gone(id) {
			missing = append(missing, id)
		}
		key, _ = c.Seek(key8(uint64(id) + 1))
	}
	slices.Sort(missing)
	return missing
}

// aliases takes targets out that do not exist, and aliases that have none or the name of a mailbox.
func (x *structure) aliases() {
	wanted := make(map[string]string)
	targets := make(map[string]string)
	x.t.scan(bAliases, nil, nil, func(key, value []byte) bool {
		a, err := decodeAlias(key, value)
		if x.t.fail(err); err != nil {
			return false
		}
		ids := slices.DeleteFunc(a.Targets, func(id store.AccountID) bool { return !x.t.has(bAccounts, key8(uint64(id))) })
		slices.Sort(ids)
		ids = slices.Compact(ids)
		a.Targets = ids
		if a.Validate() == nil && !x.t.has(bAccountNames, key) {
			wanted[string(key)] = string(encodeAlias(&a))
			for _, id := range ids {
				targets[string(append(key8(uint64(id)), key...))] = ""
			}
		}
		return true
	})
	x.sameBucket(bAliases, wanted, func(name string, _, is *string) {
		action := "the alias was removed"
		if is != nil {
			action = "what does not exist was taken out of it"
		}
		x.mended(store.ProblemReference, fmt.Sprintf("alias %q", name), "it leads to a mailbox that does not exist, or has the name of one", action)
	})
	x.sameBucket(bAliasTargets, targets, func(key string, _, _ *string) {
		x.mended(store.ProblemReference, fmt.Sprintf("alias %q of account %d", key[8:], id8([]byte(key))), "alias and mailbox do not agree", "the alias counts")
	})
}

func (x *structure) condemned() {
	var alive [][]byte
	x.t.scan(bCondemned, nil, nil, func(key, _ []byte) bool {
		if x.t.has(bAccounts, key) {
			alive = append(alive, slices.Clone(key))
		}
		return true
	})
	for _, key := range alive {
		x.t.delete(bCondemned, key)
		x.mended(store.ProblemReference, accountObject(id8(key)), "it is removed and present", "it stays")
	}
}

// usage counts what the maildrops hold.
func (x *structure) usage() {
	found := make(map[string]store.Usage)
	x.t.scan(bCopies, nil, nil, func(key, value []byte) bool {
		l, err := decodeListing(key, value)
		if x.t.fail(err); err == nil && x.t.has(bAccounts, key[:8]) {
			found[string(key[:8])] = found[string(key[:8])].Plus(store.Usage{Octets: l.size, Messages: 1})
		}
		return err == nil
	})
	wanted := make(map[string]string, len(found))
	for key, u := range found {
		wanted[key] = string(encodeUsage(u))
	}
	x.t.scan(bUsage, nil, nil, func(key, value []byte) bool {
		if u, err := decodeUsage(value); err == nil && u == (store.Usage{}) && x.t.has(bAccounts, key) && wanted[string(key)] == "" {
			wanted[string(key)] = string(value) // of an empty maildrop
		}
		return true
	})
	x.sameBucket(bUsage, wanted, func(key string, was, is *string) {
		x.mended(store.ProblemCounter, "usage of "+accountObject(id8([]byte(key))), fmt.Sprintf("%s noted, %s found", usageText(was), usageText(is)), "it was corrected")
	})
}

func usageText(b *string) string {
	if b == nil {
		return "nothing"
	}
	u, err := decodeUsage([]byte(*b))
	if err != nil {
		return "what cannot be read"
	}
	return fmt.Sprintf("%d messages of %d octets", u.Messages, u.Octets)
}

// live counts what of the journal's segments is needed.
func (x *structure) live() {
	found := make(map[uint64]live)
	need := func(w where, octets int64) {
		l := found[w.segment]
		found[w.segment] = live{Messages: l.Messages + 1, Octets: l.Octets + octets}
	}
	x.t.fail(x.t.eachHolder(func(h *held) error {
		if !h.shared() {
			need(h.where, h.octets)
		}
		return nil
	}))
	x.t.fail(x.t.eachRecord(bBodies, func(_, value []byte) error {
		r, err := decodeShared(value)
		need(r.where, r.octets)
		return err
	}))
	wanted := make(map[string]string, len(found))
	for segment, l := range found {
		wanted[string(key8(segment))] = string(l.encode())
	}
	x.sameBucket(bSegments, wanted, func(key string, _, _ *string) {
		x.mended(store.ProblemCounter, fmt.Sprintf("segment %d", id8([]byte(key))), "what of it is needed was noted wrongly", "it was counted anew")
	})
}

// correct removes entries of a bucket that are not sound.
func (x *structure) correct(id bucketID, sound func(key, value []byte) bool, object func(key []byte) string, detail string) {
	var wrong [][]byte
	x.t.scan(id, nil, nil, func(key, value []byte) bool {
		if !sound(key, value) {
			wrong = append(wrong, slices.Clone(key))
		}
		return true
	})
	for _, key := range wrong {
		x.t.delete(id, key)
		x.mended(store.ProblemReference, object(key), detail, "it was removed")
	}
}

// indexEntry is one that is missing.
type indexEntry struct{ key, value []byte }

func (x *structure) add(id bucketID, entries []indexEntry, object func(key []byte) string, detail string) {
	for _, e := range entries {
		x.t.put(id, e.key, e.value)
		x.mended(store.ProblemReference, object(e.key), detail, "it was put there")
	}
}

// due puts the jobs that are not held in order of time.
func (x *structure) due() {
	object := func(key []byte) string {
		_, id := dueOfKey(key)
		return fmt.Sprintf("job %d", id)
	}
	x.correct(bDue, func(key, _ []byte) bool {
		_, id := dueOfKey(key)
		j, err := x.t.job(id)
		return err == nil && !j.Held && string(dueKey(&j.Job)) == string(key)
	}, object, "it is in the order of time, and not in the queue like that")
	var missing []indexEntry
	x.t.fail(x.t.eachRecord(bJobs, func(_, value []byte) error {
		j, err := decodeJob(value)
		if err == nil && !j.Held && !x.t.has(bDue, dueKey(&j.Job)) {
			missing = append(missing, indexEntry{dueKey(&j.Job), nil})
		}
		return err
	}))
	x.add(bDue, missing, object, "it is not held, and not in the order of time")
}

// trail takes out blocks of events that cannot be read, and puts them aside.
func (x *structure) trail() {
	var k trailChecker
	for _, id := range []bucketID{bTrail, bTrailOpen} {
		bad := make(map[uint64]error)
		x.t.fail(x.t.eachTrail(id, func(p *pieces) error {
			before := k.open
			if err := k.check(id, p); err != nil {
				bad[p.last], k.open = err, before
				return nil
			}
			x.newest, x.lastEvent = max(x.newest, k.d.head.newest), max(x.lastEvent, p.last)
			return nil
		}))
		for _, last := range slices.Sorted(maps.Keys(bad)) {
			kept := x.t.keepPieces(&x.m.q, id, last)
			x.t.deletePieces(id, last)
			x.mended(store.ProblemRecord, fmt.Sprintf("%s %d", id, last), bad[last].Error(), "the events up to this one that are together in it were removed; they are in "+kept)
		}
	}
	x.count("octets of the trail that wait", &x.t.tally.Open, k.open)
}

// keepPieces puts a block or run aside, and returns the name of its file.
func (t *txn) keepPieces(q *quarantine, id bucketID, last uint64) (name string) {
	var b []byte
	t.scan(id, key8(last), nil, func(_, value []byte) bool {
		b = append(b, value...)
		return len(b) < maxTrailValue
	})
	name = fmt.Sprintf("%s-%016x", id, last)
	_, err := q.copy(name, bytes.NewReader(b), 0, int64(len(b)))
	t.fail(err)
	return name
}

func (x *structure) count(what string, noted *uint64, found uint64) {
	if *noted == found {
		return
	}
	x.mended(store.ProblemCounter, what, fmt.Sprintf("%d noted, %d found", *noted, found), "it was corrected")
	*noted = found
	x.t.writes++
}

func (x *structure) entries(id bucketID) (n uint64) {
	x.t.scan(id, nil, nil, func([]byte, []byte) bool { n++; return true })
	return n
}

func (x *structure) sessions() {
	wanted := make(map[string]string)
	x.t.fail(x.t.eachRecord(bSessions, func(key, value []byte) error {
		d := decoder{b: value}
		wanted[string(sessionOrderKey(d.time(), key))] = ""
		return d.err
	}))
	x.sameBucket(bSessionOrder, wanted, func(string, *string, *string) {
		x.mended(store.ProblemReference, "session", "the web sessions and their order do not agree", "their order was corrected")
	})
	x.count("web sessions", &x.t.tally.Sessions, uint64(len(wanted)))
	x.count("audit entries", &x.t.tally.Entries, x.entries(bAudit))
}

func (x *structure) grants() {
	var nobodys [][]byte
	last := uint64(0)
	x.t.fail(x.t.eachRecord(bGrants, func(key, value []byte) error {
		if !x.t.has(bAccounts, key[:8]) {
			nobodys = append(nobodys, slices.Clone(key))
		}
		last = max(last, id8(key[8:]))
		return nil
	}))
	for _, key := range nobodys {
		x.t.delete(bGrants, key)
		x.mended(store.ProblemReference, "grant "+store.GrantID(id8(key[8:])).String(), "its mailbox does not exist", "it was ended")
	}
	x.raise("grants", &x.t.tally.Grant, last)
}

// clients forgets clients of nobody, and those that an account has twice.
func (x *structure) clients() {
	k := clientSeeker{v: &x.t.view}
	why := make(map[string]string)
	x.t.fail(x.t.eachRecord(bClients, func(key, value []byte) error {
		c, err := decodeClient(key, value)
		if stray := k.stray(key, c); err == nil && stray != "" {
			why[string(key)] = stray
		}
		return err
	}))
	for _, key := range slices.Sorted(maps.Keys(why)) {
		x.t.delete(bClients, []byte(key))
		x.mended(store.ProblemReference, clientObject([]byte(key)), why[key], "it was forgotten")
	}
}

// devices forgets devices of nobody, and those that an account cannot have beside its others.
func (x *structure) devices() {
	k := deviceSeeker{v: &x.t.view}
	type stray struct {
		device store.Device
		why    string
	}
	var strays []stray
	last := uint64(0)
	x.t.fail(x.t.eachRecord(bDevices, func(key, value []byte) error {
		d, err := decodeDevice(key, value)
		if why := k.stray(d); err == nil && why != "" {
			strays = append(strays, stray{d, why})
		}
		last = max(last, id8(key[8:]))
		return err
	}))
	for _, s := range strays {
		x.t.delete(bDevices, deviceKey(s.device.Account, s.device.ID))
		x.mended(store.ProblemReference, deviceObject(s.device), s.why, "it was revoked")
	}
	x.raise("devices", &x.t.tally.Device, last)
}

// habits forgets those of nobody.
func (x *structure) habits() {
	var nobodys []string
	x.t.fail(x.t.eachRecord(bHabits, func(key, _ []byte) error {
		if !x.t.has(bAccounts, key[:8]) {
			nobodys = append(nobodys, string(key))
		}
		return nil
	}))
	for _, key := range nobodys {
		x.t.delete(bHabits, []byte(key))
		x.mended(store.ProblemReference, habitObject([]byte(key)), "its mailbox does not exist", "it was forgotten")
	}
}

// oldClients takes back choices for old clients that cannot be.
func (x *structure) oldClients() {
	settings, err := x.t.settings()
	x.t.fail(err)
	mended := make(map[string]store.Account)
	why := make(map[string][]string)
	x.t.fail(x.t.eachRecord(bAccounts, func(key, value []byte) error {
		a, err := decodeAccount(value)
		if to, wrong := oldClients(a, settings); len(wrong) > 0 {
			mended[string(key)], why[string(key)] = to, wrong
		}
		return err
	}))
	for _, key := range slices.Sorted(maps.Keys(mended)) {
		a := mended[key]
		x.t.put(bAccounts, []byte(key), encodeAccount(&a))
		for _, detail := range why[key] {
			x.mended(store.ProblemReference, accountObject(id8([]byte(key))), detail, "that was taken back")
		}
	}
}

// ids makes sure that no id is given out twice.
func (x *structure) ids() {
	last := func(id bucketID) uint64 {
		key, _ := x.t.bucket(id).Cursor().Last()
		if key == nil {
			return 0
		}
		return id8(key)
	}
	copies, messages := uint64(0), last(bBodies)
	x.t.fail(x.t.eachHolder(func(h *held) error {
		if h.account != 0 {
			copies = max(copies, h.id)
		}
		messages = max(messages, uint64(h.message))
		return nil
	}))
	messages = max(messages, x.newest)
	x.raise("accounts", &x.t.tally.Account, max(last(bAccounts), last(bCondemned)))
	x.raise("copies", &x.t.tally.Copy, copies)
	x.raise("messages", &x.t.tally.Message, messages)
	x.raise("jobs", &x.t.tally.Job, last(bJobs))
	x.raise("events", &x.t.tally.Trail, x.lastEvent)
	x.raise("audit entries", &x.t.tally.Audit, last(bAudit))
}

func (x *structure) raise(what string, noted *uint64, found uint64) {
	if *noted >= found {
		return
	}
	x.mended(store.ProblemCounter, "ids of "+what, fmt.Sprintf("id %d exists, the last one noted is %d", found, *noted), "it goes on behind it")
	*noted = found
	x.t.writes++
	if what == "copies" {
		x.m.damaged = true // others that are gone may have had ids behind it
	}
}

// epoch gives copies that will be made unique-ids that nobody can have seen. It is in the transaction that makes the index sound, before the
// journal behind the damage is applied: after that nobody would know that there was any.
func (x *structure) epoch() {
	if !x.m.damaged {
		return
	}
	x.m.damaged = false
	next := max(x.s.ids.copied, store.CopyID(x.t.tally.Copy)) + 1
	x.t.put(bMeta, []byte(metaEpochs), x.m.epochs.raised(x.m.o.Now(), next).encode())
}

// held is a copy or a job, and where its message lies.
type held struct {
	account store.AccountID // 0 is a job
	id      uint64
	message store.MessageID
	where
	octets int64
	flags  uint8
}

func (h *held) shared() bool { return h.flags&copyShared != 0 }

func (h *held) object() string {
	if h.account == 0 {
		return fmt.Sprintf("job %d", h.id)
	}
	return fmt.Sprintf("copy %d of account %d", h.id, h.account)
}

// eachHolder calls each for every copy and every job.
func (v *view) eachHolder(each func(*held) error) error {
	err := v.eachRecord(bCopies, func(key, value []byte) error {
		l, err := decodeListing(key, value)
		if err != nil {
			return err
		}
		return each(&held{store.AccountID(id8(key)), uint64(l.id), l.message, l.where(), l.octets(), l.flags})
	})
	if err != nil {
		return err
	}
	return v.eachRecord(bJobs, func(_, value []byte) error {
		j, err := decodeJob(value)
		if err != nil {
			return err
		}
		return each(&held{0, uint64(j.ID), j.Message, j.where, j.octets(), j.flags})
	})
}
