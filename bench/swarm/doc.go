// Package swarm is the client engine of the bench: very many sessions in few processes, for as little memory as a client can have.
//
// An Engine holds sessions of one process on one event loop: raw epoll or kqueue, one pointer-free slot per session in mapped memory
// (internal/slab), one wheel entry for its next ping; no goroutine, timer, buffer or heap object while a session is idle. A session
// that shakes hands, has traffic, or holds an unfinished frame has further memory for just that long. A Fleet drives engines in child
// processes, or on other machines through agents, as if they were one Engine.
//
// The sessions speak the protocol of docs/protocol.md by internal/wire and internal/stanza, with the rules of gateway/client for
// admission, windows, acks and reconnecting; a test holds the two against each other. What they do not have is what a person's device
// needs: nothing is durable here, and keys are no secrets (see Config.Seed), so the engine is for load and never for talk.
//
// # Checking
//
// Every message carries its number, so that loss, doubling and reordering are counted for each one, not sampled; see Traffic. Anything
// that ends a session is counted with its reason; see Counters.
//
// # Threads
//
// One goroutine, locked to its thread, is the loop: everything behind an Engine is its own. The methods of Engine post to it and
// wait; they are safe for concurrent use, as those of Fleet are.
package swarm
