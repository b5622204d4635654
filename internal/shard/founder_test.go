package shard

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
)

// The founder of a group whose log is torn back to when it was the only voter does not lead again, beside the others: it is refused.
func TestFounderThatForgetsTheOthers(t *testing.T) {
	fs := vfs.NewStrictMem()
	founder := true
	var cfg HostConfig
	ms := openClusterWith(t, func(c *HostConfig) {
		if founder {
			c.FS, founder = fs, false
			cfg = *c
		}
	})
	h := ms[0].h
	for end := time.Now().Add(20 * time.Second); h.state.Metrics().Flush.Count == 0; time.Sleep(5 * time.Millisecond) { // Pebble tells nobody
		if time.Now().After(end) {
			t.Fatal("the tables are not made durable when another voter has come")
		}
	}
	fs.SetIgnoreSyncs(true) // the power is cut
	noErr(t, h.Close())
	fs.ResetToSyncedState()
	fs.SetIgnoreSyncs(false)

	db, err := openPebble("d/log", &pebble.Options{FS: fs, FormatMajorVersion: formatVersion, Logger: quietLogger{}})
	noErr(t, err)
	noErr(t, db.DeleteRange(logKey(testGroup, 3), groupEnd(keyLog, testGroup), pebble.Sync), db.Close()) // what a torn WAL leaves: the founding
	cfg.Bootstrap, cfg.Transport = false, nil
	h = openHost(t, cfg)
	if _, err := Open[int, uint64](h, testGroup, newToy()); !errors.Is(err, ErrLost) {
		t.Errorf("opened: %v", err)
	}
}
