package guard

import (
	"container/list"
	"maps"
)

// table is a map with a bound: beyond it the entry that was used longest ago is forgotten.
type table[K comparable, V any] struct {
	max     int
	entries map[K]*list.Element
	order   *list.List // most recently used first; values are *tableEntry[K, V]
	deleted int        // keys taken out of entries since it was made
}

type tableEntry[K comparable, V any] struct {
	key   K
	value V
}

func newTable[K comparable, V any](limit int) *table[K, V] {
	return &table[K, V]{max: limit, entries: map[K]*list.Element{}, order: list.New()}
}

// peek returns what is known of a key, or nil.
func (t *table[K, V]) peek(key K) *V {
	if e, ok := t.entries[key]; ok {
		return &e.Value.(*tableEntry[K, V]).value
	}
	return nil
}

// use returns the entry of a key, a new one if need be.
func (t *table[K, V]) use(key K) *V {
	if e, ok := t.entries[key]; ok {
		t.order.MoveToFront(e)
		return &e.Value.(*tableEntry[K, V]).value
	}
	if len(t.entries) >= t.max { // its place is used again: a flood of keys makes no garbage
		oldest := t.order.Back()
		entry := oldest.Value.(*tableEntry[K, V])
		t.delete(entry.key)
		*entry = tableEntry[K, V]{key: key}
		t.order.MoveToFront(oldest)
		t.entries[key] = oldest
		return &entry.value
	}
	entry := &tableEntry[K, V]{key: key}
	t.entries[key] = t.order.PushFront(entry)
	return &entry.value
}

// remove forgets a key.
func (t *table[K, V]) remove(key K) {
	if e, ok := t.entries[key]; ok {
		t.order.Remove(e)
		t.delete(key)
	}
}

// removeFunc forgets the entries that gone says so of.
func (t *table[K, V]) removeFunc(gone func(key K, value *V) bool) {
	for e := t.order.Front(); e != nil; {
		next, entry := e.Next(), e.Value.(*tableEntry[K, V])
		if gone(entry.key, &entry.value) {
			t.order.Remove(e)
			t.delete(entry.key)
		}
		e = next
	}
}

// delete takes a key out of the map. A map of the runtime splits its parts while keys come and go and never joins them again, until it takes four times its
// first size; so it is made anew after as many deletions as it has places.
func (t *table[K, V]) delete(key K) {
	delete(t.entries, key)
	if t.deleted++; t.deleted < t.max {
		return
	}
	anew := make(map[K]*list.Element, len(t.entries))
	maps.Copy(anew, t.entries)
	t.entries, t.deleted = anew, 0
}
