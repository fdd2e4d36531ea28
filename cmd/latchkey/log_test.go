package main

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/config"
)

// countedLog counts writes.
type countedLog struct {
	mu     sync.Mutex
	writes int
	text   strings.Builder
}

func (l *countedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes++
	return l.text.Write(p)
}

func (l *countedLog) want(t *testing.T, writes, lines int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := strings.Count(l.text.String(), "\n"); l.writes != writes || got != lines {
		t.Errorf("%d lines in %d writes, want %d in %d", got, l.writes, lines, writes)
	}
}

// Lines wait batchTime for others and no longer; warnings and errors take those before them along at once.
func TestLogBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l countedLog
		out := newBatch(&l)
		log := newLogger(out, config.Log{}).With("service", "x")
		for i := range 3 {
			for range 10 {
				log.Info("one")
			}
			time.Sleep(batchTime - time.Nanosecond)
			synctest.Wait()
			l.want(t, i, 10*i)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			l.want(t, i+1, 10*(i+1))
		}
		log.Info("first")
		log.WithGroup("g").Warn("second")
		l.want(t, 4, 32)
		log.Error("third")
		l.want(t, 5, 33)
		time.Sleep(time.Minute) // the timer of "first" finds nothing
		l.want(t, 5, 33)
		log.Info("last")
		l.want(t, 5, 33)
		out.Flush() // as at the end
		l.want(t, 6, 34)
		if got := l.text.String(); !strings.HasSuffix(got, "level=INFO msg=last service=x\n") || strings.Index(got, "msg=first") > strings.Index(got, "msg=second") {
			t.Errorf("got %q", got[len(got)-200:])
		}
	})
}

// A batch that is full does not wait; one octet less does.
func TestLogBatchIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for more, writes := range []int{0, 1, 1} {
			var l countedLog
			out := newBatch(&l)
			for _, line := range []string{"x\n", strings.Repeat("y", batchSize-4+more) + "\n"} {
				if n, err := out.Write([]byte(line)); n != len(line) || err != nil {
					t.Fatalf("Write: %d, %v", n, err)
				}
			}
			l.want(t, writes, 2*writes)
			out.Flush()
		}
	})
}

// Many goroutines: no line is lost, torn or out of order. Run with -race.
func TestLogBatchTogether(t *testing.T) {
	const writers, lines = 8, 2000
	var l countedLog
	out := newBatch(&l)
	log := slog.New(newLogger(out, config.Log{}).Handler())
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			for i := range lines {
				if i%500 == 499 {
					log.Warn("line", "w", w, "i", i)
				} else {
					log.Info("line", "w", w, "i", i)
				}
			}
		})
	}
	work.Wait()
	out.Flush()
	var next [writers]int
	for line := range strings.Lines(l.text.String()) {
		var w, i int
		_, fields, _ := strings.Cut(line, "msg=line ")
		if n, err := fmt.Sscanf(fields, "w=%d i=%d\n", &w, &i); n != 2 || err != nil || next[w] != i {
			t.Fatalf("%q after %v", line, next)
		}
		next[w]++
	}
	for w, n := range next {
		if n != lines {
			t.Errorf("writer %d: %d lines", w, n)
		}
	}
	if l.writes > writers*lines/4 {
		t.Errorf("%d writes for %d lines", l.writes, writers*lines)
	}
}
