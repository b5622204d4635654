package tuning

// freebsdTCP are the knobs of freebsd's network. None was run there.
var freebsdTCP = []Knob{
	{
		Name: "kern.ipc.soacceptqueue", Group: groupAccept, Need: Should, rule: atLeast, want: number(acceptQueue),
		Default: "128", Formula: "sessions / 32, up to a power of two, 4,096 to 65,535",
		Why:    "Connections that wait for accept, for each event loop. Half as many more are let in, then they are dropped ('Listen queue overflow' in the log). gnet asks for this number at start: restart gateways after a change. kern.ipc.somaxconn is its old name.",
		Cost:   "A waiting connection is a whole socket",
		Source: "sys/kern/uipc_socket.c (sysctl_somaxconn, 3 * so_qlimit / 2)",
	},
	{
		Name: "net.inet.tcp.syncache.hashsize", Group: groupAccept, Need: Could, where: bootSetting, rule: atLeast, reads: "net.inet.tcp.syncache.hashsize",
		want:    number(func(p plan) int64 { return clamp(powerOfTwo(acceptQueue(p)/16), 512, 8192) }),
		Default: "512", Formula: "soacceptqueue / 16, up to a power of two, 512 to 8,192: room for twice the accept queue",
		Why:    "Half-open handshakes are in buckets of 30. A full bucket throws the oldest out, and the client is answered by a cookie. cachelimit follows: 30 times as many.",
		Cost:   "A bucket each; entries as needed, at most hashsize x bucketlimit",
		Source: "sys/netinet/tcp_syncache.c (TCP_SYNCACHE_HASHSIZE, _BUCKETLIMIT), syncache(4)",
	},
	{
		Name: "net.inet.tcp.syncookies", Group: groupAccept, Need: Should, rule: atLeast, want: always("1"),
		Default: "1", Formula: "1",
		Why:    "In a flood of SYNs that nobody means, honest clients still come through.",
		Cost:   "A connection made from a cookie may lack options",
		Source: "syncookies(4)",
	},
	{
		Name: "SO_REUSEPORT_LB", Group: groupAccept, Need: Must, where: byHand, want: always(""),
		Default: "256 sockets in a group", Formula: "(workers + 1) x loops of each <= 256",
		Why:    "The kernel spreads connections over listeners of one port by a hash. A group takes 256 sockets, and each event loop of each worker has one. The gateway checks it at start.",
		Cost:   "A connection that waits at a listener which closes is reset: nothing here moves it (linux: tcp_migrate_req). Drain before you stop",
		Source: "sys/netinet/in_pcb.c (INPCBLBGROUP_SIZMAX), r334719",
	},
	{
		Name: "net.inet.ip.portrange.first", Group: groupAccept, Need: Could, rule: atMost,
		want: func(p plan) string {
			if p.Pair {
				return "1024"
			}
			return ""
		},
		Default: "10000", Formula: "1024, only where the clients run (bench, balancer)",
		Why:    "Ports for one source address.",
		Cost:   "A daemon that starts later may find its port in use as a source port",
		Source: "ip(4); IPPORT_EPHEMERALFIRST in sys/netinet/in.h",
	},
	{
		Name: "net.inet.tcp.tcbhashsize", Group: groupTables, Need: Could, where: bootSetting, rule: atLeast, reads: "net.inet.tcp.tcbhashsize",
		want:    number(buckets),
		comes:   number(func(p plan) int64 { return powerOfTwo(memoryFiles(p)/4 + 1) }),
		Default: "the power of two above kern.ipc.maxsockets / 4 at boot", Formula: "sockets / 2, up to a power of two, at most 16,777,216",
		Why:    "The hash table of all TCP sockets. It is sized at boot: maxsockets raised later does not lengthen it, chains grow instead.",
		Cost:   "A list head each (8 B), and a boot",
		Source: "sys/netinet/tcp_subr.c (maketcp_hashsize), tcp(4); what chains cost was measured on linux (TestMeasureHash)",
	},
	{
		Name: "pf, ipfw: states", Group: groupTables, Need: Must, where: byHand, want: always(""),
		Default: "pf keeps state for every pass rule", Formula: "'no state' for the gateway's port in both directions (pf.linecard.conf); ipfw without keep-state",
		Why:    "A state for each session, in a table with a limit: at the limit new connections are dropped.",
		Cost:   "Stateful rules do not apply to the port",
		Source: "pf.conf(5) (set limit states, no state), ipfw(8)",
	},
	{
		Name: "net.inet.tcp.sendbuf_max", Group: groupSessions, Need: Should, rule: atMost, want: always("262144"),
		Default: "2097152", Formula: "262144",
		Why:    "What a client that does not read makes the kernel keep; there is no tcp_notsent_lowat here. The rest stays in the gateway, where it is bounded, counted, and ends the session.",
		Cost:   "A single stream over 100 ms of distance is bounded to 20 Mbit/s; links between daemons too",
		Source: "tcp(4); on linux the same bound leaves 0.3 MB instead of 3.9 MB (TestMeasureNotSent)",
	},
	{
		Name: "net.inet.tcp.sendspace", Group: groupSessions, Need: Could, rule: atMost, want: always("32768"),
		Default: "32768", Formula: "32768",
		Why:    "Where the send buffer starts; it grows by itself. Larger ones cost every client that stalls.",
		Cost:   "Nothing: it is the default",
		Source: "tcp(4), tuning(7): not to be raised with very many connections",
	},
	{
		Name: "net.inet.tcp.recvbuf_max", Group: groupSessions, Need: Could, rule: atMost, want: always("1048576"),
		Default: "2097152", Formula: "1048576",
		Why:    "The receive buffer grows up to it. A session has at most twice 256 KiB under way.",
		Cost:   "As for sendbuf_max, 80 Mbit/s",
		Source: "tcp(4); windows of docs/protocol.md",
	},
	{
		Name: "net.inet.tcp.always_keepalive", Group: groupSessions, Need: Could, rule: exactly, want: always("0"),
		Default: "1", Formula: "0",
		Why:    "It probes every idle connection every two hours. The client's pings keep networks awake and tell who is gone; links between daemons have signs of life of their own.",
		Cost:   "Other daemons of the machine that rely on it lose it",
		Source: "tuning(7), tcp(4)",
	},
	{
		Name: "net.inet.tcp.pmtud_blackhole_detection", Group: groupSessions, Need: Could, rule: atLeast, want: always("1"),
		Default: "0", Formula: "1",
		Why:    "Mobile networks and tunnels lose large packets without a word. A session that stalls for that recovers instead of ending by time-out.",
		Cost:   "Nothing until a black hole is found",
		Source: "tcp(4)",
	},
	{
		Name: "net.inet.tcp.msl", Group: groupEnd, Need: Could, rule: atMost, want: always("15000"),
		Default: "30000", Formula: "15000",
		Why:    "Half of the time, in ms, that who closed first waits in TIME_WAIT.",
		Cost:   "Segments that wander for longer than 30 s could meet a new connection of the same ports",
		Source: "tcp(4)",
	},
	{
		Name: "net.inet.tcp.fast_finwait2_recycle", Group: groupEnd, Need: Could, rule: atLeast, want: always("1"),
		Default: "0", Formula: "1",
		Why:    "Connections that we closed and whose client is gone go after finwait2_timeout.",
		Cost:   "A client that closes later finds its connection reset; it had its answer",
		Source: "tcp(4)",
	},
	{
		Name: "net.inet.tcp.finwait2_timeout", Group: groupEnd, Need: Could, rule: atMost, want: always("20000"),
		Default: "60000", Formula: "20000",
		Why:    "How long they wait, in ms.",
		Cost:   "As for fast_finwait2_recycle",
		Source: "tcp(4)",
	},
}
