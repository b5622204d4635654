package tuning

import "fmt"

// linuxTCP are the knobs of linux's network. TestMeasure... are tests of this package; the others are chapters of the kernel's
// Documentation, ip-sysctl.rst if not named.
var linuxTCP = []Knob{
	{
		Name: "net.core.somaxconn", Group: groupAccept, Need: Should, rule: atLeast, spaced: true, want: number(acceptQueue),
		Default: "4096", Formula: "sessions / 32, up to a power of two, 4,096 to 65,535",
		Why:    "Connections that wait for accept, for each event loop. In a storm they come faster than loops accept; what finds the queue full is dropped and comes again after a second. It bounds half-open handshakes, too. Restart gateways after a change.",
		Cost:   "A waiting connection is a whole socket",
		Source: "TestMeasureBacklog: of 2,000 at once 1,487 are dropped at 512, none at 4,096. TestMeasureHalfOpen: 513 half-open at 512, then cookies",
	},
	{
		Name: "net.ipv4.tcp_max_syn_backlog", Group: groupAccept, Need: Could, rule: atLeast, spaced: true, want: number(acceptQueue), comes: number(func(p plan) int64 { return bootBuckets(p) / 128 }),
		Default: "size of the hash table / 128, at least 128 (2,048 here)", Formula: "as net.core.somaxconn",
		Why:    "Counts only with tcp_syncookies=0, when SYNs beyond three quarters of it are dropped. With cookies somaxconn is the limit. Here for who turns cookies off.",
		Cost:   "320 B for each half-open handshake",
		Source: "TestMeasureHalfOpen: 3,000 SYNs at 256: all held with cookies on; without 193 held, 2,807 dropped",
	},
	{
		Name: "net.ipv4.tcp_syncookies", Group: groupAccept, Need: Should, rule: atLeast, spaced: true, want: always("1"),
		Default: "1", Formula: "1",
		Why:    "In a flood of SYNs that nobody means, honest clients still come through.",
		Cost:   "A connection made from a cookie has no window scaling without timestamps. In an honest storm cookies mean that somaxconn is too small (TcpExtSyncookiesSent)",
		Source: "ip-sysctl.rst; TestMeasureHalfOpen: 2,487 of 3,000 answered by cookie at somaxconn=512, none dropped",
	},
	{
		Name: "net.ipv4.tcp_synack_retries", Group: groupAccept, Need: Could, rule: atMost, spaced: true, want: always("3"),
		Default: "5: 63 s", Formula: "3: 15 s",
		Why:    "A gateway gives a handshake 10 s (handshake_timeout); what is half-open for longer is a flood.",
		Cost:   "A client behind a link that loses four packets in a row tries again by itself",
		Source: "ip-sysctl.rst (1 + 2 + 4 + 8 s)",
	},
	{
		Name: "net.ipv4.tcp_migrate_req", Group: groupAccept, Need: Should, rule: exactly, spaced: true,
		want: func(p plan) string {
			if p.Sessions == 0 {
				return "" // only workers of gateways share a port
			}
			return "1"
		},
		Default: "0", Formula: "1",
		Why:    "Connections that wait at a listener which closes move to the other listeners of the port. Otherwise they are reset, whenever a worker leaves or is upgraded.",
		Cost:   "None found. All listeners of the port must be of one kind, which they are",
		Source: "TestMeasureMigrate: of 200 that wait for two listeners 105 survive the close of one; with 1 all 200",
	},
	{
		Name: "net.ipv4.ip_local_port_range", Group: groupAccept, Need: Could, rule: exactly, spaced: true,
		want: func(p plan) string {
			if p.Pair {
				return "1024 65535"
			}
			return ""
		},
		Default: "32768 60999", Formula: "1024 65535, only where the clients run (bench, balancer)",
		Why:    "Ports for one source address: 64,000 instead of 28,000 clients an address.",
		Cost:   "A daemon that starts later may find its port in use as a source port: name such ports in ip_local_reserved_ports",
		Source: "ip-sysctl.rst",
	},
	{
		Name: "thash_entries (kernel command line)", Group: groupTables, Need: Could, where: bootSetting, rule: atLeast, reads: "net.ipv4.tcp_ehash_entries",
		want: number(buckets), comes: number(memoryBuckets),
		Default: "a bucket for each 128 KiB of memory, at most 524,288 (262,144 of 24 GiB)", Formula: "sockets / 2, up to a power of two, at most 16,777,216",
		Why:    "The hash table of all TCP sockets. Every packet walks a chain of sockets / buckets, and each step is a cache miss.",
		Cost:   "8 B a bucket, and a boot",
		Source: "TestMeasureHash: a ping costs 1.2 to 1.5 times the processor time with 31 sockets a bucket; admin-guide/kernel-parameters.txt, net/ipv4/tcp.c",
	},
	{
		Name: "net.ipv4.tcp_child_ehash_entries", Group: groupTables, Need: Could, where: byHand, want: always(""),
		Default: "0: share the machine's table", Formula: "as thash_entries, set in the parent before the network namespace of a container is made",
		Why:    "A container with a network of its own may have its own table. Its neighbours' sockets do not lengthen its chains, and no boot is needed.",
		Cost:   "8 B a bucket for each container. net.ipv4.tcp_ehash_entries shows it, negative while it is shared",
		Source: "ip-sysctl.rst; TestMeasureHash uses it",
	},
	tracked,
	{
		Name: "net.ipv4.tcp_mem", Group: groupSessions, Need: Should, rule: atLeast, want: tcpPages, comes: memoryPages,
		Default: "4.7 %, 6.2 % and 9.4 % of memory, in pages (287901 383868 575802 of 24 GiB)", Formula: "third: 1.25 pages x sockets, at most memory / 4; first and second: a half and three quarters of it",
		Why:    "Pages in the queues of all sockets. An idle session has none, any waiting byte takes one: when something goes to everybody, a page for each session. Above the third number packets are dropped ('TCP: out of memory' in the log).",
		Cost:   "Up to a quarter of memory can go to queues: leave that free, or the machine runs out before TCP holds back",
		Source: "TestMeasureMemory: 0 pages for 4,000 idle pairs, 3,584 with one unread byte each (cores take pages in batches); the bound of a quarter is a choice",
	},
	{
		Name: "net.ipv4.tcp_rmem", Group: groupSessions, Need: Could, rule: atMost, spaced: true, want: always("4096 131072 1048576"),
		Default: "4096 131072 6291456 (33554432 from 6.16 on)", Formula: "4096 131072 1048576",
		Why:    "The receive buffer grows up to the third number. A session has at most twice 256 KiB under way, a link 4 MiB of credit in a data centre: 1 MiB is enough for both, and bounds what one sender can make the kernel hold while a loop is late.",
		Cost:   "A single stream over 100 ms of distance is bounded to 40 to 80 Mbit/s: links between daemons belong in one region",
		Source: "windows of docs/protocol.md; ip-sysctl.rst. Leave the second number: smaller ones save nothing, an idle session holds 0 pages (TestMeasureMemory)",
	},
	{
		Name: "net.ipv4.tcp_wmem", Group: groupSessions, Need: Could, rule: atMost, spaced: true, want: always("4096 16384 1048576"),
		Default: "4096 16384 4194304", Formula: "4096 16384 1048576",
		Why:    "The send buffer grows up to the third number for a peer that acknowledges fast. What a slow one makes the kernel keep is bounded by tcp_notsent_lowat.",
		Cost:   "As for tcp_rmem",
		Source: "TestMeasureNotSent: a peer that does not read takes 3.9 MB at 4 MiB, 0.3 MB at 256 KiB",
	},
	{
		Name: "net.ipv4.tcp_notsent_lowat", Group: groupSessions, Need: Should, rule: atMost, spaced: true, want: always("131072"),
		Default: "4294967295", Formula: "131072: half of a session's window of 256 KiB",
		Why:    "A client that does not read its answers would have megabytes of the kernel. With it the rest waits in the gateway, where it is bounded and counted, and ends the session. Lower marks leave more of an honest slow client's window to the gateway.",
		Cost:   "A fast stream is woken up for each 128 KiB",
		Source: "TestMeasureNotSent: of 3.85 MB unsent for one such client 158 KB are left (the mark, and the buffer that passes it), and of a full window 10 KB wait in the gateway; with 16384 it is 53 KB and 116 KB",
	},
	{
		Name: "net.ipv4.tcp_slow_start_after_idle", Group: groupSessions, Need: Could, rule: exactly, spaced: true, want: always("0"),
		Default: "1", Formula: "0",
		Why:    "Sessions are idle almost always. With 1 what has waited for a device starts with a window of ten packets each time.",
		Cost:   "A burst of the old window into a path that may have changed",
		Source: "ip-sysctl.rst (RFC 2861); not measured",
	},
	{
		Name: "net.ipv4.tcp_mtu_probing", Group: groupSessions, Need: Could, rule: atLeast, spaced: true, want: always("1"),
		Default: "0", Formula: "1",
		Why:    "Mobile networks and tunnels lose large packets without a word. A session that stalls for that recovers instead of ending by time-out.",
		Cost:   "Nothing until a black hole is found",
		Source: "ip-sysctl.rst; RFC 4821",
	},
	{
		Name: "net.ipv4.tcp_keepalive_time", Group: groupSessions, Need: Could, where: byHand, want: always(""),
		Default: "7200", Formula: "left alone",
		Why:    "Gateways set no SO_KEEPALIVE on sessions. The client's pings keep networks awake and tell who is gone, for a timer of ours that costs nothing. Links between daemons have signs of life of their own.",
		Cost:   "Nothing",
		Source: "docs/protocol.md (ping); gateway/keepalive.go",
	},
	{
		Name: "net.ipv4.tcp_retries2", Group: groupEnd, Need: Could, rule: atMost, spaced: true, want: always("8"),
		Default: "15: 924 s and more", Formula: "8: 102 s and more",
		Why:    "How long the kernel repeats what a vanished client does not acknowledge, its memory held. A gateway ends an unresponsive session after 45 s.",
		Cost:   "A client without network for two minutes loses its connection, and resumes",
		Source: "ip-sysctl.rst: RFC 1122 wants 100 s, which is 8",
	},
	{
		Name: "net.ipv4.tcp_orphan_retries", Group: groupEnd, Need: Could, where: byHand, want: always(""),
		Default: "0, which means 8", Formula: "left alone: lower it (3) only when orphans pile up",
		Why:    "The same for connections that the gateway has closed already.",
		Cost:   "A client on a bad link may not see why it was closed",
		Source: "ip-sysctl.rst",
	},
	{
		Name: "net.ipv4.tcp_max_orphans", Group: groupEnd, Need: Should, rule: atLeast, want: number(orphans), comes: number(func(p plan) int64 { return bootBuckets(p) / 2 }),
		Default: "half of the hash table's buckets (131,072 here)", Formula: "1.05 x sessions / workers",
		Why:    "When a worker dies, all of its sessions become orphans until their clients have answered. Those above the limit are reset at once, and the log fills with warnings.",
		Cost:   "An orphan with unsent bytes holds them: with tcp_notsent_lowat about 160 KB at most",
		Source: "ip-sysctl.rst; TestMeasureClosing: 4,000 closed at once: 54 to 179 orphans remain where all clients answer",
	},
	{
		Name: "net.ipv4.tcp_max_tw_buckets", Group: groupEnd, Need: Could, rule: atLeast, spaced: true, want: number(orphans), comes: number(func(p plan) int64 { return bootBuckets(p) / 2 }),
		Default: "half of the hash table's buckets (131,072 here)", Formula: "as net.ipv4.tcp_max_orphans",
		Why:    "Who closes first keeps a small socket for a minute. A worker's death leaves one for each session whose client has not closed yet; above the limit it is dropped, with a warning each.",
		Cost:   fmt.Sprintf("%d B each, instead of 2,368 B", 256),
		Source: "TestMeasureClosing: 4,000 closed: 3,946 in time-wait; with a limit of 1,000: 1,000",
	},
	{
		Name: "net.ipv4.tcp_fin_timeout", Group: groupEnd, Need: Could, rule: atMost, spaced: true, want: always("20"),
		Default: "60", Formula: "20",
		Why:    "How long a connection that we closed waits for the client to close, too. Clients that are gone never do.",
		Cost:   "A client that takes longer finds its connection reset; it had its answer",
		Source: "ip-sysctl.rst",
	},
	{
		Name: "net.ipv4.tcp_tw_reuse", Group: groupEnd, Need: Could, rule: exactly, spaced: true,
		want: func(p plan) string {
			if p.Pair {
				return "1"
			}
			return ""
		},
		Default: "2: for the loopback", Formula: "1, only where the clients run",
		Why:    "A bench that connects again and again takes ports that are in time-wait. It says nothing about connections that come in.",
		Cost:   "Needs timestamps at both ends, which are on",
		Source: "ip-sysctl.rst",
	},
}

