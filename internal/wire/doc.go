// Package wire is the outer layer of the protocol, up to the plaintext of a frame: preamble, frames, Noise handshake, gateway
// certificate, sealed frames; and the PROXY header that a balancer puts before all of it. docs/protocol.md is the specification;
// testdata/session.txt is a whole session in bytes.
//
//	connection = preamble  { frame }
//	preamble   = 'L' 'C' major minor
//	frame      = length (2 bytes, big-endian)  body (at most 65,535 bytes)
//
// A body is either a handshake message, which begins with its Kind, or one sealed frame: ChaCha20-Poly1305 under the key of its
// direction, with the number of the frame in that direction (from 0) as nonce and no associated data.
//
// The handshake is Noise_XX_25519_ChaChaPoly_SHA256. Its prologue is every byte of the connection from the preamble on, both
// directions in the order in which the protocol makes them alternate, length prefixes included, up to the first Noise message: what
// somebody changes before the handshake makes it fail. After a use-XX answer the prologue therefore holds the failed resume as well.
//
// A client with a ticket resumes instead, by Noise_NNpsk0_25519_ChaChaPoly_SHA256 with the secret that came with the ticket: one
// Diffie-Hellman for each side instead of three.
//
// Nothing here reads a clock, opens a connection or logs: times and randomness are passed in. Functions are safe for concurrent use;
// a Responder, an Initiator and a Sealer belong to one goroutine at a time. Handshake objects are garbage after use, and the key
// material in them stays on the heap until it is collected; the caller clears what it is given (Finish, Keys).
//
// Files: proxy.go (PROXY header), frame.go (preamble, frames), kind.go (handshake frames other than XX), handshake.go (what both sides
// share), responder.go, initiator.go, crowd.go (the client side for load), resume.go (both sides), symmetric.go (Noise's symmetric state, of the server's
// side), dh.go with dh_*.go (X25519), certificate.go, root.go (root keys as text), seal.go (sealed frames),
// aead.go (its cipher), ticket.go, ticketkey.go (resumption tickets and their keys), grant.go, grantkey.go (what a mediad lets in),
// relay.go (whom a turnd lets in), keyset.go (sets of keys).
package wire
