// Package mediad keeps media: blobs that clients encrypted, uploaded resumably, named by the SHA-256 of their ciphertext, handed out by
// range, and gone when nobody refers to them any more. It speaks HTTP/1.1 and HTTP/2; docs/protocol.md has what clients may rely on.
//
// # Who may do what
//
// Every request carries a grant (wire.Grant), in the header Authorization or in the query of a pre-signed URL. A gateway signed it for an
// account; this package verifies it with public keys that it heard over links, and asks nobody. What a request without a valid grant is
// answered depends on nothing that is stored.
//
// # One upload
//
//	POST  -> Server.create -> a record on disk, its place in the Location
//	PATCH -> uploads.open (an older request for the same upload is cut) -> intake: wait with a small buffer, take in with a big one
//	      -> the upload's file and hash, synced every MiB -> at the last byte: commit into the store, a reference, a record that says so
//
// Whatever ends a PATCH, all that it brought is durable before the next request learns the offset.
//
// # Bounds
//
// Requests, connections, those of one account and of one source have limits (Config). Memory does not grow with uploads that wait: a
// request that has nothing to read holds 4 KiB, and big buffers come from a pool (buffers). Every read from a client and every write to
// one has a deadline: a transfer may stand still for Config.Stall, and earns that time again at Config.MinRate (pace).
//
// # Threads
//
// net/http has a goroutine for each connection (HTTP/2: for each request); a request is handled on it from beginning to end. What requests
// share is in doors, tally, work, buffers and the depot, each with a mutex of its own, none held while anything waits. Run has a goroutine
// for the depot, and one that looks whether the TLS files changed.
//
// # Files
//
//	server.go   Server: New, Run, Ready, drain      config.go   configuration
//	reasons.go  why a request failed                metrics.go  counters, a line in the log
//	request.go  routes, one request's life          grant.go    whose it is
//	answer.go   JSON errors, CORS                   limits.go   connections, requests in flight
//	tus.go      resumable uploads                   put.go      uploads in one request
//	intake.go   a body into an upload, its pace     buffers.go  its memory
//	get.go      downloads, deletion                 outflow.go  a blob out, sendfile
//	work.go     bodies that can be cut              keys.go     what grants are verified with: heard from routers,
//	                                                            kept for the next start
//
//	depot.go    all that is kept; its goroutine     depotmetrics.go  what there is of it
//	uploads.go  uploads, open and not               upload.go   one that is open: bytes, syncs, commit
//	state.go    its record on disk                  quota.go    who has how much
//	store.go    the interface of the stores         refs.go     names of references
//	disk.go     blobs on disk                       sweep.go    expiry there
//	s3.go       blobs in a bucket                   s3sweep.go  expiry there
//	files.go    each step that changes the disk     room.go     free space
//	fsck.go     the check; fsckdisk.go, fscks3.go: of each store
package mediad
