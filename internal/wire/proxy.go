package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
)

// MaxProxy is the longest PROXY header that is taken, in bytes: what every path carries in one segment.
const MaxProxy = 536

// ProxyHeader is what a balancer says about the connection that it forwards, by PROXY protocol version 2.
type ProxyHeader struct {
	Size  int        // bytes of the header; 0: it is not whole yet
	Local bool       // the connection is the balancer's own, such as a health check
	From  netip.Addr // the client, an IPv4 address never mapped into IPv6; not valid: the connection's own address counts
}

// What can be wrong with a PROXY header. Nobody branches on it: all of them end the connection.
var (
	errNoProxy      = errors.New("wire: no PROXY header")
	errProxyText    = errors.New("wire: PROXY header of version 1 (text), want version 2")
	errProxyVersion = errors.New("wire: unknown version or command of a PROXY header")
	errProxyFamily  = errors.New("wire: unknown address family or transport in a PROXY header")
	errProxyLong    = errors.New("wire: PROXY header above 536 bytes")
	errProxyShort   = errors.New("wire: PROXY header too short for its addresses")
	errProxyTLV     = errors.New("wire: malformed extension in a PROXY header")
	errProxyCRC     = errors.New("wire: wrong checksum in a PROXY header")
)

const (
	proxyHead  = 16 // bytes before the addresses
	proxyLocal = 0x20
	proxyFor   = 0x21

	tlvHead  = 3
	tlvCRC32 = 3
)

var (
	proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")
	proxyText      = []byte("PROXY")
	castagnoli     = crc32.MakeTable(crc32.Castagnoli)
	noSum          [crc32.Size]byte
)

// ParseProxy reads the PROXY header that b begins with. As long as b holds the beginning of one it returns Size 0; whatever can be
// said without the rest is said at once. Borrows b, allocates nothing.
//
// Connections of the balancer itself (LOCAL), UNIX sockets, datagrams and what the balancer does not know have no address of use here.
// The block behind LOCAL and behind the unspecified family is skipped unread, as the protocol wants it.
func ParseProxy(b []byte) (ProxyHeader, error) {
	if n := min(len(b), len(proxySignature)); !bytes.Equal(b[:n], proxySignature[:n]) {
		if bytes.HasPrefix(b, proxyText) {
			return ProxyHeader{}, errProxyText
		}
		return ProxyHeader{}, errNoProxy
	}
	if len(b) < proxyHead {
		return ProxyHeader{}, nil
	}
	command, family := b[12], b[13]
	size := proxyHead + int(binary.BigEndian.Uint16(b[14:]))
	addresses, known := proxyAddresses(family)
	switch {
	case command != proxyLocal && command != proxyFor:
		return ProxyHeader{}, errProxyVersion
	case size > MaxProxy:
		return ProxyHeader{}, errProxyLong
	case command == proxyLocal:
		addresses, family = 0, 0
	case !known:
		return ProxyHeader{}, errProxyFamily
	case size < proxyHead+addresses:
		return ProxyHeader{}, errProxyShort
	}
	if len(b) < size {
		return ProxyHeader{}, nil
	}
	h := ProxyHeader{Size: size, Local: command == proxyLocal}
	if family == 0 {
		return h, nil
	}
	switch family {
	case 0x11:
		h.From = netip.AddrFrom4([4]byte(b[proxyHead:]))
	case 0x21:
		h.From = netip.AddrFrom16([16]byte(b[proxyHead:])).Unmap()
	}
	if err := checkProxyTLVs(b[:size], proxyHead+addresses); err != nil {
		return ProxyHeader{}, err
	}
	return h, nil
}

// proxyAddresses returns how many bytes the addresses of a family and transport take; known is false for those the protocol forbids.
func proxyAddresses(family byte) (size int, known bool) {
	switch family {
	case 0x00: // unspecified
		return 0, true
	case 0x11, 0x12: // IPv4: TCP, UDP
		return 12, true
	case 0x21, 0x22: // IPv6
		return 36, true
	case 0x31, 0x32: // UNIX: stream, datagram
		return 216, true
	}
	return 0, false
}

// checkProxyTLVs walks over the extensions of a header from at on, and verifies its checksum where there is one.
func checkProxyTLVs(header []byte, at int) error {
	for at < len(header) {
		if len(header)-at < tlvHead {
			return errProxyTLV
		}
		value := at + tlvHead
		end := value + int(binary.BigEndian.Uint16(header[at+1:]))
		if end > len(header) {
			return errProxyTLV
		}
		if header[at] == tlvCRC32 {
			if end-value != crc32.Size || binary.BigEndian.Uint32(header[value:]) != proxyCRC(header, value) {
				return errProxyCRC
			}
		}
		at = end
	}
	return nil
}

// proxyCRC is the checksum of a header with zeros in place of the checksum, which stands at value.
func proxyCRC(header []byte, value int) uint32 {
	sum := crc32.Update(0, castagnoli, header[:value])
	sum = crc32.Update(sum, castagnoli, noSum[:])
	return crc32.Update(sum, castagnoli, header[value+crc32.Size:])
}
