package router

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"

	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// Fold is the fold of one directory group without the daemon around it, for data at rest: a shard.Fold. It takes the cluster's facts from
// the data.
type Fold struct {
	d   directory
	err error // the first that stopped it
}

// NewFold returns the fold of dir/number.
func NewFold(number int) *Fold {
	f := &Fold{d: directory{shard: number}}
	f.d.fail = func(err error) {
		if f.err == nil {
			f.err = err
		}
	}
	return f
}

// Facts returns the cluster that the group belongs to, once something was loaded or folded that names it: shards 0 if nothing did.
func (f *Fold) Facts() (cluster string, shards int) { return f.d.cluster, f.d.shards }

// restingRecords is the size of its cache of records.
const restingRecords = 1 << 20

// Load implements shard.Fold.
func (f *Fold) Load(t shard.Tables, _ uint64) error {
	f.d.records = shard.NewOverlay(t, restingRecords)
	if v, ok, err := f.d.records.Get([]byte{prefixFacts}); err == nil && ok {
		r := reader{b: v}
		f.d.shards = int(r.uint(1 << 14))
		f.d.cluster = string(r.text(maxCluster)) // load says if they are malformed
		f.d.region = r.region()
	}
	return f.d.load()
}

// Fold implements shard.Fold.
func (f *Fold) Fold(e shard.Entry) error {
	if !f.d.factsKnown {
		if c, err := decodeCommand(e.Cmd); err == nil && c.op == opFacts {
			f.d.shards, f.d.cluster, f.d.region = c.shards, string(c.text), c.region
		}
	}
	f.d.apply(e)
	return f.err
}

// Hash implements shard.Fold.
func (f *Fold) Hash() (uint64, error) { return f.d.hash() }

// Check implements shard.Fold: every record decodes, each handle has its account and each account its handle, and no account has a
// number that was not given yet.
func (f *Fold) Check() error {
	var bad error
	err := f.d.records.Scan([]byte{0}, []byte{0xff}, func(k, v []byte) bool {
		if bad = f.checkRecord(k, v); bad != nil {
			bad = fmt.Errorf("directory: record %q: %w", k, bad)
		}
		return bad == nil
	})
	return cmp.Or(bad, err, f.err) // the last is what the first two came of
}

func (f *Fold) checkRecord(k, v []byte) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{errRecord}, args...)...)
	}
	switch rest := k[1:]; k[0] {
	case prefixFacts, prefixCounter, prefixTickets, prefixRoster: // decoded by Load
		if len(rest) != 0 {
			return errRecord
		}
	case prefixHandle:
		return f.checkHandle(rest, v)
	case prefixAccount:
		if len(rest) != 8 {
			return errRecord
		}
		return f.checkAccount(stanza.Account(binary.BigEndian.Uint64(rest)), v)
	case prefixDrop:
		if _, _, ok := parseDropKey(k); !ok || len(v) != 0 {
			return errRecord
		}
	case prefixInvite:
		_, err := decodeInvite(v)
		if len(rest) != digestSize {
			return errRecord
		}
		return err
	default:
		return wrong("unknown kind")
	}
	return nil
}

func (f *Fold) checkHandle(handle, v []byte) error {
	r := reader{b: v}
	owner := r.account()
	if r.bad || owner == 0 || len(r.b) != 0 {
		return errRecord
	}
	a, err := f.d.account(owner)
	switch {
	case err != nil:
		return err
	case a == nil:
		return fmt.Errorf("%w: its account %d is missing", errRecord, owner)
	case !bytes.Equal(a.handle, handle):
		return fmt.Errorf("%w: its account %d has another handle", errRecord, owner)
	}
	return nil
}

func (f *Fold) checkAccount(number stanza.Account, v []byte) error {
	var a accountRecord
	if err := a.decode(v); err != nil {
		return err
	}
	shards := uint64(f.d.shards)
	if shards == 0 || uint64(number)%shards != uint64(f.d.shard) || uint64(number) < f.d.base() || (uint64(number)-f.d.base())/shards > f.d.accounts {
		return fmt.Errorf("%w: account %d is of another shard, or was not made yet (%d were)", errRecord, number, f.d.accounts)
	}
	owner, err := f.d.owner(a.handle)
	if err == nil && owner != number {
		err = fmt.Errorf("%w: its handle belongs to account %d", errRecord, owner)
	}
	return err
}
