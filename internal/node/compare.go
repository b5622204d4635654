package node

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// report is what groups are compared with: another directory, which can be replayed to any entry, or what was written of one.
type report struct {
	dirs   map[stanza.Group]*shard.Inspection // of a directory
	files  map[stanza.Group]shard.GroupFiles
	hashes map[stanza.Group][]shard.StateHash // of a file
	open   []*shard.Inspection
}

// openReport opens what to compare with; nil for "".
func openReport(path string) (*report, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	r := &report{dirs: map[stanza.Group]*shard.Inspection{}, files: map[stanza.Group]shard.GroupFiles{}, hashes: map[stanza.Group][]shard.StateHash{}}
	if !info.IsDir() {
		return r, r.readFile(path)
	}
	roles, err := rolesIn(path)
	if err != nil {
		return nil, err
	}
	for _, role := range roles {
		i, err := shard.Inspect(nil, filepath.Join(path, string(role)))
		if err != nil {
			r.close()
			return nil, named(role, err)
		}
		r.open = append(r.open, i)
		for _, g := range i.Groups {
			r.dirs[g.Group], r.files[g.Group] = i, g
		}
	}
	return r, nil
}

func (r *report) close() {
	if r == nil {
		return
	}
	for _, i := range r.open {
		_ = i.Close() // nothing was written
	}
}

// maxReportLine bounds a line of a report: a group with nine voters takes 300 bytes.
const maxReportLine = 4 << 10

// readFile takes the lines of groups out of what Fsck wrote.
func (r *report) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxReportLine)
	for lines.Scan() {
		if g, hashes, ok := parseGroup(lines.Text()); ok {
			r.hashes[g] = hashes
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(r.hashes) == 0 {
		return fmt.Errorf("%s: want a data directory, or what linecard fsck printed", path)
	}
	return nil
}

// parseGroup reads a line of formatGroup.
func parseGroup(line string) (g stanza.Group, hashes []shard.StateHash, ok bool) {
	words := strings.Fields(line)
	if len(words) < 10 || words[1] != "flushed" {
		return 0, nil, false
	}
	if g, ok = parseGroupName(words[0]); !ok {
		return 0, nil, false
	}
	for n := 1; n < len(words); n++ {
		var h shard.StateHash
		if words[n-1] == "hash" {
			if _, err := fmt.Sscanf(words[n], "%d.%d=%x", &h.Index, &h.Term, &h.Hash); err != nil {
				return 0, nil, false
			}
			hashes = append(hashes, h)
		}
	}
	return g, hashes, len(hashes) > 0
}

// parseGroupName is the inverse of stanza.Group.String.
func parseGroupName(name string) (stanza.Group, bool) {
	kind, number, _ := strings.Cut(name, "/")
	var n int
	if _, err := fmt.Sscanf(number, "%d", &n); err != nil || n < 0 || n >= 1<<14 {
		return 0, false
	}
	g := stanza.DirGroup(n)
	if kind == "queue" {
		g = stanza.QueueGroup(n)
	}
	return g, g.String() == name
}

// wanted returns the indexes at which a group of i can be compared.
func (r *report) wanted(i *shard.Inspection, g shard.GroupFiles) []uint64 {
	if r == nil {
		return nil
	}
	var at []uint64
	for _, h := range r.hashes[g.Group] {
		at = append(at, h.Index)
	}
	there := r.dirs[g.Group]
	if there == nil {
		return at
	}
	// The newest entry that both have: behind it a follower may have entries that never counted.
	other := r.files[g.Group]
	for index := min(g.Last, other.Last); index > 0 && index >= max(g.Flushed, other.Flushed); index-- {
		a, errA := i.TermAt(g.Group, index)
		b, errB := there.TermAt(g.Group, index)
		if errors.Join(errA, errB) == nil && a == b && a != 0 {
			r.hashes[g.Group], _ = replay(there, other, []uint64{index}, nil)
			return append(at, index)
		}
	}
	return at
}

// compare holds a group's hashes against those of the report: same is the last entry behind which both are the same, differs says
// where they are not, why says that there is no entry to compare behind. All empty: nothing to compare with.
func (r *report) compare(g stanza.Group, hashes []shard.StateHash) (same, differs, why string) {
	if r == nil {
		return "", "", ""
	}
	if there, ok := r.dirs[g]; ok && len(r.hashes[g]) == 0 {
		if len(there.Faults) > 0 {
			return "", "", "the other is damaged: " + there.Faults[0]
		}
		return "", "", "one begins behind the other's end; let that one catch up first"
	}
	if len(r.hashes[g]) == 0 {
		return "", "", "the other has none of it"
	}
	for _, a := range hashes {
		for _, b := range r.hashes[g] {
			if a.Index != b.Index || a.Term != b.Term || a.Term == 0 {
				continue
			}
			if a.Hash != b.Hash {
				return "", fmt.Sprintf("differs behind entry %d: %016x here, %016x there", a.Index, a.Hash, b.Hash), ""
			}
			same = fmt.Sprint(a.Index)
		}
	}
	if same == "" {
		why = "the report has no entry that is here; compare the other way round, or the directories"
	}
	return same, "", why
}
