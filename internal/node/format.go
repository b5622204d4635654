package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// dataFormat is the format of everything durable: the records of the logs, the tables, what is in DIR. It goes up when a linecard that knows
// a lower one would take what this one writes for damage, or misread it. One that finds a higher one than its own does not touch the data.
// 2 knows what is for other regions; data of a cluster that has none stay 1, so that the linecard before can have them back.
const (
	dataFormat    = 2
	aloneFormat   = 1
	regionsFormat = 2
)

// format is that of the data that a process of this configuration writes.
func (c Config) format() int {
	if c.Region.Number != 0 || c.Region.Linked() {
		return regionsFormat
	}
	return aloneFormat
}

// written is the format of what is in the data directory, or will be: what was written once stays. A directory that cannot be read is checkFacts's
// to refuse.
func (c Config) written() int {
	if f, err := readFacts(c.Data); err == nil && f != nil {
		return max(f.format, c.format())
	}
	return c.format()
}

// fileFormat names the file of a data directory that says what may read it, and whose it is: a line "linecard-data FORMAT CLUSTER SHARDS".
// Directories that were in use before there was one have format 1.
const (
	fileFormat   = "format"
	formatPrefix = "linecard-data"
)

// errNewer is why a linecard leaves data alone.
var errNewer = errors.New("was written by a newer linecard")

// facts are what everything in a data directory was written under.
type facts struct {
	format  int
	cluster string
	shards  int
}

// readFacts reads DIR/format; nil: there is none. Data of a newer format are an error.
func readFacts(dir string) (*facts, error) {
	path := filepath.Join(dir, fileFormat)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data format: %w", err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 || fields[0] != formatPrefix {
		return nil, damagedFormat(path)
	}
	f := &facts{}
	if f.format, err = strconv.Atoi(fields[1]); err != nil || f.format < 1 {
		return nil, damagedFormat(path)
	}
	if err := checkFormat("data directory "+dir, f.format); err != nil { // whatever else a later one says
		return nil, err
	}
	if len(fields) == 4 {
		f.cluster = fields[2]
		f.shards, err = strconv.Atoi(fields[3])
	}
	if err != nil || f.line() != string(text) {
		return nil, damagedFormat(path)
	}
	return f, nil
}

func damagedFormat(path string) error {
	return fmt.Errorf("%s is damaged: want a line %q", path, formatPrefix+" FORMAT CLUSTER SHARDS")
}

// checkFormat refuses what is of a newer format.
func checkFormat(what string, format int) error {
	if format > dataFormat {
		return fmt.Errorf("%s %w: its format is %d, this one reads up to %d; start the newer one, nothing was changed", what, errNewer, format, dataFormat)
	}
	return nil
}

func (f *facts) line() string {
	return fmt.Sprintf("%s %d %s %d\n", formatPrefix, f.format, f.cluster, f.shards)
}

func (f *facts) write(dir string) error {
	if err := writeFile(filepath.Join(dir, fileFormat), []byte(f.line()), 0o600); err != nil {
		return fmt.Errorf("data format: %w", err)
	}
	return nil
}

// checkFacts refuses a data directory of a newer format, of another cluster or with another number of shards than configured. known: the
// directory says all that, and its format is what this configuration needs.
func (c Config) checkFacts() (known bool, err error) {
	f, err := readFacts(c.Data)
	if err != nil || f == nil {
		return false, err
	}
	if f.cluster != c.Cluster || f.shards != c.Shards {
		return true, fmt.Errorf("data directory %s belongs to cluster %q with %d shards, configured are %q and %d; the number of shards is fixed for ever",
			c.Data, f.cluster, f.shards, c.Cluster, c.Shards)
	}
	return f.format >= c.format(), nil
}

// settleFacts notes what the data are written under, once all of them could be opened.
func (c Config) settleFacts() error {
	return (&facts{format: c.format(), cluster: c.Cluster, shards: c.Shards}).write(c.Data)
}
