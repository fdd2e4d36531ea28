package boltstore

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"latchkey/store"
)

// BenchmarkOpen is what a login and a STAT ask of the store, by what the maildrop holds; and what the list costs that comes after them.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		s := crowd(b, n)
		for _, list := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/%s", n, map[bool]string{false: "stat", true: "list"}[list]), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					m, err := s.OpenMaildrop(b.Context(), 1)
					if err != nil {
						b.Fatal(err)
					}
					if got := m.Stat().Messages; got != int64(n) {
						b.Fatalf("%d messages", got)
					}
					if list {
						if _, err := m.Messages(b.Context()); err != nil {
							b.Fatal(err)
						}
					}
					if err := m.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkCommit delivers messages of 4 KiB, each durable before it is acknowledged.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "data")
			initData(b, dir)
			s := openData(b, dir, Options{})
			defer closeData(b, s)
			body := []byte("Subject: bench\r\n\r\n" + strings.Repeat("0123456789abcde\n", 255))
			b.SetBytes(int64(len(body)))
			work := make(chan struct{}, writers)
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for range work {
						d, err := s.NewDraft(b.Context())
						if err != nil {
							b.Error(err)
							return
						}
						if _, err = d.Write(body); err == nil {
							e := envelopeTo(store.AccountID(1))
							e.HeaderID = "<some-message-id@out.example>"
							_, err = d.Commit(b.Context(), e)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}
