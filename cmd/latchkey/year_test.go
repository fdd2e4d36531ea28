package main

import (
	"testing"
	"time"
)

func TestYearDraft(t *testing.T) {
	begun := time.Now()
	y := newYear(t, 1, 200)
	for _, b := range y.boxes {
		for i := range 50 {
			d := newDevice(y, b, i)
			y.join(d, d.every)
		}
		y.join(&owner{b}, 180*24*time.Hour)
	}
	all := attackers()
	for _, a := range all {
		y.join(a, 24*time.Hour)
	}
	y.live(10 * 24 * time.Hour)
	t.Logf("tried %d, refused %v, wrong %d, sent %d; %v", y.tried, y.refused, y.wrong, y.sent, time.Since(begun))
	for _, a := range all {
		t.Logf("%s %s: best day %d %s, all %d in %d steps", a.row, a.wants, a.best, a.unit, a.all, a.steps)
	}
}
