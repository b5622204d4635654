package tuning

import (
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests in this file show in network namespaces of their own what knobs do, and are where the figures of linux/README.md come
// from: go test -v -run Measure ./kernel-tuning

// TestMeasureMigrate: a listener that closes takes the connections that wait in its queue with it, unless they may move to another
// listener of the port.
func TestMeasureMigrate(t *testing.T) {
	const n = 200
	arrived := func(migrate string) (count int) {
		inNamespace(t, func() {
			set(t, "net.ipv4.tcp_migrate_req", migrate)
			s := &sockets{t: t}
			defer s.closeAll()
			first, port := s.listen(0, n)
			second, _ := s.listen(port, n)
			for range n {
				fd := s.dial(port)
				if !eventually(func() bool { return connected(fd) }) {
					t.Error("a connection was not made")
				}
			}
			unix.Close(first)
			s.fds = s.fds[1:]
			if migrate == "1" {
				eventually(func() bool { count += len(s.accept(second)); return count == n })
				return
			}
			count = len(s.accept(second))
		})
		return count
	}
	without, with := arrived("0"), arrived("1")
	t.Logf("of %d connections that wait for two listeners when one closes, %d arrive with tcp_migrate_req=0, %d with 1", n, without, with)
	if without == n || with != n {
		t.Errorf("%d and %d of %d arrived", without, with, n)
	}
}

// TestMeasureBacklog: what finds the accept queue full is dropped, and comes again after a second.
func TestMeasureBacklog(t *testing.T) {
	const n = 2000
	dropped := func(somaxconn string) (drops int) {
		inNamespace(t, func() {
			set(t, "net.core.somaxconn", somaxconn)
			s := &sockets{t: t}
			defer s.closeAll()
			_, port := s.listen(0, 1<<16-1)
			before := counter(t, "TcpExt", "ListenDrops")
			for range n {
				s.dial(port)
			}
			drops = counter(t, "TcpExt", "ListenDrops") - before
		})
		return drops
	}
	small, large := dropped("512"), dropped("4096")
	t.Logf("%d connections at once, nobody accepting: %d dropped with somaxconn=512, %d with 4096", n, small, large)
	if small == 0 || large != 0 {
		t.Errorf("%d and %d dropped", small, large)
	}
}

// TestMeasureNotSent: how much a write to a peer that does not read leaves unsent in the kernel.
func TestMeasureNotSent(t *testing.T) {
	const piece = 4096
	type result struct{ taken, unsent, unread int }
	held := func(sets map[string]string) (r result) {
		inNamespace(t, func() {
			for name, value := range sets {
				set(t, name, value)
			}
			s := &sockets{t: t}
			defer s.closeAll()
			clients, servers := s.pairs(1)
			r.taken = fill(servers[0], piece)
			r.unsent, _ = unix.IoctlGetInt(servers[0], 0x894B) // SIOCOUTQNSD
			r.unread, _ = unix.IoctlGetInt(clients[0], unix.TIOCINQ)
		})
		return r
	}
	plain := held(nil)
	low := held(map[string]string{"net.ipv4.tcp_notsent_lowat": "16384"})
	mid := held(map[string]string{"net.ipv4.tcp_notsent_lowat": "131072"})
	capped := held(map[string]string{"net.ipv4.tcp_wmem": "4096 16384 262144"})
	t.Logf("bytes for a peer that does not read: as it is %+v, tcp_notsent_lowat=131072 %+v, =16384 %+v, tcp_wmem up to 256 KiB %+v", plain, mid, low, capped)
	for _, c := range []struct {
		result
		mark int
	}{{low, 16384}, {mid, 131072}} { // the last buffer is filled: up to 64 KiB above the mark
		if c.unsent > c.mark+64<<10 || c.unsent < c.mark || plain.unsent <= c.unsent {
			t.Errorf("%d bytes unsent with a mark of %d, %d without", c.unsent, c.mark, plain.unsent)
		}
	}
	if left := 256<<10 - mid.taken; left > 64<<10 {
		t.Errorf("of a full window of 256 KiB %d bytes are left to the gateway", left)
	}
}

// TestMeasureClosing: what is left of sessions when their process dies.
func TestMeasureClosing(t *testing.T) {
	const n = 4000
	left := func(limit int) (orphans, waiting int) {
		inNamespace(t, func() {
			set(t, "net.ipv4.tcp_max_tw_buckets", strconv.Itoa(limit))
			s := &sockets{t: t}
			defer s.closeAll()
			_, servers := s.pairs(n)
			for _, fd := range servers {
				unix.Close(fd)
			}
			s.fds = s.fds[:n+1]
			eventually(func() bool { return sockstat(t, "tw") >= min(limit, n*9/10) })
			orphans, waiting = sockstat(t, "orphan"), sockstat(t, "tw")
		})
		return orphans, waiting
	}
	orphans, waiting := left(100000)
	_, capped := left(1000)
	t.Logf("%d sessions closed by the server: %d orphans, %d in time-wait of %d B; with tcp_max_tw_buckets=1000 %d", n, orphans, waiting, slab("tw_sock_TCP"), capped)
	if waiting < n*9/10 || capped > 1000 {
		t.Errorf("%d in time-wait, %d with a limit of 1000", waiting, capped)
	}
}

// TestMeasureMemory: what a socket pair costs, and what one unread byte does.
func TestMeasureMemory(t *testing.T) {
	const n = 4000
	caches := []string{"TCP", "sock_inode_cache", "dentry", "filp", "eventpoll_epi"}
	total := 0
	for _, c := range caches {
		size := slab(c)
		t.Logf("%s: %d B", c, size)
		total += size
	}
	if total == 0 {
		t.Skip("/proc/slabinfo cannot be read")
	}
	t.Logf("a server's socket: %d B in these caches; request_sock_TCP %d B, tw_sock_TCP %d B, nf_conntrack %d B",
		total, slab("request_sock_TCP"), slab("tw_sock_TCP"), slab("nf_conntrack"))
	if total > kernelBytes*5/4 || total < kernelBytes*3/4 { // other kernels may differ, but not so much that checks mislead
		t.Errorf("a socket costs %d B here; %d is what checks reckon with", total, kernelBytes)
	}
	inNamespace(t, func() {
		s := &sockets{t: t}
		defer s.closeAll()
		before := sockstat(t, "mem")
		clients, _ := s.pairs(n)
		idle := sockstat(t, "mem")
		for _, fd := range clients {
			if _, err := unix.Write(fd, []byte{1}); err != nil {
				t.Error(err)
				return
			}
		}
		t.Logf("pages of tcp_mem for %d idle pairs: %d; with one unread byte each: %d", n, idle-before, sockstat(t, "mem")-before)
	})
}

// TestMeasureHash: processor time per ping through tables of different size, as a ratio within one run.
func TestMeasureHash(t *testing.T) {
	const n = 4000
	pings := 4000
	if os.Getenv("LINECARD_LONG") != "" {
		pings = 40000
	}
	cost := func(entries string) (perPing time.Duration) {
		inNamespace(t, func() {
			set(t, "net.ipv4.tcp_child_ehash_entries", entries)
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				t.Error(err)
				return
			}
			if err := loopbackUp(); err != nil {
				t.Error(err)
				return
			}
			if got := sysctlOf(t, "net.ipv4.tcp_ehash_entries"); got != entries {
				t.Errorf("a table of %s, not %s", got, entries)
			}
			s := &sockets{t: t}
			defer s.closeAll()
			clients, servers := s.pairs(n)
			var before, after unix.Rusage
			_ = unix.Getrusage(unix.RUSAGE_THREAD, &before)
			buf, at := make([]byte, 16), uint32(1)
			for range pings {
				at = at*1664525 + 1013904223
				i := int(at>>8) % n
				_, _ = unix.Write(clients[i], buf)
				_, _ = unix.Read(servers[i], buf)
			}
			_ = unix.Getrusage(unix.RUSAGE_THREAD, &after)
			perPing = time.Duration(after.Stime.Nano()-before.Stime.Nano()+after.Utime.Nano()-before.Utime.Nano()) / time.Duration(pings)
		})
		return perPing
	}
	small, large := cost("256"), cost("32768")
	t.Logf("%d pairs, %d pings: %v each with 256 buckets (%d sockets a bucket), %v with 32768, ratio %.2f",
		n, pings, small, 2*n/256, large, float64(small)/float64(max(large, 1)))
}

