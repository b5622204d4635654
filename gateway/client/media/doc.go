// Package media is what a client needs to send files: the format of an encrypted blob and of the pointer to it, which is what travels
// in a message, and the transfer of blobs to and from mediad. docs/protocol.md has the format; any client may implement it anew.
//
// A file is encrypted on the sender's device under a key of its own, uploaded as a blob that is named by its SHA-256, and read by whoever
// got the pointer. A server sees a blob's length and who asks for it, and neither key, name nor content. Blobs are chunks that are verified
// each by itself, so that what is streamed, and any range of it, is checked before it is handed on.
//
// Everything is streamed: a transfer in either direction holds one chunk (64 KiB) and the transport's buffers, and an upload 32 bytes
// a chunk besides.
//
// # Threading
//
// No type here starts a goroutine that outlives the call that started it. Transport and Remote are safe for concurrent use; the others
// belong to one goroutine at a time.
//
// # Files
//
//	format.go pointer.go   chunks and keys; what a message says of a file
//	plan.go source.go      encrypting: one reading that finds name and tags, then the blob from any offset on
//	reader.go              decrypting and verifying, from any chunk on
//	transport.go retry.go  HTTP to mediad: grants, refusals, stalls, what is tried again
//	upload.go              tus: create, where was I, go on
//	download.go remote.go  a whole file, with resume; ranges of plaintext
package media
