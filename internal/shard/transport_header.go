package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"linecard.example/internal/stanza"
)

// purpose says what a connection is for.
type purpose uint8

const (
	purposeRaft   purpose = 1 // RPCs of one group, as hashicorp's NetworkTransport writes them
	purposeStatus purpose = 2 // questions about replicas, see transport_status.go
)

// hello is the first thing on a connection. The dialler sends it, and nothing more before it is answered.
type hello struct {
	purpose     purpose
	group       stanza.Group // of purposeRaft
	shards      int
	incarnation uint64 // of the dialler's process
	cluster     string
	from, to    string // node ids: the dialler's, and the one it means to reach
	format      int    // of what the dialler writes into logs and tables
}

// welcome answers a hello: who is here, and whether the connection is served.
type welcome struct {
	refusal     byte // accepted, or a number of refusals
	incarnation uint64
	node        string
	format      int // as in a hello
}

// Why a connection is not served. Each is a label of the refusals metric and a number in a welcome.
var (
	errHello     = errors.New("not a header of this protocol")
	errVersion   = errors.New("protocol version differs")
	errCluster   = errors.New("cluster differs")
	errShards    = errors.New("number of shards differs")
	errTarget    = errors.New("this is another node")
	errStranger  = errors.New("node is not in the roster")
	errName      = errors.New("certificate is of another member")
	errNotServed = errors.New("group is not open here")
	errFull      = errors.New("too many connections")
	errEarlier   = errors.New("connections of an earlier run are still open")
	errStopping  = errors.New("node is stopping")
	errFormat    = errors.New("the data are of a newer linecard")

	// ErrDuplicate says that another process runs under the same node id, on a copy of the same data directory or of its node file.
	ErrDuplicate = errors.New("shard: another process runs as this node")
)

// refusals is the closed list of causes: label of the metric, and number (index) in a welcome. It only grows.
var refusals = [...]struct {
	err  error
	name string
}{
	{nil, "other"}, {errHello, "hello"}, {errVersion, "version"}, {errCluster, "cluster"}, {errShards, "shards"}, {errTarget, "target"},
	{errStranger, "stranger"}, {errName, "name"}, {errNotServed, "not_served"}, {errFull, "full"}, {errEarlier, "earlier"},
	{ErrDuplicate, "duplicate"}, {errStopping, "stopping"}, {errFormat, "format"},
}

// errOtherRefusal is a refusal for a reason that this version does not know.
var errOtherRefusal = errors.New("refused")

// refusalNumber returns the place of err in refusals, 0 when it is none of them.
func refusalNumber(err error) int {
	for i := len(refusals) - 1; i > 0; i-- {
		if errors.Is(err, refusals[i].err) {
			return i
		}
	}
	return 0
}

// err returns why the connection is refused, nil if it is accepted.
func (w *welcome) err() error {
	switch {
	case w.refusal == accepted:
		return nil
	case w.refusal > 0 && int(w.refusal) < len(refusals):
		return refusals[w.refusal].err
	}
	return errOtherRefusal
}

// The frame of both: magic, version, and the length of what follows, so that any version can read to the end and answer. Sixteen
// bits are enough for the length; the limit is far lower and checked before anything is allocated.
const (
	transportVersion = 1
	headerPrefix     = 3 + 1 + 2
	maxHeader        = 512
	maxHeaderName    = 128 // bytes of a cluster's name or a node id
	maxShards        = 1 << 15
)

var (
	helloMagic   = [3]byte{'L', 'C', 'R'}
	welcomeMagic = [3]byte{'L', 'C', 'W'}
)

// accepted is the refusal of a welcome that is none. Not 0, so that a byte which got lost is no consent.
const accepted = 255

// appendFrame appends magic, version and length, then what body appends.
func appendFrame(dst []byte, magic [3]byte, body func([]byte) []byte) []byte {
	start := len(dst) + headerPrefix
	dst = append(dst, magic[:]...)
	dst = append(dst, transportVersion, 0, 0)
	dst = body(dst)
	binary.BigEndian.PutUint16(dst[start-2:], uint16(len(dst)-start))
	return dst
}

