package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"linecard.example/mediad"
)

// FsckMedia checks the media below a data directory whose process is stopped, and in the bucket that the configuration file names; "" has
// no bucket. It writes to w what it found, one line that begins with "damaged:" for each fault, and with repair changes what mediad.Fsck says.
// The error is ErrDamaged if faults are left, or says why it could not look.
func FsckMedia(ctx context.Context, w io.Writer, data, config string, repair bool) error {
	cfg := DefaultConfig().Media
	if config != "" {
		all, err := ReadConfig(config, nil, Media)
		if err != nil {
			return err
		}
		cfg = all.Media
	}
	err := mediad.Fsck(ctx, w, cfg, filepath.Join(data, string(Media)), repair)
	if errors.Is(err, mediad.ErrDamaged) && !repair {
		return fmt.Errorf("%w: %w; --repair removes references to what is lost, and sets the rest aside", ErrDamaged, err)
	}
	return err
}
