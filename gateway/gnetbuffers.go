package gateway

import (
	"errors"
	"net"
	"reflect"
	"sync/atomic"
	"unsafe"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/buffer/elastic"
	"golang.org/x/sys/unix"
)

var errGnetLayout = errors.New("gateway: gnet's connections do not look as expected")

// gnetBuffer returns one of the two buffers of a gnet connection: gnet itself shows what is in the inbound one, but takes nothing back
// into it, and of the outbound one it shows only the length. Of these fields the name and type are checked each time, so that another
// gnet than the pinned one makes a hand-over fail, not go wrong; a test holds them. Loop only.
func gnetBuffer[T any](c gnet.Conn, field string) (*T, error) {
	v := reflect.ValueOf(c)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, errGnetLayout
	}
	f := v.Elem().FieldByName(field)
	if !f.IsValid() || f.Type() != reflect.TypeFor[T]() {
		return nil, errGnetLayout
	}
	return (*T)(unsafe.Pointer(f.UnsafeAddr())), nil
}

// takeOutbound takes what a connection's socket has not taken yet out of gnet's buffer, and appends it to dst.
func takeOutbound(dst []byte, c gnet.Conn) ([]byte, error) {
	if c.OutboundBuffered() == 0 {
		return dst, nil
	}
	b, err := gnetBuffer[elastic.Buffer](c, "outboundBuffer")
	if err != nil {
		return dst, err
	}
	parts, _ := b.Peek(-1)
	for _, p := range parts {
		dst = append(dst, p...)
	}
	b.Release() // closing the connection would write it
	return dst, nil
}

// putInbound makes p the first bytes that a new connection has received. Borrows p.
func putInbound(c gnet.Conn, p []byte) error {
	b, err := gnetBuffer[elastic.RingBuffer](c, "inboundBuffer")
	if err == nil {
		_, err = b.Write(p)
	}
	return err
}

// forgetSafeContext lets go of what a registered connection was given as its context: gnet keeps it in a second place.
func forgetSafeContext(c gnet.Conn) {
	if p, err := gnetBuffer[atomic.Pointer[any]](c, "safeCtx"); err == nil {
		p.Store(nil)
	}
}

// forgetAddresses makes a connection forget where it comes from; RemoteAddr and LocalAddr are nil from here on. The addresses are three
// objects on the heap, a quarter of what an idle connection takes of it, and two more for one that was handed over, and nobody asks a session for
// them. gnet reads the fields of a TCP connection for nothing else, and clears them itself at the end. Loop only.
func forgetAddresses(c gnet.Conn) {
	if p, err := gnetBuffer[unix.Sockaddr](c, "remote"); err == nil {
		*p = nil
	}
	for _, field := range [...]string{"remoteAddr", "localAddr"} {
		if p, err := gnetBuffer[net.Addr](c, field); err == nil {
			*p = nil
		}
	}
}
