package offline

import (
	"errors"
	"fmt"
)

// errTables says that the tables do not hold what the applied index promises.
var errTables = errors.New("damaged tables")

// A machine that cannot read its tables, or that finds a log entry which is none, must not guess: what it would apply, answer or
// leave out would not be the log's truth, and nobody would hear of it. So the first such find stops the group, through fail; from then
// on it neither flushes nor answers anything as committed. Rejected: going on without the
// record. It keeps the other queues in service, and loses an acked message without a word.

// giveUp stops the group with err; the first error counts.
func (s *state) giveUp(err error) {
	if s.broken == nil {
		s.broken = err
		s.fail(err)
	}
}

// check gives up when the record of key, or those from it on, cannot be read or written.
func (s *state) check(key []byte, err error) {
	if err != nil {
		s.giveUp(fmt.Errorf("%s: %w", describe(key), err))
	}
}

// damaged gives up because of the record of key: why says what is wrong with it.
func (s *state) damaged(key []byte, why string) {
	s.giveUp(fmt.Errorf("%w: %s %s", errTables, describe(key), why))
}

const (
	isMissing   = "is missing"
	isMalformed = "is malformed"
)

// describe names a table key for a person: kind and numbers.
func describe(key []byte) string {
	if len(key) == 0 {
		return "record"
	}
	part := func(n int) queueKey { return queueKey(keyPart(key, n)) }
	switch {
	case key[0] == tableMessage && len(key) == 17:
		return fmt.Sprintf("message record of account %d device %d sequence %d", part(0).account(), part(0).device(), part(1))
	case key[0] == tableQueue && len(key) == 9:
		return fmt.Sprintf("queue record of account %d device %d", part(0).account(), part(0).device())
	case key[0] == tableStream && len(key) == 17:
		return fmt.Sprintf("stream record to account %d from account %d device %d", part(0), part(1).account(), part(1).device())
	case key[0] == tableReceipt && len(key) == 17:
		return fmt.Sprintf("receipt record for account %d device %d from account %d", part(0).account(), part(0).device(), receiptKeyOf(key).from)
	case key[0] == tableAhead && len(key) == 17:
		return fmt.Sprintf("record of a run written ahead for account %d device %d sequence %d", part(0).account(), part(0).device(), part(1))
	case key[0] == tableTotals && len(key) == 1:
		return "record of totals"
	}
	return fmt.Sprintf("record %q", key)
}
