package guard

import "testing"

// TestJump: the rules alone and against each other, each number at both of its ends.
func TestJump(t *testing.T) {
	for _, tt := range []struct {
		name  string
		facts JumpFacts
		want  JumpVerdict
	}{
		{"home, as always", JumpFacts{Known: true, Named: 200}, JumpVerdict{}},
		{"on holiday", JumpFacts{Named: 5}, JumpVerdict{}},
		{"a burst from a new network", JumpFacts{Burst: true, Named: 41}, JumpVerdict{Hold: HoldBurst, Network: true}},
		{"a burst at home is not asked about", JumpFacts{Known: true, Burst: true, Strangers: true}, JumpVerdict{}},
		{"strangers from a new network", JumpFacts{Strangers: true}, JumpVerdict{Hold: HoldStrangers, Network: true}},
		{"strangers at home", JumpFacts{Known: true, New: true}, JumpVerdict{Hold: HoldNew}},
		{"strangers at home, from a new network", JumpFacts{New: true}, JumpVerdict{Hold: HoldNew, Network: true}},
		{"a network on hold", JumpFacts{Held: true, AnyHeld: true, Known: true}, JumpVerdict{Hold: HoldNetwork, Network: true}},
		{"home, while another network is on hold", JumpFacts{AnyHeld: true, Known: true}, JumpVerdict{}},
		{"another new network, while one is on hold", JumpFacts{AnyHeld: true}, JumpVerdict{Hold: HoldElsewhere, Network: true}},
		{"few failures", JumpFacts{Known: true, Named: 9, Failed: 9}, JumpVerdict{}},
		{"worth a look", JumpFacts{Known: true, Named: 50, Failed: 10}, JumpVerdict{Review: true}},
		{"an old list", JumpFacts{Known: true, Named: 51, Failed: 10}, JumpVerdict{}},
		{"worth a look, from a new network", JumpFacts{Named: 50, Failed: 10}, JumpVerdict{Hold: HoldFailing, Network: true, Review: true}},
		{"almost failing", JumpFacts{Known: true, Named: 30, Failed: 24}, JumpVerdict{Review: true}},
		{"failing", JumpFacts{Known: true, Named: 62, Failed: 25}, JumpVerdict{Hold: HoldFailing, Network: true, Review: true}},
		{"failing, but a small share", JumpFacts{Known: true, Named: 63, Failed: 25}, JumpVerdict{Review: true}},
		{"failures of mail before yesterday", JumpFacts{Known: true, Named: 1, Failed: 30}, JumpVerdict{Hold: HoldFailing, Network: true, Review: true}},
	} {
		if got := Jump(tt.facts); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
