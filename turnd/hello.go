package turnd

import (
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"time"
	"unsafe"

	"github.com/pion/dtls/v3"
)

// A DTLS client shows its address by a cookie before anything is kept of it (RFC 6347 4.2.1). pion has such an exchange, too, but with a goroutine, keys and a
// cookie by chance for each ClientHello, whoever it says that it is from. So the exchange is done here, without state, and pion, which begins with the
// ClientHello that has the cookie, sees one of its own: it gets the same ClientHello as it was before, without cookie; what it asks back for is not sent,
// and it is made to expect the cookie that the client has. To skip pion's exchange is no way: its first message would have the number 0 then,
// which the client had from here, and both ends' numbers are in what they sign.

// hello is a ClientHello that is whole in one record, in a packet of its own; a longer one could not be looked at without keeping the begin.
type hello struct {
	raw    []byte // the packet; the others are views into it
	random []byte // what the client chose for this handshake
	cookie []byte
	at     int    // where the length of the cookie is
	record uint64 // the record's number
	number uint16 // the message's
}

// The headers of records and of handshake messages (RFC 6347 4.1, 4.2.2).
const (
	recordHeader    = 13
	handshakeHeader = 12
	helloRandom     = recordHeader + handshakeHeader + 2 // after the version
	helloSession    = helloRandom + 32

	contentHandshake = 22
	clientHello      = 1
	verifyRequest    = 3
)

// cookieLife is how long a cookie is good for: a client answers at once, or when it asks for the second or third time.
const cookieLife = time.Minute

// parse reads p, which it borrows; false: it is no whole ClientHello.
func (h *hello) parse(p []byte) bool {
	if len(p) <= helloSession || !handshakeOf(p, clientHello) {
		return false
	}
	size := len(p) - recordHeader - handshakeHeader
	if int(binary.BigEndian.Uint16(p[11:])) != size+handshakeHeader || uint24(p[14:]) != size || uint24(p[19:]) != 0 || uint24(p[22:]) != size {
		return false
	}
	h.at = helloSession + 1 + int(p[helloSession])
	if h.at >= len(p) || h.at+1+int(p[h.at]) > len(p) {
		return false
	}
	h.raw, h.random, h.cookie = p, p[helloRandom:helloSession], p[h.at+1:h.at+1+int(p[h.at])]
	h.record, h.number = recordNumber(p), binary.BigEndian.Uint16(p[17:])
	return true
}

// handshakeOf reports whether p begins with a record that is not encrypted and has a handshake message of a type.
func handshakeOf(p []byte, typ byte) bool {
	return len(p) > recordHeader+handshakeHeader && p[0] == contentHandshake && p[1] == 0xfe && p[3] == 0 && p[4] == 0 && p[recordHeader] == typ
}

// verify makes the HelloVerifyRequest that answers h. It is never longer than h.
func (h *hello) verify(cookie []byte) []byte {
	body := append([]byte{0xfe, 0xff, byte(len(cookie))}, cookie...) // DTLS 1.0, whatever will be spoken
	b := append([]byte{contentHandshake, 0xfe, 0xff, 0, 0}, h.raw[5:11]...)
	b = append(b, 0, byte(handshakeHeader+len(body)))
	b = append(b, verifyRequest, 0, 0, byte(len(body)), 0, 0, 0, 0, 0, 0, 0, byte(len(body)))
	return append(b, body...)
}

// first makes what h was before the client had a cookie.
func (h *hello) first() []byte {
	p := slices.Concat(h.raw[:h.at], []byte{0}, h.raw[h.at+1+len(h.cookie):])
	size := uint16(len(p) - recordHeader - handshakeHeader)
	putRecordNumber(p, h.record-1)
	binary.BigEndian.PutUint16(p[11:], size+handshakeHeader)
	binary.BigEndian.PutUint16(p[15:], size)
	binary.BigEndian.PutUint16(p[17:], 0)
	binary.BigEndian.PutUint16(p[23:], size)
	return p
}

// renumbered returns a packet of pion's with the numbers of what is not encrypted moved on: as it sees it the handshake began with the record 0.
func renumbered(p []byte, by uint64) []byte {
	p = slices.Clone(p)
	for q := p; len(q) >= recordHeader && q[3] == 0 && q[4] == 0; {
		putRecordNumber(q, recordNumber(q)+by)
		q = q[min(len(q), recordHeader+int(binary.BigEndian.Uint16(q[11:]))):]
	}
	return p
}

func recordNumber(p []byte) uint64 { return binary.BigEndian.Uint64(p[3:]) & (1<<48 - 1) }

func putRecordNumber(p []byte, n uint64) {
	binary.BigEndian.PutUint64(p[3:], uint64(binary.BigEndian.Uint16(p[3:]))<<48|n&(1<<48-1))
}

func uint24(p []byte) int { return int(p[0])<<16 | int(p[1])<<8 | int(p[2]) }

var errCookie = errors.New("this pion/dtls keeps its cookie elsewhere")

// cookieOffset is where pion keeps the cookie that it expects: in Conn.state.cookie, which nothing that it exports reaches.
var cookieOffset, errOffset = func() (uintptr, error) {
	state, ok := reflect.TypeFor[dtls.Conn]().FieldByName("state")
	if !ok || state.Type.Kind() != reflect.Struct {
		return 0, errCookie
	}
	cookie, ok := state.Type.FieldByName("cookie")
	if !ok || cookie.Type != reflect.TypeFor[[]byte]() {
		return 0, errCookie
	}
	return state.Offset + cookie.Offset, nil
}()

// expect makes pion expect a cookie. It must be called while pion asks for its own, on the goroutine that looks at the cookie later.
func expect(c *dtls.Conn, cookie []byte) {
	*(*[]byte)(unsafe.Add(unsafe.Pointer(c), cookieOffset)) = cookie
}
