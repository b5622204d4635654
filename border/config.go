package border

import (
	"net"
	"strconv"

	"linecard.example/internal/config"
	"linecard.example/internal/stanza"
)

// Config is the region section of a configuration. The zero value is region 0 without links to others. Every process of a cluster needs
// it, and the same: routers and offlines know by it which accounts are theirs.
type Config struct {
	// Number is the region that this cluster is, 0 to 15, default 0. It is in the numbers of its accounts, and fixed by the first start.
	Number int `toml:"number"`
	// Listen is where borders of other regions connect, HOST:PORT. Default: nowhere, this one dials.
	Listen string `toml:"listen"`
	// Peers are the regions that accounts of this one can write to, by number, as [region.peers.2].
	Peers map[string]Peer `toml:"peers"`
}

// Peer is another region.
type Peer struct {
	// Addrs are the addresses of its borders, HOST:PORT; empty: it dials.
	Addrs []string `toml:"addrs"`
	// CA is the file of its certificate authority: who is certified by that speaks for the region. No default, and not the own one's: that
	// would let its machines into this cluster.
	CA string `toml:"ca"`
}

// Region returns the number.
func (c Config) Region() stanza.Region { return stanza.Region(c.Number) }

// Regions returns the numbers of the peers, a bit each.
func (c Config) Regions() (bits uint64) {
	for name := range c.Peers {
		if r, ok := regionNumber(name); ok {
			bits |= 1 << r
		}
	}
	return bits
}

// Linked reports whether there is any other region.
func (c Config) Linked() bool { return len(c.Peers) > 0 }

// Each calls f for every peer, by ascending number.
func (c Config) Each(f func(stanza.Region, Peer)) {
	for r := stanza.Region(0); r <= stanza.MaxRegion; r++ {
		if p, ok := c.Peers[strconv.Itoa(int(r))]; ok {
			f(r, p)
		}
	}
}

// Validate returns every fault of c, nil when there is none.
func (c Config) Validate() []error {
	f := config.NewFaults("region.")
	f.Count("number", c.Number, 0, int(stanza.MaxRegion))
	f.Check(c.Listen == "" || isAddress(c.Listen), "listen", "%q: want HOST:PORT", c.Listen)
	f.Check(c.Listen == "" || c.Linked(), "peers", "who may connect to region.listen? want a [region.peers.N] for each region")
	for name, p := range c.Peers {
		r, ok := regionNumber(name)
		f.Check(ok, "peers", "%q: want the number of a region, 0 to %d", name, stanza.MaxRegion)
		f.Check(!ok || int(r) != c.Number, "peers", "%q: that is this region", name)
		f.Check(p.CA != "", "peers."+name+".ca", "want the file of that region's certificate authority")
		f.Check(len(p.Addrs) > 0 || c.Listen != "", "peers."+name+".addrs", "want addresses to dial, or region.listen for them to dial")
		f.Check(len(p.Addrs) <= maxAddrs, "peers."+name+".addrs", "%d: want at most %d", len(p.Addrs), maxAddrs)
		for _, a := range p.Addrs {
			f.Check(isAddress(a), "peers."+name+".addrs", "%q: want HOST:PORT", a)
		}
	}
	return f.List()
}

const maxAddrs = 16

func regionNumber(s string) (stanza.Region, bool) {
	n, err := strconv.Atoi(s)
	return stanza.Region(n), err == nil && n >= 0 && n <= int(stanza.MaxRegion) && strconv.Itoa(n) == s
}

func isAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}
