package turnd

import (
	"crypto/rand"
	"net/netip"
	"sync"
	"time"
)

// reservationLife is how long the port after an even one is kept for the client that asked for both (RFC 5766 6.2).
const reservationLife = 30 * time.Second

// portToken names a reservation.
type portToken [8]byte

// reservation is a port that is kept, with a place of its own in the owner's quota.
type reservation struct {
	sock  port
	local netip.AddrPort
	place *account
	timer *time.Timer
}

// reservations are all that there are. Safe for concurrent use.
type reservations struct {
	accounts *accounts

	mu   sync.Mutex
	list map[portToken]*reservation
}

func newReservations(a *accounts) *reservations {
	return &reservations{accounts: a, list: map[portToken]*reservation{}}
}

// keep keeps a port; it takes over the place.
func (r *reservations) keep(sock port, local netip.AddrPort, place *account) portToken {
	var t portToken
	_, _ = rand.Read(t[:]) // never fails: crypto/rand ends the process instead
	x := &reservation{sock: sock, local: local, place: place}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[t] = x
	x.timer = time.AfterFunc(reservationLife, func() {
		if r.take(t, place.name) == x {
			r.release(x)
		}
	})
	return t
}

// take returns the reservation of a token and forgets it; nil if its owner has none by that name. The caller has it then.
func (r *reservations) take(t portToken, owner string) *reservation {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.list[t]
	if x == nil || x.place.name != owner {
		return nil
	}
	delete(r.list, t)
	x.timer.Stop()
	return x
}

// release gives up a reservation that was taken.
func (r *reservations) release(x *reservation) {
	x.sock.close()
	r.accounts.give(x.place)
}

// close gives up all of them.
func (r *reservations) close() {
	r.mu.Lock()
	list := r.list
	r.list = map[portToken]*reservation{}
	r.mu.Unlock()
	for _, x := range list {
		x.timer.Stop()
		r.release(x)
	}
}
