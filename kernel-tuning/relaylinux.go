package tuning

import (
	"fmt"
	"strconv"
)

// The ports that printed files and formulas assume of a turnd: those of its example in docs/operations.md, and the range of its defaults.
const (
	relayPort      = 3478 // UDP and TCP
	relayTLSPort   = 5349 // TLS and DTLS
	relayFirstPort = 49152
	relayLastPort  = 65535
)

// relayed makes a want that only a machine with a turnd has.
func relayed(f func(plan) int64) func(plan) string {
	return func(p plan) string {
		if p.Allocations == 0 {
			return ""
		}
		return strconv.FormatInt(f(p), 10)
	}
}

func fixed(n int64) func(plan) int64 { return func(plan) int64 { return n } }

// relayBuffer is what turnd asks for, for each socket of its listeners.
const relayBuffer = 4 << 20

// linuxRelay are the knobs of a linux machine with a turnd.
var linuxRelay = []Knob{
	{
		Name: "net.core.rmem_max", Group: groupRelay, Need: Should, rule: atLeast, want: relayed(fixed(relayBuffer)),
		Default: "212992; 4194304 from 6.18 on", Formula: "4 MiB, what turnd asks for",
		Why:    "What may wait at a socket where all packets of calls arrive, while its thread does something else. What finds it full is lost.",
		Cost:   "Up to twice as much for each such socket, only while packets wait",
		Source: "TestMeasureRelayBuffer: of 20,000 packets of 200 B that nobody reads 332 wait with 212992, 6,553 with 4 MiB; ip(7), socket(7)",
	},
	{
		Name: "net.core.wmem_max", Group: groupRelay, Need: Could, rule: atLeast, want: relayed(fixed(relayBuffer)),
		Default: "212992; 4194304 from 6.18 on", Formula: "as net.core.rmem_max",
		Why:    "What may wait at such a socket for the network card. Runs of packets (UDP_SEGMENT) count as a whole.",
		Cost:   "As for net.core.rmem_max",
		Source: "socket(7); not measured: the loopback has no queue",
	},
	{
		Name: "net.core.rmem_default", Group: groupRelay, Need: Could, where: byHand, want: always(""),
		Default: "212992", Formula: "left alone",
		Why:    "The buffer of each allocation's socket. A call of speech is 50 packets a second each way: it holds those of three seconds.",
		Cost:   "Raised, it is what each of thousands of sockets may hold when somebody floods them",
		Source: "TestMeasureRelayBuffer: 166 packets of 200 B",
	},
	{
		Name: "net.ipv4.udp_mem", Group: groupRelay, Need: Could, where: byHand, want: always(""),
		Default: "9.3 %, 12.5 % and 18.7 % of memory, in pages (575802 767736 1151604 of 24 GiB)", Formula: "left alone",
		Why:    "Pages in the queues of all UDP sockets. Above the third number packets are dropped, which bounds what a flood at all relays holds.",
		Cost:   "Nothing: it is the default",
		Source: "ip-sysctl.rst; net/ipv4/udp.c",
	},
	{
		Name: "net.ipv4.ip_local_reserved_ports", Group: groupRelay, Need: Should, rule: covering, spaced: true,
		want: func(p plan) string {
			if p.Allocations == 0 {
				return ""
			}
			return formatPorts([]portRange{{relayFirstPort, relayLastPort}})
		},
		Default: "none", Formula: "relay.min_port to relay.max_port, besides what is there",
		Why:    "Ports that the kernel gives to nobody who asks for any port. Those of relays are of the range that it gives (32768 to 60999).",
		Cost:   "Programs of this machine have 16,384 ports for their connections instead of 28,232",
		Source: "TestMeasureReservedPorts: of 2,000 sockets of others 799 took a port of relays, with it none; ip-sysctl.rst",
	},
	{
		Name: "uhash_entries (kernel command line)", Group: groupRelay, Need: Could, where: bootSetting, rule: atLeast, reads: "net.ipv4.udp_hash_entries",
		want:    relayed(func(p plan) int64 { return clamp(powerOfTwo(int64(p.Allocations)), 256, 1<<16) }),
		comes:   number(func(p plan) int64 { return clamp(powerOfTwo(p.Memory>>21), 256, 1<<16) }),
		Default: "a bucket for each 2 MiB of memory, up to a power of two, 256 to 65,536 (16,384 of 24 GiB)", Formula: "allocations, up to a power of two, at most 65,536",
		Why:    "The hash table of UDP sockets, by port. Each packet is looked up in it.",
		Cost:   "Some 32 B a bucket, and a boot",
		Source: "net/ipv4/udp.c (udp_table_init); not measured: on an address of its own each port is a bucket of its own",
	},
	{
		Name: "net.ipv4.udp_early_demux", Group: groupRelay, Need: Could, where: byHand, want: always(""),
		Default: "1", Formula: "left alone",
		Why:    "A look-up before routing, which finds connected sockets only. turnd has none, and it costs one look-up more for each packet that comes in.",
		Cost:   "Off, other programs of the machine with connected UDP sockets pay for routes",
		Source: "ip-sysctl.rst; not measured",
	},
	{
		Name: "net.core.netdev_budget, netdev_budget_usecs", Group: groupRelay, Need: Could, where: byHand, want: always(""),
		Default: "300 packets, 2000 us or more", Formula: "left alone; double both as long as the third column of /proc/net/softnet_stat rises",
		Why:    "What a core takes from network cards in one turn. A relay has the packets of the machine that are small and many; a turn that ends too early leaves them in the ring.",
		Cost:   "Other work of that core waits longer",
		Source: "admin-guide/sysctl/net.rst; not measured: the loopback has no ring",
	},
	{
		Name: "rx-flow-hash udp4 (ethtool -N)", Group: groupRelay, Need: Could, where: byHand, want: always(""),
		Default: "by driver, often addresses only (sd)", Formula: "ethtool -N DEVICE rx-flow-hash udp4 sdfn",
		Why:    "Which receive queue a packet goes to. By addresses alone all calls of one carrier's NAT are on one core.",
		Cost:   "Fragments of one packet may go to two queues, and come out of order. turnd drops what is longer than 1,600 bytes",
		Source: "ethtool(8); not measured",
	},
	{
		Name: "UDP sockets and processors", Group: groupRelay, Need: Could, where: byHand, want: always(""),
		Default: "relay.sockets = 0: one for every two cores", Formula: "the default; more only while a thread of turnd is always busy",
		Why:    "The kernel spreads clients over the sockets of an address. Each has a thread, which is woken for its own packets.",
		Cost:   "At low rates more wake-ups: 10,000 packets a second cost 10.7 to 12.2 us each with one socket, 16 to 20 with two",
		Source: "docs/design/0032",
	},
}

// relayTracked describes connection tracking on a machine with a relay, for the README.
var relayTracked = Knob{
	Name: "net.netfilter.nf_conntrack_udp_timeout, _stream", Group: groupRelay, Need: Could, where: byHand, want: always(""),
	Default: "30, 120", Formula: "bypass (linecard-notrack.nft); else 3 flows for each allocation are in nf_conntrack_max",
	Why:    "Each way of a call is a flow: of the client to turnd, and of each peer to the relay. Tracked ones fill the table, also for 30 s with each forged packet of a flood.",
	Cost:   fmt.Sprintf("%d B for each tracked flow. Without tracking, replies to others who use a port of the range are not recognized: reserve it (ip_local_reserved_ports)", 256),
	Source: "TestMeasureTracking: a packet through the loopback costs 4.2 us without rules, 4.8 us tracked, 4.8 us with the bypass, which saves the table and not time; networking/nf_conntrack-sysctl.rst",
}
