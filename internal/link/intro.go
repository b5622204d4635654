package link

import (
	"encoding/binary"
	"errors"
	"fmt"

	"linecard.example/internal/stanza"
)

// Role is what a daemon is to its peers.
type Role uint8

// Roles of daemons.
const (
	RoleGateway  Role = 1
	RoleRouter   Role = 2
	RoleOffline  Role = 3
	RoleOperator Role = 4 // asks routers to change the roster: an operator's command, or a process that joins
	RoleBorder   Role = 5 // of a region towards its own routers and offlines
	RoleRegion   Role = 6 // the same process towards borders of other regions
	RoleMedia    Role = 7 // hears from routers what to verify grants with; no peer of theirs before it knows it
	RoleRelay    Role = 8 // hears from routers what to verify credentials with; the same holds for it
	roleEnd      Role = 9
)

// String returns the daemon's name, "unknown" outside of the list.
func (r Role) String() string {
	if r == 0 || r >= roleEnd {
		return "unknown"
	}
	return [roleEnd]string{1: "gateway", 2: "router", 3: "offline", 4: "operator", 5: "border", 6: "region", 7: "mediad", 8: "turnd"}[r]
}

func (r Role) valid() bool { return r > 0 && r < roleEnd }

// Info names an endpoint; it is the first thing sent on a stream. Two endpoints meet only when Shards, Cluster and Region are the same;
// those of RoleRegion only when Region is another one, whatever the cluster is.
type Info struct {
	Role        Role
	Node        uint64 // the machine's or process's durable id
	Incarnation uint64 // drawn at each start; of a gateway by NewIncarnation
	Shards      int    // 1..32768
	Cluster     string // 1..64 bytes
	Region      stanza.Region
}

// Gateway returns the id of a gateway's run.
func (i Info) Gateway() GatewayID { return GatewayID{Node: i.Node, Incarnation: i.Incarnation} }

// protocolVersion changes whenever an old peer could misread an envelope. New kinds do not change it: nobody is sent one that he has not
// said to know, so that old and new processes work together while they are replaced one after the other.
const protocolVersion = 1

const (
	maxShards  = 1 << 15
	maxCluster = 64
	maxWindow  = 1 << 30
)

// Refusals: why two ends do not become a stream. Each is a label of the refusals metric.
var (
	errIntro   = errors.New("not an introduction")
	errVersion = errors.New("protocol version differs")
	errRole    = errors.New("role is not the one wanted")
	errShards  = errors.New("number of shards differs")
	errCluster = errors.New("cluster differs")
	errFull    = errors.New("too many streams")
	errRegion  = errors.New("region does not fit")
	// errPeer is a refusal by the peer, for a reason that does not show in its introduction.
	errPeer = errors.New("refused by the peer")
)

// refusals are the closed list of causes: label of the metric, and number (index) in an answer. It only grows.
var refusals = [...]struct {
	err  error
	name string
}{
	{nil, "other"}, {errIntro, "intro"}, {errVersion, "version"}, {errRole, "role"}, {errShards, "shards"}, {errCluster, "cluster"},
	{errFull, "full"}, {errPeer, "peer"}, {errRegion, "region"},
}

// Misfit reports whether an attempt to connect failed with err because the two ends are configured for different systems, or of versions that
// do not fit: the next attempt will fail in the same way.
func Misfit(err error) bool {
	switch refusalNumber(err) {
	case 2, 3, 4, 5: // version to cluster
		return true
	}
	return false
}

// refusalNumber returns the place of err in refusals, 0 when it is none of them.
func refusalNumber(err error) int {
	for i := len(refusals) - 1; i > 0; i-- {
		if errors.Is(err, refusals[i].err) {
			return i
		}
	}
	return 0
}

// intro is the first message in each direction.
type intro struct {
	info   Info
	want   Role // whom the sender means to talk to
	window int  // bytes granted per group at the start
	// refused is, in an answer, why there will be no stream: a number of refusals, 0 for a yes. The answer is complete all the
	// same, so that both ends see, count and log one difference.
	refused byte
	kinds   Kind   // the last that the sender knows
	founded uint64 // roster.Roster.Cluster, 0 as long as the sender knows none
}

var introMagic = [3]byte{'L', 'C', 'L'}