func appendName(dst []byte, s string) []byte {
	s = s[:min(len(s), maxHeaderName)]
	return append(append(dst, byte(len(s))), s...)
}

// appendHello appends purpose, group, shards, incarnation, then three names with a byte of length each: cluster, from, to; format, 16 bits.
func appendHello(dst []byte, h *hello) []byte {
	return appendFrame(dst, helloMagic, func(b []byte) []byte {
		b = append(b, byte(h.purpose))
		b = binary.BigEndian.AppendUint16(b, uint16(h.group))
		b = binary.BigEndian.AppendUint16(b, uint16(h.shards))
		b = binary.BigEndian.AppendUint64(b, h.incarnation)
		b = appendName(appendName(appendName(b, h.cluster), h.from), h.to)
		return binary.BigEndian.AppendUint16(b, uint16(h.format))
	})
}

// appendWelcome appends refusal, incarnation, node and format.
func appendWelcome(dst []byte, w *welcome) []byte {
	return appendFrame(dst, welcomeMagic, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint64(append(b, w.refusal), w.incarnation)
		return binary.BigEndian.AppendUint16(appendName(b, w.node), uint16(w.format))
	})
}

// readFrame reads one frame to its last byte and none behind it, also of another version.
func readFrame(r io.Reader, magic [3]byte) ([]byte, error) {
	var prefix [headerPrefix]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(prefix[4:]))
	if [3]byte(prefix[:3]) != magic || n > maxHeader {
		return nil, errHello
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if prefix[3] != transportVersion {
		return nil, fmt.Errorf("%w: %d here, %d there", errVersion, transportVersion, prefix[3])
	}
	return body, nil
}

// takeName cuts a name with its length off b.
func takeName(b []byte) (name string, rest []byte, ok bool) {
	if len(b) < 1 || b[0] < 1 || b[0] > maxHeaderName || len(b)-1 < int(b[0]) {
		return "", nil, false
	}
	return string(b[1 : 1+b[0]]), b[1+b[0]:], true
}

// takeFormat reads the format behind the names; who does not say writes the first one.
func takeFormat(b []byte) int {
	if len(b) < 2 {
		return 1
	}
	return int(binary.BigEndian.Uint16(b))
}

// readHello reads a hello. Bytes behind its fields are allowed, for later minor additions.
func readHello(r io.Reader) (h hello, err error) {
	b, err := readFrame(r, helloMagic)
	if err != nil {
		return h, err
	}
	const fixed = 1 + 2 + 2 + 8
	if len(b) < fixed {
		return h, errHello
	}
	h.purpose, h.group = purpose(b[0]), stanza.Group(binary.BigEndian.Uint16(b[1:]))
	h.shards, h.incarnation = int(binary.BigEndian.Uint16(b[3:])), binary.BigEndian.Uint64(b[5:])
	rest := b[fixed:]
	for _, name := range []*string{&h.cluster, &h.from, &h.to} {
		var ok bool
		if *name, rest, ok = takeName(rest); !ok {
			return hello{}, errHello
		}
	}
	if h.shards < 1 || h.shards > maxShards || (h.purpose != purposeRaft && h.purpose != purposeStatus) {
		return hello{}, errHello
	}
	h.format = takeFormat(rest)
	return h, nil
}

// readWelcome reads a welcome, with bytes behind its fields allowed.
func readWelcome(r io.Reader) (w welcome, err error) {
	b, err := readFrame(r, welcomeMagic)
	if err != nil {
		return w, err
	}
	if len(b) < 1+8 {
		return w, errHello
	}
	w.refusal, w.incarnation = b[0], binary.BigEndian.Uint64(b[1:])
	node, rest, ok := takeName(b[9:])
	if !ok {
		return welcome{}, errHello
	}
	w.node, w.format = node, takeFormat(rest)
	return w, nil
}
