package client

import (
	"errors"
	"fmt"
	"time"

	"linecard.example/internal/stanza"
)

// Names of the wire that applications meet.
type (
	// Account is the number of an account; 0 is none.
	Account = stanza.Account
	// Device is the number of a device under its account, from 1; 0 is none.
	Device = stanza.Device
	// Reason says why a session was closed or a message refused; String gives its snake_case name.
	Reason = stanza.Reason
)

// What applications branch on.
var (
	// ErrHomeInUse: another process, or another Client of this one, has the Home.
	ErrHomeInUse = errors.New("home in use")
	// ErrHomeCorrupt: a file of the Home is damaged where a crash does not explain it. Nothing was changed.
	ErrHomeCorrupt = errors.New("home is damaged")
	// ErrClosed: the Client was closed.
	ErrClosed = errors.New("client closed")
	// ErrUnknownName: no account has that handle, or no account that number.
	ErrUnknownName = errors.New("unknown name")
	// ErrBadName: not a handle, which is 1-32 of [a-z0-9._-] (capitals are folded), nor one with @ and a region behind it.
	ErrBadName = errors.New("not a name: want 1-32 of a-z 0-9 . _ -, and @REGION behind one of another region")
	// ErrNoDevice: the account has no device that could get the message; for the own account: none but this one.
	ErrNoDevice = errors.New("the account has no device that could get the message")
	// ErrTooLarge: the message does not fit into one frame with a copy for each device.
	ErrTooLarge = errors.New("message too large")
	// ErrExpired: a message was not acked within 29 days.
	ErrExpired = errors.New("message not accepted within 29 days")
	// ErrOtherName: the Home belongs to another handle.
	ErrOtherName = errors.New("home belongs to another name")
	// ErrFileBusy: the transfer is under way already.
	ErrFileBusy = errors.New("the file is being transferred already")
	// ErrTooManyFiles: that many files wait to be sent.
	ErrTooManyFiles = errors.New("too many files wait to be sent")
	// ErrRoots: roots were given that contradict the pinned ones.
	ErrRoots = errors.New("home trusts another cluster")
)

// NoRootError: the Home has no pinned root and none was given, so the server could not be judged. Compare Fingerprint with what the
// operator published (linecard up prints it), then give the root, or trust the first one seen.
type NoRootError struct {
	Cluster     string // as the server says it
	Fingerprint string // of the root that it says it has
}

func (e *NoRootError) Error() string {
	return fmt.Sprintf("no root key is pinned: the server presents cluster %q under root %s; give its root file, or trust it on first use", e.Cluster, e.Fingerprint)
}

// CertificateError: the server could not prove that it belongs to the pinned cluster. The Client goes on trying, since anybody on the
// path can cause this; an application may rather stop.
type CertificateError struct {
	Fingerprint string // of the root that the server names; "" when the certificate is malformed
	Err         error
}

func (e *CertificateError) Error() string {
	if e.Fingerprint == "" {
		return "server not trusted: " + e.Err.Error()
	}
	return fmt.Sprintf("server not trusted: %v (it names root %s)", e.Err, e.Fingerprint)
}

func (e *CertificateError) Unwrap() error { return e.Err }

// CloseError: the server closed the session, or refused it, inside the encrypted session.
type CloseError struct {
	Reason     Reason
	RetryAfter time.Duration // 0 when the server named none
}

func (e *CloseError) Error() string {
	if text := closeText[e.Reason]; text != "" {
		return fmt.Sprintf("%s (%s)", text, e.Reason)
	}
	return fmt.Sprintf("server closed the session (%s)", e.Reason)
}

// closeText says in words what people meet most.
var closeText = map[Reason]string{
	stanza.ReasonDisplaced:          "this device signed in from elsewhere",
	stanza.ReasonUnlinked:           "this device was unlinked from its account",
	stanza.ReasonVersion:            "the server speaks another protocol version",
	stanza.ReasonBadKey:             "the server does not know this device's key",
	stanza.ReasonDraining:           "the server is going down",
	stanza.ReasonOverload:           "the server is overloaded",
	stanza.ReasonBusy:               "the server is busy",
	stanza.ReasonBadHandle:          "not a name: want 1-32 of a-z 0-9 . _ -",
	stanza.ReasonHandleTaken:        "the name is taken",
	stanza.ReasonRegistrationClosed: "registration needs an invite",
	stanza.ReasonBadInvite:          "the invite is unknown, used or expired",
	stanza.ReasonUnknownAccount:     "the server does not know this account",
	stanza.ReasonUnavailable:        "part of the server is unavailable",
	stanza.ReasonForeignRegion:      "the account's home is another region, which this server is not of",
}

// HintError: somebody on the path, perhaps the server, answered a handshake with a refusal. It is not authenticated, so the Client
// slows down but never gives up because of it.
type HintError struct {
	Reason     Reason
	RetryAfter time.Duration // at most 10 minutes
}

func (e *HintError) Error() string {
	if text := closeText[e.Reason]; text != "" {
		return fmt.Sprintf("connection refused: %s (%s)", text, e.Reason)
	}
	return fmt.Sprintf("connection refused (%s)", e.Reason)
}

// RefusedError: a message or a query was refused for good; a message's id is dead.
type RefusedError struct {
	ID     uint64 // of the message; 0 for a query
	Reason Reason
}

func (e *RefusedError) Error() string {
	if text := refusedText[e.Reason]; text != "" {
		return fmt.Sprintf("%s (%s)", text, e.Reason)
	}
	return fmt.Sprintf("refused (%s)", e.Reason)
}

var refusedText = map[Reason]string{
	stanza.ReasonUnknownAccount: "no such account",
	stanza.ReasonBlocked:        "the recipient does not take messages from this account",
	stanza.ReasonTooLarge:       "the message is too large",
	stanza.ReasonForbidden:      "not allowed",
	stanza.ReasonTooManyDevices: "the account has all the devices that it may have",
}
