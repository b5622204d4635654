package turnd

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Batches by recvmmsg and sendmmsg, which golang.org/x/sys has no calls for, with what the kernel put together (UDP_GRO) and what it shall
// take apart (UDP_SEGMENT): a run of segments goes through the kernel's whole path once, which is most of what a packet costs.
//
// The system calls never wait (MSG_DONTWAIT), so they are made without telling the scheduler. The kernel keeps no pointer after one.
const (
	// slots is how many packets, or runs, one call reads.
	slots = 32
	// slotSize is the longest run: whatever UDP can carry.
	slotSize = 1 << 16
	// slotStride is a slot with what is free before and after it, in whole pages, so that a page that no packet needed is never there.
	slotStride = slotSize + 4096
	// sends is how many packets, or runs, one call sends, and pieces how many pieces of memory these consist of.
	sends  = 64
	pieces = 256
	// runSegments is how many segments a run may have: the oldest kernels' limit.
	runSegments = 64
	// runBytes bounds a run: UDP's own limit, less headers.
	runBytes = 65000
	// segmentLimit is the longest packet that is sent in a run. A run's packets must fit the path; longer ones are left to fragmentation.
	segmentLimit = 1400
	// receiveTries bounds how many errors in a row are passed over.
	receiveTries = 16
)

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// control is the room for one control message: an int32 (UDP_GRO) or a uint16 (UDP_SEGMENT).
type control struct {
	hdr  unix.Cmsghdr
	data [8]byte
}

const controlSize = int(unsafe.Sizeof(control{}))

// inbox is what one call read.
type inbox struct {
	arena    []byte
	headers  [slots]mmsghdr
	vectors  [slots]unix.Iovec
	names    [slots]unix.RawSockaddrInet6
	controls [slots]control
	used     int // slots that the last call changed
}

// init gets the arena from the kernel, not from the heap: its size is that of addresses, and says nothing about when to collect garbage.
func (in *inbox) init() (err error) {
	if in.arena, err = unix.Mmap(-1, 0, slots*slotStride, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		return err
	}
	_ = unix.Madvise(in.arena, unix.MADV_NOHUGEPAGE) // kernels without huge pages do not know it
	for i := range in.headers {
		v := &in.vectors[i]
		v.Base = &in.arena[i*slotStride+headroom]
		v.SetLen(slotSize)
		h := &in.headers[i].hdr
		h.Iov = v
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&in.names[i]))
		h.Control = (*byte)(unsafe.Pointer(&in.controls[i]))
	}
	in.used = slots
	return nil
}

// free gives the arena back; nothing may be in use.
func (in *inbox) free() { _ = unix.Munmap(in.arena) }

// receive reads what is there, without waiting; more says that there may be more.
func (in *inbox) receive(fd int) (n int, more bool) {
	for i := range in.used {
		h := &in.headers[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlSize)
		h.Flags = 0
	}
	in.used = 0
	for range receiveTries {
		r, _, err := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.headers[0])), slots, unix.MSG_DONTWAIT, 0, 0)
		if err == 0 {
			in.used = int(r)
			return in.used, in.used == slots
		}
		if err == unix.EAGAIN {
			return 0, false
		}
		// EINTR, or what the network said of packets that were sent before, which is told once.
	}
	return 0, true
}

// packet returns the i-th of what was read: headroom and the packet, the length of the segments that it consists of, and its sender. A
// length of 0 is nothing to relay: a packet that was cut. There are four bytes of room behind it. An empty packet is one segment as well.
func (in *inbox) packet(i int) (p []byte, segment int, from netip.AddrPort) {
	h := &in.headers[i]
	n := int(h.n)
	from = addrOf(&in.names[i])
	if h.hdr.Flags&unix.MSG_TRUNC != 0 || !from.IsValid() {
		return nil, 0, from
	}
	segment = max(n, 1)
	if c := &in.controls[i]; int(h.hdr.Controllen) >= unix.CmsgLen(4) && c.hdr.Level == unix.SOL_UDP && c.hdr.Type == unix.UDP_GRO {
		segment = int(binary.NativeEndian.Uint32(c.data[:]))
	}
	at := i * slotStride
	return in.arena[at : at+headroom+n : at+headroom+n+4], segment, from
}

func addrOf(name *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	switch name.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr), port)
	case unix.AF_INET6:
		ip := netip.AddrFrom16(name.Addr).Unmap()
		if name.Scope_id != 0 && ip.Is6() {
			ip = ip.WithZone(strconv.Itoa(int(name.Scope_id)))
		}
		return netip.AddrPortFrom(ip, port)
	}
	return netip.AddrPort{}
}

// nameOf writes a socket address for a socket of IPv6, or of IPv4, and returns its length.
func nameOf(name *unix.RawSockaddrInet6, addr netip.AddrPort, six bool) uint32 {
	ip := addr.Addr()
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], addr.Port())
	if !six {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		v4.Family, v4.Addr, v4.Zero = unix.AF_INET, ip.As4(), [8]uint8{}
		return unix.SizeofSockaddrInet4
	}
	name.Family, name.Addr, name.Scope_id = unix.AF_INET6, ip.As16(), 0
	if z := ip.Zone(); z != "" {
		n, _ := strconv.Atoi(z) // addrOf wrote it
		name.Scope_id = uint32(n)
	}
	return unix.SizeofSockaddrInet6
}