// appendIntro appends magic, version, role, wanted role, refusal, then uvarints: node, incarnation, shards, window, length of the cluster's
// name; the name; last kind, as an uvarint which foundation of the cluster, and the region's number. Old peers stop after the name, or the foundation.
func appendIntro(dst []byte, in *intro) []byte {
	dst = append(dst, introMagic[:]...)
	dst = append(dst, protocolVersion, byte(in.info.Role), byte(in.want), in.refused)
	dst = binary.AppendUvarint(dst, in.info.Node)
	dst = binary.AppendUvarint(dst, in.info.Incarnation)
	dst = binary.AppendUvarint(dst, uint64(in.info.Shards))
	dst = binary.AppendUvarint(dst, uint64(in.window))
	dst = binary.AppendUvarint(dst, uint64(len(in.info.Cluster)))
	dst = append(dst, in.info.Cluster...)
	dst = append(dst, byte(in.kinds))
	dst = binary.AppendUvarint(dst, in.founded)
	return append(dst, byte(in.info.Region))
}

// parseIntro reads an introduction. Bytes behind it are allowed, for later minor additions.
func parseIntro(b []byte) (in intro, err error) {
	if len(b) < 7 || [3]byte(b[:3]) != introMagic {
		return in, errIntro
	}
	if b[3] != protocolVersion {
		return in, fmt.Errorf("%w: %d here, %d there", errVersion, protocolVersion, b[3])
	}
	in.info.Role, in.want, in.refused = Role(b[4]), Role(b[5]), b[6]
	b = b[7:]
	var v [5]uint64
	for i := range v {
		value, n := binary.Uvarint(b)
		if n <= 0 {
			return in, errIntro
		}
		v[i], b = value, b[n:]
	}
	if v[2] > maxShards || v[3] > maxWindow || v[4] > maxCluster || v[4] > uint64(len(b)) {
		return in, errIntro
	}
	in.info.Node, in.info.Incarnation = v[0], v[1]
	in.info.Shards, in.window = int(v[2]), int(v[3])
	in.info.Cluster = string(b[:v[4]])
	b = b[v[4]:]
	if in.kinds = kindsOld; len(b) == 0 {
		return in, nil
	}
	in.kinds = Kind(b[0])
	var n int
	if in.founded, n = binary.Uvarint(b[1:]); n <= 0 || in.kinds < kindsOld {
		return in, errIntro
	}
	if b = b[1+n:]; len(b) > 0 {
		in.info.Region = stanza.Region(b[0])
	}
	if in.info.Region > stanza.MaxRegion {
		return in, errIntro
	}
	return in, nil
}

// check says whether an endpoint that would say mine, and wants a peer of role want (0: any), may talk to who says in.
func (in *intro) check(mine *intro, want Role) error {
	p, self := &in.info, &mine.info
	switch {
	case !p.Role.valid() || (want != 0 && p.Role != want):
		return fmt.Errorf("%w: %v", errRole, p.Role)
	case in.want != self.Role:
		return fmt.Errorf("%w: peer wants %v, this is %v", errRole, in.want, self.Role)
	case self.Role == RoleRegion:
		return in.checkAbroad(self)
	case p.Region != self.Region:
		return fmt.Errorf("%w: this is %d, that %d", errRegion, self.Region, p.Region)
	case p.Cluster != self.Cluster || p.Cluster == "":
		return fmt.Errorf("%w: %q here, %q there", errCluster, self.Cluster, p.Cluster)
	case in.founded != mine.founded && in.founded != 0 && mine.founded != 0:
		return fmt.Errorf("%w: another one was founded under the name %q", errCluster, p.Cluster)
	case p.Shards != self.Shards || p.Shards < 1:
		return fmt.Errorf("%w: %d here, %d there", errShards, self.Shards, p.Shards)
	}
	return in.checkAnswer()
}

// checkAbroad is check between regions.
func (in *intro) checkAbroad(self *Info) error {
	switch p := &in.info; {
	case p.Role != RoleRegion:
		return fmt.Errorf("%w: %v", errRole, p.Role)
	case p.Region == self.Region:
		return fmt.Errorf("%w: both are %d", errRegion, p.Region)
	case p.Shards != self.Shards:
		return errIntro
	}
	return in.checkAnswer()
}

func (in *intro) checkAnswer() error {
	switch {
	case in.window < 1:
		return errIntro
	case in.refused > 0 && int(in.refused) < len(refusals):
		return fmt.Errorf("%w: %s", errPeer, refusals[in.refused].name)
	case in.refused > 0:
		return errPeer
	}
	return nil
}
