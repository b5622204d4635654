package tuning

// freebsdRelay are the knobs of a freebsd machine with a turnd. None was run there.
var freebsdRelay = []Knob{
	{
		Name: "kern.ipc.maxsockbuf", Group: groupRelay, Need: Should, rule: atLeast, want: relayed(fixed(2 * relayBuffer)),
		Default: "2097152", Formula: "8 MiB: above the 4 MiB that turnd asks for, and what buffers cost besides",
		Why:    "What may wait at a socket where all packets of calls arrive. More than it allows is refused, and the socket keeps the 42 KB of recvspace.",
		Cost:   "Only while packets wait",
		Source: "sys/kern/uipc_sockbuf.c (sb_max_adj, sbreserve_locked)",
	},
	{
		Name: "net.inet.udp.recvspace", Group: groupRelay, Need: Could, rule: atLeast, want: relayed(fixed(262144)),
		Default: "42080", Formula: "262144",
		Why:    "The buffer of each allocation's socket. A small packet takes a whole mbuf of it: 42 KB are less than a second of a video call.",
		Cost:   "What each of thousands of sockets may hold when somebody floods them: nmbclusters is the bound",
		Source: "udp(4), sys/netinet/udp_usrreq.c",
	},
	{
		Name: "net.inet.ip.portrange.last", Group: groupRelay, Need: Should, rule: atMost, want: relayed(fixed(relayFirstPort - 1)),
		Default: "65535", Formula: "relay.min_port - 1",
		Why:    "The last port that the kernel gives to who asks for any port. Those of relays are above it then.",
		Cost:   "Programs of this machine have 39,000 ports for their connections instead of 55,000",
		Source: "ip(4); what others take of the range was measured on linux (TestMeasureReservedPorts)",
	},
	{
		Name: "pf, ipfw: states of a relay", Group: groupRelay, Need: Should, where: byHand, want: always(""),
		Default: "pf keeps state for every pass rule", Formula: "'no state' for turnd's ports in both directions (pf.linecard.conf)",
		Why:    "A state for each client and each peer, in a table with a limit: at the limit new calls are dropped.",
		Cost:   "Stateful rules do not apply to those ports: keep others out of the range (portrange.last)",
		Source: "pf.conf(5)",
	},
	{
		Name: "one UDP socket", Group: groupRelay, Need: Could, where: byHand, want: always(""),
		Default: "-", Formula: "several addresses in relay.udp where one core is not enough",
		Why:    "Each UDP address has one socket and no batches: its thread reads packet by packet.",
		Cost:   "Gateways tell clients of all of them (relay_urls), and each client chooses",
		Source: "turnd/share_other.go",
	},
}
