package gateway

import (
	"testing"

	"linecard.example/internal/stanza"
)

// TestShare: what is configured is the machine's, however many workers there are.
func TestShare(t *testing.T) {
	for _, c := range []struct{ workers, loops int }{{2, 2}, {3, 8}, {4, 4}, {8, 3}, {105, 2}} {
		whole := DefaultConfig()
		whole.Loops, whole.Workers = c.loops, c.workers
		var loops, queue, burst, partial int
		var rate float64
		for slot := range c.workers {
			s := whole.share(c.workers, slot, 64)
			if faults := s.Validate(); len(faults) > 0 {
				t.Fatalf("%+v: %v", c, faults)
			}
			loops += s.Loops
			queue += s.HandshakeQueue
			burst += s.HandshakeBurst
			rate += s.HandshakeRate
			partial += s.PartialBytes.Int() * s.Loops
			if s.crowded != (c.workers > 64) {
				t.Errorf("%+v: crowded %v on 64 cores", c, s.crowded)
			}
			if s.MaxSessions != whole.MaxSessions || s.SendRate != whole.SendRate {
				t.Errorf("%+v: what is of one worker or session was divided", c)
			}
		}
		if loops != max(c.loops, c.workers) {
			t.Errorf("%+v: %d loops", c, loops)
		}
		if rate < whole.HandshakeRate*0.999 || rate > whole.HandshakeRate*1.001 || burst < whole.HandshakeBurst || burst > whole.HandshakeBurst+c.workers {
			t.Errorf("%+v: rate %v, burst %d", c, rate, burst)
		}
		if queue > whole.HandshakeQueue && queue > 64*c.workers || partial > max(whole.PartialBytes.Int()*c.loops, c.workers<<20) {
			t.Errorf("%+v: queue %d, %d bytes of partial frames", c, queue, partial)
		}
	}
	if whole := DefaultConfig(); whole.Share(1, 0).HandshakeBurst != whole.HandshakeBurst {
		t.Error("one worker has not all")
	}
}

// TestWorkerCount is the rule of 1.05, and one more so that the others have room when one dies.
func TestWorkerCount(t *testing.T) {
	for _, c := range []struct{ workers, sessions, most, want int }{
		{0, 0, 0, 1}, {1, 0, 0, 1}, {7, 0, 0, 7}, {0, 20, 21, 1}, {0, 20, 20, 3}, {0, 76, 20, 5}, {0, 77, 20, 6}, {0, 1, 1000, 1},
		{0, 2_000_000, 20, 105_001},
	} {
		if got := (Config{Workers: c.workers, Sessions: c.sessions, MaxSessions: c.most}).WorkerCount(); got != c.want {
			t.Errorf("%+v: %d workers", c, got)
		}
	}
	c := DefaultConfig()
	c.Sessions, c.MaxSessions = 2_000_000, 20
	if len(c.Validate()) == 0 {
		t.Error("105,001 workers are valid")
	}
	c = DefaultConfig()
	c.Sessions, c.Workers = 5, 5
	if len(c.Validate()) == 0 {
		t.Error("both sessions and workers are valid")
	}
}

// TestSockets counts what shares an address, which FreeBSD bounds: with a replacement beside the workers.
func TestSockets(t *testing.T) {
	for _, c := range []struct{ workers, loops, want int }{{1, 0, 8}, {1, 300, 300}, {2, 8, 12}, {8, 8, 9}, {100, 8, 101}, {3, 8, 11}} {
		if got := (Config{Workers: c.workers, Loops: c.loops}).sockets(8); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// TestLimitsOfManyWorkers: a thousand accounts that come again and again meet their limit at one of many workers, too.
func TestLimitsOfManyWorkers(t *testing.T) {
	const accounts, times = 1000, 100
	s := DefaultConfig().share(108, 0, 2)
	table := newSourceTable(s.SourceEntries, s.ResumeRate, s.ResumeBurst)
	allowed := 0
	for range times {
		for a := range stanza.Account(accounts) {
			if table.allowOne(accountKey(a+1), 1) {
				allowed++
			}
		}
	}
	if most := 2 * accounts * s.ResumeBurst; allowed > most {
		t.Errorf("%d of %d were allowed, want at most %d", allowed, accounts*times, most)
	}
}
