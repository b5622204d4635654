package turnd

// Reason says why a request, a packet or a connection was not served, or an allocation ended: the metric label and the log field in one.
// The enumeration is closed and only grows; docs/operations.md has it.
type Reason uint8

// The reasons.
const (
	OK Reason = iota
	// Requests.
	Unauthorized
	StaleNonce
	Malformed
	UnknownAttribute
	UnknownMethod
	WrongOwner
	NoAllocation
	AllocationExists
	TransportUnsupported
	FamilyUnsupported
	FamilyMismatch
	PeerForbidden
	ChannelTaken
	TooManyPeers
	Quota
	NoPorts
	NoReservation
	Busy
	Draining
	TooFast
	Unpaid
	// Packets.
	NotTURN
	NoPermission
	NoChannel
	Bandwidth
	TooLarge
	SendFailed
	// Connections.
	TooManyConnections
	Handshake
	Idle
	AcceptFailed
	PeerClosed
	// Ends of allocations.
	Expired
	Released
	Internal
	reasonEnd
)

// The error codes of STUN and TURN (RFC 5389 15.6, RFC 5766 15, RFC 6156 4.2) that requests are refused with.
const (
	codeBadRequest       = 400
	codeUnauthorized     = 401
	codeForbidden        = 403
	codeUnknownAttribute = 420
	codeMismatch         = 437
	codeStaleNonce       = 438
	codeFamily           = 440
	codeWrongCredentials = 441
	codeTransport        = 442
	codePeerFamily       = 443
	codeQuota            = 486
	codeServerError      = 500
	codeCapacity         = 508
)

type reasonInfo struct {
	name   string
	code   int    // of the error response; 0: there is none
	phrase string // in the error response, where the request was authenticated
}

var reasonTable = [reasonEnd]reasonInfo{
	OK:                   {"ok", 0, ""},
	Unauthorized:         {"unauthorized", codeUnauthorized, "Unauthorized"},
	StaleNonce:           {"stale_nonce", codeStaleNonce, "Stale Nonce"},
	Malformed:            {"malformed", codeBadRequest, "Bad Request"},
	UnknownAttribute:     {"unknown_attribute", codeUnknownAttribute, "Unknown Attribute"},
	UnknownMethod:        {"unknown_method", codeBadRequest, "Bad Request"},
	WrongOwner:           {"wrong_owner", codeWrongCredentials, "Wrong Credentials"},
	NoAllocation:         {"no_allocation", codeMismatch, "Allocation Mismatch"},
	AllocationExists:     {"allocation_exists", codeMismatch, "Allocation Mismatch"},
	TransportUnsupported: {"transport_unsupported", codeTransport, "Unsupported Transport Protocol"},
	FamilyUnsupported:    {"family_unsupported", codeFamily, "Address Family not Supported"},
	FamilyMismatch:       {"family_mismatch", codePeerFamily, "Peer Address Family Mismatch"},
	PeerForbidden:        {"peer_forbidden", codeForbidden, "Forbidden"},
	ChannelTaken:         {"channel_taken", codeBadRequest, "Bad Request"},
	TooManyPeers:         {"too_many_peers", codeCapacity, "Insufficient Capacity"},
	Quota:                {"quota", codeQuota, "Allocation Quota Reached"},
	NoPorts:              {"no_ports", codeCapacity, "Insufficient Capacity"},
	NoReservation:        {"no_reservation", codeCapacity, "Insufficient Capacity"},
	Busy:                 {"busy", 0, ""},
	Draining:             {"draining", codeCapacity, "Insufficient Capacity"},
	TooFast:              {"too_fast", 0, ""},
	Unpaid:               {"unpaid", 0, ""},
	NotTURN:              {"not_turn", 0, ""},
	NoPermission:         {"no_permission", 0, ""},
	NoChannel:            {"no_channel", 0, ""},
	Bandwidth:            {"bandwidth", 0, ""},
	TooLarge:             {"too_large", 0, ""},
	SendFailed:           {"send_failed", 0, ""},
	TooManyConnections:   {"too_many_connections", 0, ""},
	Handshake:            {"handshake", 0, ""},
	Idle:                 {"idle", 0, ""},
	AcceptFailed:         {"accept_failed", 0, ""},
	PeerClosed:           {"peer_closed", 0, ""},
	Expired:              {"expired", 0, ""},
	Released:             {"released", 0, ""},
	Internal:             {"internal", codeServerError, "Server Error"},
}

// Reasons returns all of them in order, OK first.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonEnd)
	for r := range reasonEnd {
		all = append(all, r)
	}
	return all
}

// String returns the reason's name.
func (r Reason) String() string {
	if r >= reasonEnd {
		r = Internal
	}
	return reasonTable[r].name
}

// Code returns the error code of a response with the reason; 0: such a thing is not answered.
func (r Reason) Code() int {
	if r >= reasonEnd {
		r = Internal
	}
	return reasonTable[r].code
}
