package router

import (
	"maps"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/vfs"
	"linecard.example/internal/shard"
)

// lookAtRest checks the files below "data", and that the log brings their tables to a state of the hash.
func lookAtRest(t *testing.T, fs vfs.FS, want uint64) {
	t.Helper()
	i, err := shard.Inspect(fs, "data")
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if len(i.Groups) != 1 {
		t.Fatalf("groups %v, faults %q", i.Groups, i.Faults)
	}
	f := NewFold(testShard)
	f.d.shards, f.d.cluster = testShards, "test" // a life begins without the facts that a leader proposes first
	hashes, ok := i.Replay(i.Groups[0], f)
	if !ok || len(hashes) != 1 || hashes[0].Hash != want {
		t.Errorf("%+v, want hash %x; faults %q", hashes, want, i.Faults)
	}
}

// restingDirectory is a directory of two accounts with an unlinked device and an invite.
func restingDirectory(t *testing.T) memRecords {
	t.Helper()
	records := memRecords{}
	d := newTestDirectory(records)
	for stamp, c := range []command{
		{op: opFacts, shards: d.shards, text: []byte(d.cluster)},
		{op: opRegister, text: []byte("ann"), key: key(1), create: true},
		{op: opRegister, text: []byte("bob"), key: key(2), create: true},
		{op: opInviteCreate, digest: [digestSize]byte{1}, until: 99},
	} {
		d.apply(entry(int64(stamp+1), c.append(nil)))
	}
	ann, err := d.owner([]byte("ann"))
	if err != nil || ann == 0 {
		t.Fatal(ann, err)
	}
	d.apply(entry(9, (&command{op: opLink, account: ann, by: 1, key: key(3)}).append(nil)))
	d.apply(entry(10, (&command{op: opUnlink, account: ann, by: 1, device: 2}).append(nil)))
	return records
}

// restingFold loads records as they are; the facts are in them.
func restingFold(number, shards int, cluster string, records memRecords) (*Fold, error) {
	f := NewFold(number)
	f.d.records, f.d.shards, f.d.cluster = records, shards, cluster
	return f, f.d.load()
}

// TestAtRest: whole records are found whole; each record that is shortened, and each that another needs and that is missing, is found.
func TestAtRest(t *testing.T) {
	whole := restingDirectory(t)
	d := newTestDirectory(whole)
	f, err := restingFold(d.shard, d.shards, d.cluster, whole)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Check(); err != nil {
		t.Fatal(err)
	}
	if cluster, shards := f.Facts(); cluster != d.cluster || shards != d.shards {
		t.Errorf("cluster %q, %d shards", cluster, shards)
	}
	want, _ := d.hash()
	if h, err := f.Hash(); err != nil || h != want {
		t.Errorf("hash %x, want %x: %v", h, want, err)
	}
	kinds := map[byte]bool{}
	for k, v := range whole {
		kinds[k[0]] = true
		for _, spoiled := range []int{len(v) - 1, -1} {
			records := maps.Clone(whole)
			if spoiled >= 0 {
				records[k] = v[:spoiled]
			} else {
				delete(records, k)
			}
			if spoiled == -1 && len(v) > 0 && (k[0] == prefixInvite || k[0] == prefixFacts) || spoiled == -1 && len(v) == 0 {
				continue // nothing else says that it was there
			}
			f, err := restingFold(d.shard, d.shards, d.cluster, records)
			if err == nil {
				err = f.Check()
			}
			if err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("record %q cut to %d bytes: %v", k, spoiled, err)
			}
		}
	}
	if len(kinds) < 6 {
		t.Errorf("only records of kinds %v", kinds)
	}
}
