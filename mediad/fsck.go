package mediad

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"linecard.example/internal/stanza"
)

// ErrDamaged is what Fsck returns when it found damage that it did not repair.
var ErrDamaged = errors.New("the media are damaged")

// fsck is one check over a directory, and over a bucket.
type fsck struct {
	w      io.Writer
	dir    string
	repair bool
	files  *files

	faults, repaired     int
	blobs, refs, uploads int
	bytes                int64
	garbage, leftovers   int
	garbageBytes         int64
	accounts             map[stanza.Account]bool
	quarantine           string
	committed            func(ctx context.Context, h blobHash, size int64) (bool, error) // there is such a blob
	firstFault           string
}

// Fsck reads everything that a mediad keeps below dir, and in its bucket if cfg says so, and writes to w what it found: a line that
// begins with "damaged:" for each fault, with "repaired:" for what it did about it. The mediad must be stopped. Without repair nothing is
// changed. With it, references to blobs that are missing or damaged are removed, and what is damaged or strange is moved below
// dir/damaged; in a bucket, below damaged/. The error is ErrDamaged if faults are left, or says why it could not look.
func Fsck(ctx context.Context, w io.Writer, cfg Config, dir string, repair bool) (err error) {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("mediad: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	c := &fsck{w: w, dir: dir, repair: repair, files: newFiles(), accounts: map[stanza.Account]bool{}, quarantine: filepath.Join(dir, "damaged")}
	if b, err := os.ReadFile(filepath.Join(dir, "format")); err != nil {
		return fmt.Errorf("mediad: %s holds no media: %w", dir, err)
	} else if string(b) != depotFormat {
		return fmt.Errorf("mediad: %s: its format is %q, this linecard knows %q", dir, b, depotFormat)
	}
	if err := c.store(ctx, cfg); err != nil {
		return err
	}
	if err := c.checkUploads(ctx); err != nil {
		return err
	}
	return c.report()
}

// store checks where the blobs are.
func (c *fsck) store(ctx context.Context, cfg Config) error {
	if cfg.Store == StoreS3 {
		b, err := openBucket(cfg.S3)
		if err != nil {
			return err
		}
		return c.checkBucket(ctx, b)
	}
	d := &disk{dir: c.dir, files: c.files, now: time.Now}
	c.committed = func(_ context.Context, h blobHash, size int64) (bool, error) {
		st, err := os.Stat(d.blobPath(h))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil && st.Size() == size, err
	}
	return c.checkDisk(ctx, d)
}

// report says what there is, and whether it is sound.
func (c *fsck) report() error {
	c.printf("%d blobs of %d bytes, %d references of %d accounts, %d uploads", c.blobs, c.bytes, c.refs, len(c.accounts), c.uploads)
	if c.garbage > 0 || c.leftovers > 0 {
		c.printf("garbage: %d blobs of %d bytes without a reference, %d leftovers of uploads; the daemon removes them", c.garbage, c.garbageBytes, c.leftovers)
	}
	if left := c.faults - c.repaired; left > 0 {
		return fmt.Errorf("%w: %d faults, the first is: %s", ErrDamaged, left, c.firstFault)
	}
	c.printf("%s: ok", c.dir)
	return nil
}

func (c *fsck) printf(format string, args ...any) { fmt.Fprintf(c.w, format+"\n", args...) }

// fault notes one, and has it repaired where that was asked for: what says what is done.
func (c *fsck) fault(text, what string, do func() error) error {
	c.faults++
	if c.firstFault == "" {
		c.firstFault = text
	}
	c.printf("damaged: %s", text)
	if !c.repair {
		return nil
	}
	if err := do(); err != nil {
		return fmt.Errorf("mediad: repair of %s: %w", text, err)
	}
	c.repaired++
	c.printf("repaired: %s", what)
	return nil
}

// setAside moves what is damaged out of the way. A name that is taken gets a number.
func (c *fsck) setAside(path string) error {
	if err := c.files.mkdir(c.dir, c.quarantine); err != nil {
		return err
	}
	to := filepath.Join(c.quarantine, filepath.Base(path))
	for n := 1; ; n++ {
		taken, err := exists(to)
		if err != nil {
			return err
		}
		if !taken {
			break
		}
		to = filepath.Join(c.quarantine, fmt.Sprintf("%s.%d", filepath.Base(path), n))
	}
	if err := c.files.rename(path, to); err != nil {
		return err
	}
	return errors.Join(c.files.syncDir(c.quarantine), c.files.syncDir(filepath.Dir(path)))
}

// stray is a name that nothing of ours has.
func (c *fsck) stray(path string) error {
	return c.fault(path+" is nothing of a mediad", "moved to "+c.quarantine, func() error { return c.setAside(path) })
}

// checkUploads checks the records of uploads and the bytes that they say are durable.
func (c *fsck) checkUploads(ctx context.Context) error {
	dir := filepath.Join(c.dir, "uploads")
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, e := range list {
		names[e.Name()] = true
	}
	for _, e := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		id, suffix := e.Name(), filepath.Ext(e.Name())
		id = id[:len(id)-len(suffix)]
		switch {
		case suffix == putSuffix, suffix == dataSuffix && !names[id+stateSuffix]:
			c.leftovers++
		case suffix == dataSuffix:
		case suffix == stateSuffix:
			err = c.checkUpload(ctx, dir, id, names[id+dataSuffix])
		default:
			err = c.stray(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *fsck) checkUpload(ctx context.Context, dir, id string, hasData bool) error {
	state, data := filepath.Join(dir, id+stateSuffix), filepath.Join(dir, id+dataSuffix)
	c.uploads++
	b, err := os.ReadFile(state)
	if err != nil {
		return err
	}
	why := ""
	rec, err := parseRecord(b)
	switch {
	case err != nil:
		why = "its record cannot be read"
	case rec.halfMade(hasData):
		c.uploads--
		c.leftovers++
		return nil
	case rec.phase == phaseFinished:
		return nil // its blob may have been ended since
	case !hasData && rec.phase == phaseComplete:
		is, err := c.committed(ctx, rec.hash, rec.length)
		if err != nil {
			return err
		}
		if !is {
			why = "it is complete, and its bytes are gone"
		}
	case !hasData:
		why = "its bytes are gone"
	default:
		if why, err = checkStaged(ctx, data, &rec); err != nil {
			return err
		}
	}
	if why == "" {
		return nil
	}
	return c.fault("upload "+id+": "+why, "moved to "+c.quarantine, func() error {
		if err := c.setAside(state); err != nil || !hasData {
			return err
		}
		return c.setAside(data)
	})
}

// checkStaged holds the durable bytes of an upload against the hash in its record; "" for what is right.
func checkStaged(ctx context.Context, path string, rec *record) (why string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, reading(ctx, io.LimitReader(f, rec.offset)))
	if err != nil {
		return "", err
	}
	if n < rec.offset {
		return fmt.Sprintf("%d bytes of %d that were durable", n, rec.offset), nil
	}
	if rec.phase == phaseComplete {
		if blobHash(sum.Sum(nil)) != rec.hash {
			return "its bytes have another hash", nil
		}
		return "", nil
	}
	known := sha256.New()
	if u, ok := known.(encoding.BinaryUnmarshaler); !ok || u.UnmarshalBinary(rec.sum) != nil {
		return "", nil // another library wrote it: the bytes are read again when the upload goes on
	}
	if !bytes.Equal(known.Sum(nil), sum.Sum(nil)) {
		return "its bytes have another hash", nil
	}
	return "", nil
}

// readerFunc ends a long copy when ctx does.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func reading(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}
