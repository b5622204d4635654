package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble"
	"linecard.example/internal/stanza"
)

// Held returns the groups of which log or snapshot are here, open or not, in order. Safe for concurrent use.
func (h *Host) Held() ([]stanza.Group, error) {
	seen := map[stanza.Group]bool{}
	for _, kind := range []byte{keyLog, keySnap} {
		it, err := h.log.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
		if err != nil {
			return nil, fmt.Errorf("shard: looking for groups: %w", err)
		}
		for ok := it.First(); ok && len(it.Key()) >= 3; {
			g := stanza.Group(binary.BigEndian.Uint16(it.Key()[1:]))
			seen[g] = true
			ok = it.SeekGE(groupEnd(kind, g))
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return nil, h.report("log", fmt.Errorf("shard: looking for groups: %w", err))
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}
