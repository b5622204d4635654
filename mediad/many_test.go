package mediad

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

// TestManyAtOnce has accounts store, end and read the same few blobs while sweeps go on: afterwards the ledger, the references and the
// blobs agree, and whoever read something read what its name says.
func TestManyAtOnce(t *testing.T) {
	c := newClock()
	o := testOptions(t.TempDir(), c)
	o.retention = time.Hour
	d := openTest(t, o)
	var all sync.WaitGroup
	turns := 150
	if testing.Short() {
		turns = 40
	}
	for w := range 6 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 0))
			for range turns {
				if err := oneTurn(t, d, c, r); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	held := map[stanza.Account]int64{}
	mustDo(t, d.blobs.references(t.Context(), func(r reference) error {
		held[r.account] += r.size
		return nil
	}))
	for a := range stanza.Account(3) {
		wantHeld(t, d, a, holding{stored: held[a]})
	}
	if d.ledger.pending != 0 || d.ledger.uploads != 0 {
		t.Errorf("%d bytes to come of %d uploads", d.ledger.pending, d.ledger.uploads)
	}
	shut(t, d)
	if out, err := check(t, o.dir, false); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// oneTurn does something that a client may do, or a sweep.
func oneTurn(t *testing.T, d *depot, c *clock, r *rand.Rand) error {
	account, p := stanza.Account(r.IntN(3)), bytesOf(uint64(r.IntN(4)), 3000)
	h := hashOf(p)
	switch r.IntN(8) {
	case 0, 1:
		if err := d.end(t.Context(), h, account); !errors.Is(err, errNotFound) {
			return err
		}
		return nil
	case 2:
		b, err := d.open(t.Context(), h)
		if errors.Is(err, errNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		defer b.Close()
		got, err := io.ReadAll(b)
		if err == nil && hashOf(got) != h {
			err = fmt.Errorf("%d bytes of %s have another hash", len(got), h)
		}
		return err
	case 3:
		c.turn(20 * time.Minute)
		_, err := d.blobs.sweep(t.Context(), c.Now().Add(-d.opt.retention), c.Now().Add(-garbageAge), func(r reference) { d.ledger.drop(r.account, r.size) })
		return err
	}
	x, err := d.uploads.stage(account, int64(len(p)))
	if err != nil {
		return err
	}
	err = x.write(p)
	if err == nil {
		_, err = x.finish(t.Context())
	}
	return errors.Join(err, x.close())
}
