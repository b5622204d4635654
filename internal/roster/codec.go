package roster

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The encoding: version byte, cluster (8 bytes, big-endian), version, voters, the two founders (8 each), number of members, members. A
// member: id (8), role, state, since, name, address of links, address of raft. Numbers are minimal uvarints, texts have a byte of length.
// Each roster has exactly one encoding.
const codecVersion = 1

// MaxMemberSize and MaxSize bound encodings in bytes.
const (
	MaxMemberSize = 8 + 1 + 1 + 10 + 1 + MaxName + 2*(1+MaxAddress)
	MaxSize       = 1 + 8 + 10 + 1 + 16 + 2 + MaxMembers*MaxMemberSize
)

// ErrEncoding is wrapped by what Parse and ParseMember return.
var ErrEncoding = errors.New("roster: bad encoding")

// Append appends r's encoding to dst.
func (r *Roster) Append(dst []byte) []byte {
	dst = append(dst, codecVersion)
	dst = binary.BigEndian.AppendUint64(dst, r.Cluster)
	dst = binary.AppendUvarint(dst, r.Version)
	dst = append(dst, byte(r.Voters))
	dst = binary.BigEndian.AppendUint64(dst, r.Routers)
	dst = binary.BigEndian.AppendUint64(dst, r.Offlines)
	dst = binary.AppendUvarint(dst, uint64(len(r.Members)))
	for i := range r.Members {
		dst = r.Members[i].Append(dst)
	}
	return dst
}

// Append appends m's encoding to dst; m must be valid.
func (m *Member) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, m.Node)
	dst = append(dst, byte(m.Role), byte(m.State))
	dst = binary.AppendUvarint(dst, uint64(m.Since))
	dst = appendText(dst, m.Name)
	dst = appendText(dst, m.Link)
	return appendText(dst, m.Raft)
}

// Parse reads a whole roster; it keeps nothing of b. Only a valid one is accepted.
func Parse(b []byte) (*Roster, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrEncoding, len(b))
	}
	d := decoder{b: b}
	if v := d.byte(); v != codecVersion && !d.bad {
		return nil, fmt.Errorf("%w: version %d", ErrEncoding, v)
	}
	r := &Roster{Cluster: d.fixed(), Version: d.uint(), Voters: int(d.byte()), Routers: d.fixed(), Offlines: d.fixed()}
	n := d.uint()
	if n > MaxMembers || n > uint64(len(d.b)) {
		return nil, fmt.Errorf("%w: %d members", ErrEncoding, n)
	}
	r.Members = make([]Member, n)
	for i := range r.Members {
		d.member(&r.Members[i])
	}
	if d.bad || len(d.b) != 0 || !r.Valid() {
		return nil, ErrEncoding
	}
	return r, nil
}

// ParseMember reads a whole member; it keeps nothing of b. Only a valid one is accepted.
func ParseMember(b []byte) (m Member, err error) {
	d := decoder{b: b}
	d.member(&m)
	if d.bad || len(d.b) != 0 || !m.Valid() {
		return Member{}, fmt.Errorf("%w: member", ErrEncoding)
	}
	return m, nil
}

func appendText(dst []byte, s string) []byte { return append(append(dst, byte(len(s))), s...) }

// decoder takes fields off b; after the first fault it returns zeros, and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if len(d.b) < n {
		d.bad, d.b = true, nil
		return nil
	}
	s := d.b[:n]
	d.b = d.b[n:]
	return s
}

func (d *decoder) byte() byte {
	if s := d.take(1); s != nil {
		return s[0]
	}
	return 0
}

func (d *decoder) fixed() uint64 {
	if s := d.take(8); s != nil {
		return binary.BigEndian.Uint64(s)
	}
	return 0
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text(most int) string {
	n := int(d.byte())
	if n > most {
		d.bad, d.b = true, nil
		return ""
	}
	return string(d.take(n))
}

func (d *decoder) member(m *Member) {
	*m = Member{Node: d.fixed(), Role: Role(d.byte()), State: State(d.byte()), Since: int64(d.uint())}
	m.Name, m.Link, m.Raft = d.text(MaxName), d.text(MaxAddress), d.text(MaxAddress)
}