// acceptQueue is how many connections may wait for one event loop.
func acceptQueue(p plan) int64 { return clamp(powerOfTwo(int64(p.Sessions)/32), 4096, 65535) }

// buckets is the size of the hash table of sockets: two a bucket.
func buckets(p plan) int64 { return min(powerOfTwo(p.sockets()/2), 1<<24) }

// orphans is how many sessions end at once when a worker dies.
func orphans(p plan) int64 { return p.spread(p.workers()) }

// tcpPages is the memory that all queues of sockets may have together.
func tcpPages(p plan) string {
	most := min(p.sockets()*5/4, p.Memory/p.Page/4)
	return fmt.Sprintf("%d %d %d", most/2, most*3/4, most)
}

// memoryPages is what linux makes of a machine's memory when nobody sets tcp_mem.
func memoryPages(p plan) string {
	n := p.Memory / p.Page / 16
	return fmt.Sprintf("%d %d %d", n*3/4, n, n*3/2)
}

// memoryBuckets is the size of the table without thash_entries, bootBuckets what it comes to with the one that is printed.
func memoryBuckets(p plan) int64 { return min(powerOfTwo(p.Memory>>17), 1<<19) }
func bootBuckets(p plan) int64   { return max(memoryBuckets(p), buckets(p)) }
