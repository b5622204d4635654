package mediad

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"linecard.example/internal/stanza"
)

// blobHash names a blob: the SHA-256 of its bytes, which are ciphertext.
type blobHash [sha256.Size]byte

// String is the name of a blob in URLs, files and logs.
func (h blobHash) String() string { return hex.EncodeToString(h[:]) }

// parseHash reads what String writes and nothing else: a blob has one name.
func parseHash(s string) (h blobHash, ok bool) {
	if len(s) != 2*len(h) {
		return h, false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return h, false
		}
	}
	_, err := hex.Decode(h[:], []byte(s))
	return h, err == nil
}

// What a caller branches on. All else that the store returns is a fault of the disk or of the object store.
var (
	errNotFound    = errors.New("mediad: there is no such upload or blob")
	errBusy        = errors.New("mediad: another request has the upload")
	errFinished    = errors.New("mediad: the upload is complete")
	errTooLong     = errors.New("mediad: more bytes than the upload was announced with")
	errShort       = errors.New("mediad: the upload is not complete")
	errMeta        = errors.New("mediad: the metadata are too long")
	errQuota       = errors.New("mediad: over the account's quota")
	errTooMany     = errors.New("mediad: too many unfinished uploads")
	errFull        = errors.New("mediad: no space is left")
	errStarting    = errors.New("mediad: what accounts have is still being read")
	errUnavailable = errors.New("mediad: the store cannot be reached")
	errClosed      = errors.New("mediad: the store is closed")
)

// blobs keeps finished blobs and the references that keep them alive: the disk or an object store. Safe for concurrent use; what is
// done to one blob is done one after another.
type blobs interface {
	// commit makes the staged file the blob h of size bytes, and makes or renews the account's reference. All is durable when it
	// returns. fresh says that the account had no reference before. The file is synced by the caller; commit may move it away, what it
	// leaves the caller removes. It may be called again for a commit that was cut off, when the file may be gone already.
	commit(ctx context.Context, h blobHash, size int64, account stanza.Account, file string) (fresh bool, err error)

	// open returns the blob for reading. errNotFound: there is none.
	open(ctx context.Context, h blobHash) (*blob, error)

	// end ends the account's reference, and the blob with its last one; freed is the blob's size. errNotFound: it has no reference.
	end(ctx context.Context, h blobHash, account stanza.Account) (freed int64, err error)

	// references calls f for each reference, in no order, until f fails.
	references(ctx context.Context, f func(reference) error) error

	// sweep ends references older than refs and calls ended for each, then removes blobs without any that are older than garbage.
	sweep(ctx context.Context, refs, garbage time.Time, ended func(reference)) (swept, error)
}

// swept is what a sweep did and what it left.
type swept struct {
	references, blobs int   // ended, removed
	bytes             int64 // of the blobs removed
	kept              int   // blobs that stay
	keptBytes         int64 // of those
}

// blob is one that is being read. One goroutine at a time; the caller closes it.
type blob struct {
	io.ReadSeekCloser // on disk an *os.File, which the kernel sends without a copy
	size              int64
}
