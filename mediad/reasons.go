package mediad

import (
	"context"
	"errors"
	"net/http"
	"os"
)

// Reason says why a request was not served: the field error of the JSON answer, the metric label and the log field in one. The
// enumeration is closed and only grows; docs/protocol.md has it.
type Reason uint8

// The reasons. What a request without a valid grant is answered is one of those before NotFound.
const (
	OK Reason = iota
	BadRequest
	UnknownPath
	MethodNotAllowed
	TusVersion
	NoGrant
	BadGrant
	GrantExpired
	GrantMethod
	GrantBlob
	NotFound
	WrongOffset
	WrongType
	LengthRequired
	TooLarge
	ChecksumAlgorithm
	ChecksumMismatch
	HashMismatch
	Finished
	Locked
	TakenOver
	Quota
	TooManyUploads
	RangeUnsatisfiable
	Precondition
	TooSlow
	Interrupted
	AccountBusy
	Busy
	Starting
	Draining
	StorageFull
	Unavailable
	Internal
	reasonEnd
)

type reasonInfo struct {
	name    string
	status  int
	retry   bool // the answer says Retry-After
	message string
}

// statusChecksum is the status of tus for a checksum that does not fit.
const statusChecksum = 460

var reasonTable = [reasonEnd]reasonInfo{
	OK:                 {"ok", 200, false, ""},
	BadRequest:         {"bad_request", 400, false, "the request cannot be understood"},
	UnknownPath:        {"unknown_path", 404, false, "there is nothing by this name here"},
	MethodNotAllowed:   {"method_not_allowed", 405, false, "not by this method"},
	TusVersion:         {"tus_version", 412, false, "this server speaks tus 1.0.0"},
	NoGrant:            {"no_grant", 401, false, "this takes a grant, in the header Authorization or in the query"},
	BadGrant:           {"bad_grant", 401, false, "the grant is not genuine"},
	GrantExpired:       {"grant_expired", 401, false, "the grant has expired: ask for another"},
	GrantMethod:        {"grant_method", 403, false, "the grant is for another method"},
	GrantBlob:          {"grant_blob", 403, false, "the grant is for another blob"},
	NotFound:           {"not_found", 404, false, "there is no such upload or blob, or not any more"},
	WrongOffset:        {"wrong_offset", 409, false, "the upload is at another offset"},
	WrongType:          {"wrong_type", 415, false, "want Content-Type application/offset+octet-stream"},
	LengthRequired:     {"length_required", 411, false, "want Upload-Length"},
	TooLarge:           {"too_large", 413, false, "larger than was allowed or announced"},
	ChecksumAlgorithm:  {"checksum_algorithm", 400, false, "the checksum is of no algorithm that is known here"},
	ChecksumMismatch:   {"checksum_mismatch", statusChecksum, false, "the checksum does not fit what came"},
	HashMismatch:       {"hash_mismatch", 422, false, "the SHA-256 of what came is not the one in the path"},
	Finished:           {"finished", 409, false, "the upload is complete already"},
	Locked:             {"locked", 423, true, "another request has the upload"},
	TakenOver:          {"taken_over", 409, false, "a newer request has taken the upload over"},
	Quota:              {"quota", 403, false, "the account has as much as it may"},
	TooManyUploads:     {"too_many_uploads", 429, true, "the account has too many unfinished uploads"},
	RangeUnsatisfiable: {"range", 416, false, "the range is outside of the blob"},
	Precondition:       {"precondition", 412, false, "the condition does not hold"},
	TooSlow:            {"too_slow", 408, false, "too slow, or standing still"},
	Interrupted:        {"interrupted", 400, false, "the body ended before it was complete"},
	AccountBusy:        {"account_busy", 429, true, "the account has too many requests under way"},
	Busy:               {"busy", 503, true, "too many requests are under way"},
	Starting:           {"starting", 503, true, "still starting"},
	Draining:           {"draining", 503, true, "about to end: go on after it"},
	StorageFull:        {"storage_full", 507, true, "no space is left"},
	Unavailable:        {"unavailable", 503, true, "the store cannot be reached"},
	Internal:           {"internal", 500, false, "a fault of the server"},
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

// Status returns the HTTP status of an answer with the reason.
func (r Reason) Status() int {
	if r >= reasonEnd {
		r = Internal
	}
	return reasonTable[r].status
}

// fault is a request that failed. cause is for the log, never for the client.
type fault struct {
	reason Reason
	cause  error
}

func (f *fault) Error() string {
	if f.cause == nil {
		return "mediad: " + f.reason.String()
	}
	return "mediad: " + f.reason.String() + ": " + f.cause.Error()
}

func (f *fault) Unwrap() error { return f.cause }

// fail returns a fault without a cause.
func fail(r Reason) error { return &fault{reason: r} }

// causes maps what the store says; what is not here is Internal.
var causes = []struct {
	err    error
	reason Reason
}{
	{errNotFound, NotFound}, {errBusy, Locked}, {errFinished, Finished}, {errTooLong, TooLarge}, {errShort, Interrupted},
	{errMeta, BadRequest}, {errQuota, Quota}, {errTooMany, TooManyUploads}, {errFull, StorageFull}, {errStarting, Starting},
	{errUnavailable, Unavailable}, {errClosed, Draining},
	{os.ErrDeadlineExceeded, TooSlow}, {context.Canceled, Interrupted}, {context.DeadlineExceeded, TooSlow},
}

// reasonOf returns the reason of any error; OK for nil.
func reasonOf(err error) Reason {
	if err == nil {
		return OK
	}
	var f *fault
	if errors.As(err, &f) {
		return f.reason
	}
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return TooLarge
	}
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return c.reason
		}
	}
	return Internal
}