// TestMeasureHalfOpen: how many unanswered handshakes a listener remembers. The SYNs come through a tun device from addresses where
// nobody answers.
func TestMeasureHalfOpen(t *testing.T) {
	const n = 3000
	if tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		t.Skip(err)
	} else {
		tun.Close()
	}
	half := func(sets map[string]string, least int) (held, cookies, dropped int) {
		inNamespace(t, func() {
			for name, value := range sets {
				set(t, name, value)
			}
			tun := openTun(t)
			defer unix.Close(tun)
			s := &sockets{t: t}
			defer s.closeAll()
			_, port := s.listenAny(1<<16 - 1)
			for i := range n {
				if _, err := unix.Write(tun, syn(uint32(i), uint16(port))); err != nil {
					t.Error(err)
					return
				}
			}
			eventually(func() bool { held = halfOpen(t); return held >= least })
			cookies, dropped = counter(t, "TcpExt", "SyncookiesSent"), counter(t, "TcpExt", "ListenDrops")
		})
		return held, cookies, dropped
	}
	for _, c := range []struct {
		cookies, somaxconn, backlog string
		least, most                 int
	}{
		{"1", "512", "65536", 500, 520}, // somaxconn bounds them, whatever tcp_max_syn_backlog says
		{"1", "4096", "256", n, n},      // with cookies tcp_max_syn_backlog does nothing
		{"0", "4096", "256", 150, 256},  // without, it counts
		{"0", "4096", "65536", n, n},
	} {
		held, cookies, dropped := half(map[string]string{"net.ipv4.tcp_syncookies": c.cookies, "net.core.somaxconn": c.somaxconn,
			"net.ipv4.tcp_max_syn_backlog": c.backlog}, c.least)
		t.Logf("%d SYNs, tcp_syncookies=%s somaxconn=%s tcp_max_syn_backlog=%s: %d half-open, %d cookies sent, %d dropped",
			n, c.cookies, c.somaxconn, c.backlog, held, cookies, dropped)
		if held < c.least || held > c.most {
			t.Errorf("%d half-open, want %d to %d", held, c.least, c.most)
		}
	}
}
