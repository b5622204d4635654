package gateway

import (
	"hash/maphash"
	"math"
	"net"
	"net/netip"
	"sync"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"linecard.example/internal/stanza"
)

// source is where a connection comes from, as the limits see it: hashes of its host prefix (IPv4 /32, IPv6 /56) and of its network
// (/24, /48). Never 0; hosts are odd, networks even.
type source struct{ host, network uint64 }

// netFactor is how much more a network may do than one of its hosts.
const netFactor = 4

var sourceSeed = maphash.MakeSeed()

// remoteOf returns the address at the other end of a connection, not valid when it is none of IP. An IPv4 address is never mapped.
func remoteOf(c gnet.Conn) netip.Addr {
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ip, _ := netip.AddrFromSlice(tcp.IP)
		return ip.Unmap()
	}
	return netip.Addr{}
}

// sourceOf returns the source of an address; all that are not valid count as one source.
func sourceOf(ip netip.Addr) source {
	if !ip.IsValid() {
		return source{1, 2}
	}
	host, network := 56, 48
	if ip.Is4() {
		host, network = 32, 24
	}
	return source{prefixHash(ip, host) | 1, max(prefixHash(ip, network)&^1, 2)}
}

func prefixHash(ip netip.Addr, bits int) uint64 {
	p, _ := ip.Prefix(bits) // clears the rest
	return maphash.Comparable(sourceSeed, p)
}

// sourceTable limits how often each source may do something: token buckets in a table of fixed size and without pointers. When the
// places for a source are taken, the bucket nearest to full is given up, which forgives the least. Safe for concurrent use.
type sourceTable struct {
	rate  float64 // per second
	burst float64

	entries int

	mu      sync.Mutex
	buckets []bucket // entries of them, made for the first source
}

// bucket is the state of one source, 16 bytes.
type bucket struct {
	key   uint64  // 0: free
	level float32 // tokens at the time
	at    uint32  // tick
}

const bucketWays = 4

func newSourceTable(entries int, rate float64, burst int) *sourceTable {
	return &sourceTable{rate: rate, burst: float64(burst), entries: entries / bucketWays * bucketWays}
}

// allow takes a token of the source's host and one of its network; false, and nothing is taken, when either has none.
func (t *sourceTable) allow(s source, tick uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	host := t.find(s.host, uint32(tick))
	if host.level < 1 {
		return false
	}
	host.level--
	network := t.find(s.network, uint32(tick))
	if network.level < 1 {
		if host.key == s.host { // the network's bucket may have taken its place
			host.level++
		}
		return false
	}
	network.level--
	return true
}

// allowOne takes a token of a key that is no source's network: an odd one.
func (t *sourceTable) allowOne(key uint64, tick uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.find(key, uint32(tick))
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}

// giveBack returns the token of a key that came to nothing.
func (t *sourceTable) giveBack(key uint64, tick uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.find(key, uint32(tick))
	b.level = float32(min(float64(b.level)+1, t.most(key)))
}

// accountKey is the key of an account in a table of accounts.
func accountKey(a stanza.Account) uint64 { return maphash.Comparable(sourceSeed, a) | 1 }

// find returns the bucket of key, filled up to now.
func (t *sourceTable) find(key uint64, now uint32) *bucket {
	if t.buckets == nil {
		t.buckets = make([]bucket, t.entries)
	}
	at := int(key/2%uint64(len(t.buckets)/bucketWays)) * bucketWays
	best, most := &t.buckets[at], -1.0
	for i := at; i < at+bucketWays; i++ {
		b := &t.buckets[i]
		if b.key == key {
			b.level = float32(t.level(b, now))
			if int32(now-b.at) > 0 {
				b.at = now
			}
			return b
		}
		full := math.Inf(1) // a free one is best
		if b.key != 0 {
			full = t.level(b, now) / t.most(b.key)
		}
		if full > most {
			best, most = b, full
		}
	}
	*best = bucket{key: key, level: float32(t.most(key)), at: now}
	return best
}

// most is the burst of a source; keys of networks are even.
func (t *sourceTable) most(key uint64) float64 {
	if key&1 == 0 {
		return t.burst * netFactor
	}
	return t.burst
}

// level is what b holds at now. Loops read the clock before they get the lock, so that now may lie a little before the bucket's time.
func (t *sourceTable) level(b *bucket, now uint32) float64 {
	most := t.most(b.key)
	elapsed := float64(max(int32(now-b.at), 0))
	return min(most, float64(b.level)+elapsed/float64(ticksPerSecond)*t.rate*most/t.burst)
}

// fdReserve is how many file descriptors the session cap leaves to everything else: an accept that fails for want of one stops gnet.
const fdReserve = 256

// sessionCap returns how many connections the process may hold: the configured number (0: any), but within its limit of files.
func sessionCap(configured int) int {
	limit := math.MaxInt32
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil && r.Cur < math.MaxInt32 {
		limit = max(int(r.Cur)-fdReserve, 1)
	}
	if configured > 0 && configured < limit {
		return configured
	}
	return limit
}
