package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
	"linecard.example/offline"
	"linecard.example/router"
)

// ErrDamaged is what a check of data at rest returns when it found anything.
var ErrDamaged = errors.New("the data are damaged")

// reseed is what an operator is told to do about damage.
const reseed = "replace this copy, do not repair it: where the groups have other replicas, stop the process, have the node leave the cluster, " +
	"empty its data directory and join again, and the leaders seed it anew; else restore a backup. docs/operations.md, section Damage"

// Fsck checks the databases of a data directory whose process is stopped, or of a backup, and writes to w what it found: one line for
// each database and group, one that begins with "damaged:" for each fault. compare is another such directory, or a file with what Fsck
// wrote of one, whose groups must have the same state behind the same entry; empty: none. It changes no file. The error is ErrDamaged
// for faults or differences, or says why it could not look.
func Fsck(w io.Writer, data, compare string) error {
	other, err := openReport(compare)
	if err != nil {
		return err
	}
	defer other.close()
	c := &check{w: w, data: data, other: other}
	if err := c.run(); err != nil {
		return err
	}
	if len(c.faults) > 0 {
		return fmt.Errorf("%w: %d faults, the first is: %s; %s", ErrDamaged, len(c.faults), c.faults[0], reseed)
	}
	_, err = fmt.Fprintf(w, "%s: ok\n", data)
	return err
}

// check is one run over a directory.
type check struct {
	w     io.Writer // nil: nothing is written
	data  string
	node  string                  // the node id that the logs must have; "": that of the node file
	least map[stanza.Group]uint64 // where their logs must reach to
	other *report

	faults  []string
	cluster string
	shards  int
	found   map[stanza.Group]bool
}

func (c *check) printf(format string, args ...any) {
	if c.w != nil {
		fmt.Fprintf(c.w, format+"\n", args...)
	}
}

func (c *check) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.faults = append(c.faults, text)
	c.printf("damaged: %s", text)
}

// run checks every database of the directory.
func (c *check) run() error {
	c.found = map[stanza.Group]bool{}
	if _, err := readFacts(c.data); err != nil {
		return err
	}
	if _, err := readManifest(c.data); errors.Is(err, errNewer) {
		return err
	}
	roles, err := rolesIn(c.data)
	if err != nil {
		return err
	}
	if c.node == "" {
		c.findNode()
	}
	for _, role := range roles {
		if err := c.role(role); err != nil {
			return err
		}
	}
	for g, least := range c.least {
		if !c.found[g] && least > 0 {
			c.fault("%s is missing", g)
		}
	}
	return nil
}

// rolesIn lists the daemons that have databases below a directory.
func rolesIn(data string) ([]Role, error) {
	var roles []Role
	for _, role := range []Role{Router, Offline} {
		_, err := os.Stat(filepath.Join(data, string(role)))
		switch {
		case err == nil:
			roles = append(roles, role)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	if len(roles) == 0 {
		return nil, fmt.Errorf("%s holds no data of a router or offline", data)
	}
	return roles, nil
}

// findNode reads whose directory it is: the node file, or in a backup the manifest.
func (c *check) findNode() {
	path := filepath.Join(c.data, "node")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if m, errManifest := readManifest(c.data); errManifest == nil {
			c.node, c.least = m.Node, m.least()
			return
		}
	}
	if err == nil {
		var id identity
		if id, err = parseIdentity(path, text); err == nil {
			c.node = id.name()
		}
	}
	if err != nil {
		c.fault("%v", err)
	}
}

func (c *check) role(role Role) (err error) {
	i, err := shard.Inspect(nil, filepath.Join(c.data, string(role)))
	if err != nil {
		return named(role, err)
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	c.printf("%s: node %s, %d groups, %d tables of %d bytes", role, i.NodeID, len(i.Groups), i.Tables, i.Bytes)
	if c.node != "" && i.NodeID != "" && i.NodeID != c.node {
		c.fault("%s: the log is of node %s, the directory of node %s", role, i.NodeID, c.node)
	}
	told := c.tell(i, 0)
	for _, g := range i.Groups {
		c.found[g.Group] = true
		if least := c.least[g.Group]; g.Last < least {
			c.fault("%s ends at %d, entry %d was there", g.Group, g.Last, least)
		}
		c.group(i, g)
		told = c.tell(i, told)
	}
	return nil
}

// tell passes on the faults of an inspection from the n-th on, and returns how many there are.
func (c *check) tell(i *shard.Inspection, n int) int {
	for _, f := range i.Faults[n:] {
		c.fault("%s", f)
	}
	return len(i.Faults)
}

// group replays one group and compares it.
func (c *check) group(i *shard.Inspection, g shard.GroupFiles) {
	at := append([]uint64{g.Flushed, g.Last}, c.other.wanted(i, g)...)
	hashes, ok := replay(i, g, at, c.facts)
	if !ok {
		c.printf("%s last %d: not replayed", g.Group, g.Last)
		return
	}
	ends := slices.DeleteFunc(slices.Clone(hashes), func(h shard.StateHash) bool { return h.Index != g.Flushed && h.Index != g.Last })
	c.printf("%s", formatGroup(g, ends))
	switch same, differs, why := c.other.compare(g.Group, hashes); {
	case differs != "":
		c.fault("%s: %s", g.Group, differs)
	case why != "":
		c.printf("%s cannot be compared: %s", g.Group, why)
	case same != "":
		c.printf("%s is the same in both behind entry %s", g.Group, same)
	}
}

// replay folds a group's log with its machine; facts, which may be nil, hears what a directory says of its cluster.
func replay(i *shard.Inspection, g shard.GroupFiles, at []uint64, facts func(g stanza.Group, cluster string, shards int)) ([]shard.StateHash, bool) {
	if g.Group.IsQueue() {
		return i.Replay(g, offline.NewFold(), at...)
	}
	f := router.NewFold(g.Group.Shard())
	hashes, ok := i.Replay(g, f, at...)
	if cluster, shards := f.Facts(); facts != nil && shards != 0 {
		facts(g.Group, cluster, shards)
	}
	return hashes, ok
}

// facts holds the directories against each other: all are of one cluster.
func (c *check) facts(g stanza.Group, cluster string, shards int) {
	if c.shards == 0 {
		c.cluster, c.shards = cluster, shards
		c.printf("cluster %s, %d shards", cluster, shards)
	}
	if cluster != c.cluster || shards != c.shards {
		c.fault("%s belongs to cluster %q with %d shards, others to %q with %d", g, cluster, shards, c.cluster, c.shards)
	}
}

// formatGroup is a group's line, which parseGroup reads.
func formatGroup(g shard.GroupFiles, hashes []shard.StateHash) string {
	line := fmt.Sprintf("%s flushed %d last %d term %d voters %s", g.Group, g.Flushed, g.Last, g.Term, strings.Join(g.Voters, ","))
	for _, h := range hashes {
		line += fmt.Sprintf(" hash %d.%d=%016x", h.Index, h.Term, h.Hash)
	}
	return line
}
