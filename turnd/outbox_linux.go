package turnd

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outbox gathers packets for one address from one socket; those that follow each other and have one length become a run.
type outbox struct {
	headers  [sends]mmsghdr
	controls [sends]control
	vectors  [pieces]unix.Iovec
	runs     [sends]packetRun
	name     unix.RawSockaddrInet6
	nameLen  uint32
	count    int // of headers
	pieces   int // of vectors
	together bool
	spare    []byte // for a run that has to go packet by packet
}

// anyPath is a length that packets may have on each path that Linux believes in (net.ipv4.route.min_pmtu is 552). A run of longer ones may be refused because of
// the path to one client, with the error that a socket has that takes no runs at all; others at that socket are not to pay for it.
const anyPath = 500

// packetRun is what one header is for.
type packetRun struct {
	size, bytes int
	segments    int
	open        bool // more of its size may follow
}

func (o *outbox) init() {
	for i := range o.headers {
		c, h := &o.controls[i], &o.headers[i].hdr
		c.hdr.Level, c.hdr.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.hdr.SetLen(unix.CmsgLen(2))
		h.Name = (*byte)(unsafe.Pointer(&o.name))
	}
}

// to says where the packets go that are added next; there must be none.
func (o *outbox) to(s *fastSocket, addr netip.AddrPort) {
	o.nameLen = nameOf(&o.name, addr, s.six)
	o.together = !s.singly.Load()
}

// add adds a packet that consists of two pieces, of which either may be empty; it borrows both until send. false: there is no room.
func (o *outbox) add(head, body []byte) bool {
	if o.pieces+2 > pieces {
		return false
	}
	n := len(head) + len(body)
	if r := o.last(); r != nil && r.open && n > 0 && n <= r.size && r.bytes+n <= runBytes {
		r.bytes += n
		r.segments++
		r.open = n == r.size && r.segments < runSegments
	} else {
		if o.count == sends {
			return false
		}
		h := &o.headers[o.count].hdr
		h.Iov = &o.vectors[o.pieces]
		h.SetIovlen(0)
		h.Namelen = o.nameLen
		o.runs[o.count] = packetRun{size: n, bytes: n, segments: 1, open: o.together && n > 0 && n <= segmentLimit}
		o.count++
	}
	h := &o.headers[o.count-1].hdr
	o.piece(h, head)
	o.piece(h, body)
	return true
}

func (o *outbox) last() *packetRun {
	if o.count == 0 {
		return nil
	}
	return &o.runs[o.count-1]
}

// piece adds memory to a message; what follows the piece before it in memory becomes one with it.
func (o *outbox) piece(h *unix.Msghdr, p []byte) {
	if len(p) == 0 {
		return
	}
	if h.Iovlen > 0 {
		if v := &o.vectors[o.pieces-1]; uintptr(unsafe.Pointer(v.Base))+uintptr(v.Len) == uintptr(unsafe.Pointer(&p[0])) {
			v.SetLen(int(v.Len) + len(p))
			return
		}
	}
	v := &o.vectors[o.pieces]
	v.Base = &p[0]
	v.SetLen(len(p))
	h.SetIovlen(int(h.Iovlen) + 1)
	o.pieces++
}

// send sends what was added, and returns how many packets went and how many did not. It never waits: what a full socket does not
// take is lost, as anywhere on a packet's way.
func (o *outbox) send(s *fastSocket) (sent, failed int) {
	for i := range o.count {
		r, h := &o.runs[i], &o.headers[i].hdr
		failed += r.segments
		h.Control = nil
		h.SetControllen(0)
		if r.segments > 1 {
			c := &o.controls[i]
			binary.NativeEndian.PutUint16(c.data[:], uint16(r.size))
			h.Control = (*byte)(unsafe.Pointer(c))
			h.SetControllen(controlSize)
		}
	}
	if o.count > 0 && s.hold() {
		sent = o.all(s)
		s.release()
	}
	o.count, o.pieces = 0, 0
	return sent, failed - sent
}

func (o *outbox) all(s *fastSocket) (sent int) {
	for at := 0; at < o.count; {
		n, err := o.call(s.fd, at)
		switch {
		case n > 0:
			for i := at; i < at+n; i++ {
				sent += o.runs[i].segments
			}
			at += n
		case err == unix.EINTR:
		case err == unix.EAGAIN, err == unix.ENOBUFS:
			return sent
		case o.runs[at].segments > 1 && (err == unix.EIO || err == unix.EINVAL || err == unix.EMSGSIZE):
			if err == unix.EIO || o.runs[at].size <= anyPath { // else it may be this path that takes none as long as these
				s.singly.Store(true)
			}
			sent += o.single(s.fd, at)
			at++
		default: // told of the one packet: no route, a firewall, too long
			at++
		}
	}
	return sent
}

// call sends from one header on, with the cheapest call that does.
func (o *outbox) call(fd, at int) (int, syscall.Errno) {
	h := &o.headers[at].hdr
	if o.count-at > 1 {
		n, _, err := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&o.headers[at])), uintptr(o.count-at), unix.MSG_DONTWAIT, 0, 0)
		if err != 0 {
			return 0, err
		}
		return int(n), 0
	}
	var err syscall.Errno
	if h.Iovlen == 1 && h.Control == nil {
		_, _, err = syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(h.Iov.Base)), uintptr(h.Iov.Len), unix.MSG_DONTWAIT,
			uintptr(unsafe.Pointer(h.Name)), uintptr(h.Namelen))
	} else {
		_, _, err = syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT)
	}
	if err != 0 {
		return 0, err
	}
	return 1, 0
}

// single sends a run packet by packet.
func (o *outbox) single(fd, at int) (sent int) {
	h, size := &o.headers[at].hdr, o.runs[at].size
	o.spare = o.spare[:0]
	for _, v := range unsafe.Slice(h.Iov, int(h.Iovlen)) {
		o.spare = append(o.spare, unsafe.Slice(v.Base, int(v.Len))...)
	}
	for p := o.spare; len(p) > 0; {
		n := min(size, len(p))
		_, _, err := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(n), unix.MSG_DONTWAIT,
			uintptr(unsafe.Pointer(h.Name)), uintptr(h.Namelen))
		if err == 0 {
			sent++
		}
		p = p[n:]
	}
	return sent
}
