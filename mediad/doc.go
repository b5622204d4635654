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
//	PATCH -> holders.take (an older request for the same upload ends) -> intake: wait with a small buffer, take in with a big one
//	      -> the upload's file and hash, synced every MiB -> at the last byte: commit into the store, a reference, a record that says so
//
// Whatever ends a PATCH, all that it brought is durable before the next request learns the offset.
//
// # Bounds
//
// Requests, connections, those of one account and of one source have limits (Config). Memory does not grow with uploads that wait: a
// request that has nothing to read holds 4 KiB, and big buffers come from a pool (buffers). No transfer may be slower than Config.MinRate
// over Config.Stall: every window of that time has a deadline, for reading and for writing.
//
// # Threads
//
// net/http has a goroutine for each connection (HTTP/2: for each request); a request is handled on it from beginning to end. What requests
// share is in holders, tally, buffers and the stores, each with a mutex of its own, none held while anything waits. Run has a
// goroutine that looks whether the TLS files changed.
//
// # Files
//
//	server.go   Server: New, Run, Ready, drain      config.go   configuration
//	reasons.go  why a request failed                metrics.go  counters
//	request.go  routes, one request's life          grant.go    whose it is
//	answer.go   JSON errors, CORS                   limits.go   connections, requests in flight
//	tus.go      resumable uploads                   put.go      uploads in one request
//	intake.go   a body into an upload               buffers.go  its memory
//	holders.go  who works on which upload           get.go      downloads, deletion
//	outflow.go  writing in slices with deadlines    tls.go      certificates that change
package mediad
