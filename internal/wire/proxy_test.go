package wire

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// proxyBytes is a PROXY header of that command, family and block, its length filled in.
func proxyBytes(command, family byte, block ...[]byte) []byte {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family, 0, 0)
	for _, part := range block {
		b = append(b, part...)
	}
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	return b
}

func unhex(text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

var (
	proxyV4     = unhex("c0000201 c6336401 8235 1ce8") // 192.0.2.1 to 198.51.100.1
	proxyV6     = unhex("20010db8000000000000000000000001 20010db8000000000000000000000002 8235 1ce8")
	proxyMapped = unhex("00000000000000000000ffffc0000207 00000000000000000000ffffc6336401 8235 1ce8")
	proxyNoop   = unhex("04 0003 000000")
	proxyCRCTLV = unhex("03 0004 76b15ed0") // of a TCP header over IPv4 with proxyV4 and this extension alone
)

// proxyGood is headers that are taken.
var proxyGood = map[string]struct {
	header []byte
	local  bool
	from   string
}{
	"tcp over ipv4":      {proxyBytes(0x21, 0x11, proxyV4), false, "192.0.2.1"},
	"tcp over ipv6":      {proxyBytes(0x21, 0x21, proxyV6), false, "2001:db8::1"},
	"mapped ipv4":        {proxyBytes(0x21, 0x21, proxyMapped), false, "192.0.2.7"},
	"checksum":           {proxyBytes(0x21, 0x11, proxyV4, proxyCRCTLV), false, "192.0.2.1"},
	"extensions":         {proxyBytes(0x21, 0x11, proxyV4, proxyNoop, unhex("ea 0000"), unhex("05 0002 abcd")), false, "192.0.2.1"},
	"longest":            {proxyBytes(0x21, 0x21, proxyV6, unhex("04 01e1"), make([]byte, 481)), false, "2001:db8::1"},
	"local":              {proxyBytes(0x20, 0x00), true, ""},
	"local with a block": {proxyBytes(0x20, 0x11, proxyV4, unhex("ffff")), true, ""},
	"local, odd family":  {proxyBytes(0x20, 0xFF), true, ""},
	"unspecified":        {proxyBytes(0x21, 0x00, unhex("010203")), false, ""},
	"unix":               {proxyBytes(0x21, 0x31, make([]byte, 216)), false, ""},
	"udp over ipv4":      {proxyBytes(0x21, 0x12, proxyV4), false, ""},
	"udp over ipv6":      {proxyBytes(0x21, 0x22, proxyV6), false, ""},
}

// proxyBad is what is refused, and why.
var proxyBad = map[string]struct {
	header []byte
	err    error
}{
	"nothing of the kind":  {[]byte("LC\x01\x00"), errNoProxy},
	"wrong at the end":     {[]byte("\r\n\r\n\x00\r\nQUIT\r"), errNoProxy},
	"text":                 {[]byte("PROXY TCP4 192.0.2.1 198.51.100.1 33333 7400\r\n"), errProxyText},
	"version 1":            {proxyBytes(0x11, 0x11, proxyV4), errProxyVersion},
	"version 3":            {proxyBytes(0x31, 0x11, proxyV4), errProxyVersion},
	"unknown command":      {proxyBytes(0x22, 0x11, proxyV4), errProxyVersion},
	"unknown family":       {proxyBytes(0x21, 0x41, proxyV4), errProxyFamily},
	"family, no transport": {proxyBytes(0x21, 0x10, proxyV4), errProxyFamily},
	"unknown transport":    {proxyBytes(0x21, 0x13, proxyV4), errProxyFamily},
	"short of ipv4":        {proxyBytes(0x21, 0x11, proxyV4[1:]), errProxyShort},
	"short of ipv6":        {proxyBytes(0x21, 0x21, proxyV4), errProxyShort},
	"short of unix":        {proxyBytes(0x21, 0x31, make([]byte, 215)), errProxyShort},
	"no addresses":         {proxyBytes(0x21, 0x11), errProxyShort},
	"too long":             {proxyBytes(0x21, 0x21, proxyV6, make([]byte, 485)), errProxyLong},
	"local, too long":      {proxyBytes(0x20, 0x00, make([]byte, 521)), errProxyLong},
	"longest length":       {unhex("0d0a0d0a000d0a515549540a 21 11 ffff"), errProxyLong},
	"half an extension":    {proxyBytes(0x21, 0x11, proxyV4, unhex("0400")), errProxyTLV},
	"extension too long":   {proxyBytes(0x21, 0x11, proxyV4, unhex("04 0004 000000")), errProxyTLV},
	"longest extension":    {proxyBytes(0x21, 0x11, proxyV4, proxyNoop, unhex("04 ffff")), errProxyTLV},
	"another checksum":     {proxyBytes(0x21, 0x11, proxyV4, unhex("03 0004 76b15ed1")), errProxyCRC},
	"checksum of no size":  {proxyBytes(0x21, 0x11, proxyV4, unhex("03 0000")), errProxyCRC},
	"another client":       {proxyBytes(0x21, 0x11, unhex("c0000202"), proxyV4[4:], proxyCRCTLV), errProxyCRC},
}

func TestProxyHeader(t *testing.T) {
	for name, test := range proxyGood {
		t.Run(name, func(t *testing.T) {
			want := ProxyHeader{Size: len(test.header), Local: test.local}
			if test.from != "" {
				want.From = netip.MustParseAddr(test.from)
			}
			for _, behind := range []string{"", "LC\x01\x00"} {
				if got, err := ParseProxy(append(test.header[:len(test.header):len(test.header)], behind...)); err != nil || got != want {
					t.Errorf("%+v, %v; want %+v", got, err, want)
				}
			}
			for n := range test.header {
				if got, err := ParseProxy(test.header[:n]); err != nil || got.Size != 0 || got.From.IsValid() {
					t.Fatalf("the first %d bytes: %+v, %v", n, got, err)
				}
			}
		})
	}
}

func TestBadProxyHeader(t *testing.T) {
	for name, test := range proxyBad {
		if got, err := ParseProxy(test.header); !errors.Is(err, test.err) || got != (ProxyHeader{}) {
			t.Errorf("%s: %+v, %v; want %v", name, got, err, test.err)
		}
	}
}

// TestProxyHeaderAllocates nothing, good or bad.
func TestProxyHeaderAllocates(t *testing.T) {
	good, bad := proxyGood["checksum"].header, proxyBad["another checksum"].header
	if n := testing.AllocsPerRun(100, func() {
		_, _ = ParseProxy(good)
		_, _ = ParseProxy(bad)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzProxyHeader gives the parser whatever comes: what it takes is within its limits, does not depend on what stands behind it, and is
// not said before it is whole.
func FuzzProxyHeader(f *testing.F) {
	for name, test := range proxyGood {
		seed(f, strings.NewReplacer(" ", "-", ",", "").Replace(name), test.header)
	}
	for name, test := range proxyBad {
		seed(f, strings.NewReplacer(" ", "-", ",", "").Replace(name), test.header)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseProxy(b)
		if err != nil || h.Size == 0 {
			if h != (ProxyHeader{}) {
				t.Fatalf("%+v with %v", h, err)
			}
			if err == nil && len(b) >= MaxProxy {
				t.Fatalf("%d bytes are not enough", len(b))
			}
			return
		}
		if h.Size < proxyHead || h.Size > MaxProxy || h.Size > len(b) || h.From.Is4In6() || h.Local && h.From.IsValid() {
			t.Fatalf("%+v of %d bytes", h, len(b))
		}
		if again, err := ParseProxy(b[:h.Size]); err != nil || again != h {
			t.Fatalf("%+v with what follows, %+v and %v without", h, again, err)
		}
		for n := range h.Size {
			if part, err := ParseProxy(b[:n]); err != nil || part != (ProxyHeader{}) {
				t.Fatalf("%+v and %v of the first %d bytes", part, err, n)
			}
		}
	})
}
