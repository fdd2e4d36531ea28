package main

import (
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store/memstore"
)

// TestRewriterKey: the key is made once, so that reports on mail of before a restart find their way back; another domain's are none of ours.
func TestRewriterKey(t *testing.T) {
	st := memstore.New("example.com")
	first, err := rewriter(t.Context(), st, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	again, err := rewriter(t.Context(), st, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	other, err := rewriter(t.Context(), memstore.New("example.com"), "example.com")
	if err != nil {
		t.Fatal(err)
	}
	a, err := mailaddr.Parse("x@remote.example")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if got, err := again.Reverse(first.Forward(a, now), now); err != nil || got != a {
		t.Errorf("after a restart: %s, %v", got, err)
	}
	if got, err := other.Reverse(first.Forward(a, now), now); err == nil {
		t.Errorf("by another key: %s", got)
	}
	if err := st.PutSecret(t.Context(), srsKey, []byte("short")); err != nil {
		t.Fatal(err)
	}
	if _, err := rewriter(t.Context(), st, "example.com"); err == nil {
		t.Error("a key that is none is taken")
	}
}
