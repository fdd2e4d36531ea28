package journal

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestModel does anything in any order, and compares with what must be there.
func TestModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld(r, 1)
		w.options.Spares = rapid.IntRange(0, 3).Draw(r, "spares")
		must(r, w.open())
		var pins []*Pin
		r.Repeat(map[string]func(*rapid.T){
			"append": func(r *rapid.T) {
				size := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0, 20_000), rapid.SampledFrom(sizes)).Draw(r, "size")
				must(r, w.append(size, rapid.Bool().Draw(r, "frees")))
			},
			"commit": func(r *rapid.T) { must(r, w.commit()) },
			"commit ahead": func(r *rapid.T) {
				must(r, w.commitAhead(rapid.SliceOfN(rapid.SampledFrom(sizes), 0, 5).Draw(r, "next")...))
			},
			"discard": func(*rapid.T) { w.discard() },
			"idle":    func(*rapid.T) { w.j.Idle() },
			"apply":   func(r *rapid.T) { w.apply(rapid.IntRange(1, 30).Draw(r, "records")) },
			"shrink": func(r *rapid.T) {
				if len(w.group) == 0 {
					must(r, w.j.Shrink())
				}
			},
			"free": func(r *rapid.T) { w.free(rapid.IntRange(1, 4).Draw(r, "segments")) },
			"pin": func(r *rapid.T) {
				list, _, _ := w.j.Segments()
				if len(list) == 0 {
					return
				}
				p, err := w.j.Pin(rapid.SampledFrom(list).Draw(r, "segment").Generation)
				must(r, err)
				pins = append(pins, p)
			},
			"release": func(r *rapid.T) {
				if len(pins) > 0 {
					pins[0].Release()
					pins = pins[1:]
				}
			},
			"time": func(r *rapid.T) {
				w.pass(time.Duration(rapid.IntRange(0, 100).Draw(r, "seconds")) * time.Second)
			},
			"stop": func(r *rapid.T) {
				for ; len(pins) > 0; pins = pins[1:] {
					pins[0].Release()
				}
				w.group = nil
				w.reopen()
			},
			"full": func(r *rapid.T) {
				w.disk.limit(int64(rapid.IntRange(0, 100_000).Draw(r, "room")))
				for range 5 {
					err := w.append(rapid.IntRange(0, 30_000).Draw(r, "size"), false)
					if err != nil && !errors.Is(err, ErrNoSpace) {
						r.Fatal(err)
					}
				}
				w.disk.limit(unlimited)
				w.pass(2 * retryDelay)
			},
			"": func(*rapid.T) {
				if list, _, _ := w.j.Segments(); len(list) < 8 {
					w.verify()
				}
			},
		})
		for _, p := range pins {
			p.Release()
		}
		w.verify()
		w.shut()
	})
}
