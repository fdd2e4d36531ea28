package guard

import "container/list"

// table is a map with a bound: beyond it the entry that was used longest ago is forgotten.
type table[K comparable, V any] struct {
	max     int
	entries map[K]*list.Element
	order   *list.List // most recently used first; values are *tableEntry[K, V]
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
	if len(t.entries) >= t.max {
		oldest := t.order.Back()
		delete(t.entries, t.order.Remove(oldest).(*tableEntry[K, V]).key)
	}
	entry := &tableEntry[K, V]{key: key}
	t.entries[key] = t.order.PushFront(entry)
	return &entry.value
}
