package gateway

import (
	"context"
	"fmt"
	"log/slog"
)

// engineLog is gnet's log as slog: rare lines about listeners, pollers and accept errors.
type engineLog struct{ log *slog.Logger }

func (e engineLog) write(level slog.Level, format string, args []any) {
	if e.log.Enabled(context.Background(), level) {
		e.log.Log(context.Background(), level, "engine", "detail", fmt.Sprintf(format, args...))
	}
}

func (e engineLog) Debugf(format string, args ...any) { e.write(slog.LevelDebug, format, args) }
func (e engineLog) Infof(format string, args ...any)  { e.write(slog.LevelDebug, format, args) }
func (e engineLog) Warnf(format string, args ...any)  { e.write(slog.LevelWarn, format, args) }
func (e engineLog) Errorf(format string, args ...any) { e.write(slog.LevelError, format, args) }

// Fatalf does not end the process: Run returns an error then, which is its owner's to act on.
func (e engineLog) Fatalf(format string, args ...any) { e.write(slog.LevelError, format, args) }
