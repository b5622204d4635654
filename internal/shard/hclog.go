package shard

import (
	"context"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger adapts raft's logger to slog, one level lower up to info: every snapshot of every group is info to raft, while the
// transitions that concern an operator are logged by the group itself. Of a group alone, warnings too are one level lower: that it
// heard nobody and elects itself is how it starts.
type raftLogger struct {
	log   *slog.Logger
	alone bool
	name  string
	args  []any
}

var _ hclog.Logger = (*raftLogger)(nil)

func (l *raftLogger) level(level hclog.Level) slog.Level {
	switch level {
	case hclog.Warn:
		if l.alone {
			return slog.LevelDebug
		}
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	case hclog.Info:
		return slog.LevelDebug
	}
	return slog.LevelDebug - 4
}

func (l *raftLogger) enabled(level hclog.Level) bool {
	return l.log.Enabled(context.Background(), l.level(level))
}

// perAttempt are what raft says at each attempt to reach a replica or to be elected, several times a second for each group as long as a
// machine is down. The transport says once that it is, and a group once that it has no leader.
var perAttempt = map[string]bool{
	"failed to appendEntries to": true, "failed to heartbeat to": true, "failed to make requestVote RPC": true,
	"failed to pipeline appendEntries": true, "failed to start pipeline replication to": true, "failed to decode incoming command": true,
	"failed to flush response": true, "Election timeout reached, restarting election": true, "appendEntries rejected, sending older logs": true,
}

// Log implements hclog.Logger.
func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	if level >= hclog.Warn && perAttempt[msg] {
		level = hclog.Info
	}
	if l.enabled(level) {
		l.log.Log(context.Background(), l.level(level), "raft: "+msg, args...)
	}
}

// Trace implements hclog.Logger.
func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }

// Debug implements hclog.Logger.
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }

// Info implements hclog.Logger.
func (l *raftLogger) Info(msg string, args ...any) { l.Log(hclog.Info, msg, args...) }

// Warn implements hclog.Logger.
func (l *raftLogger) Warn(msg string, args ...any) { l.Log(hclog.Warn, msg, args...) }

// Error implements hclog.Logger.
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

// IsTrace implements hclog.Logger.
func (l *raftLogger) IsTrace() bool { return l.enabled(hclog.Trace) }

// IsDebug implements hclog.Logger.
func (l *raftLogger) IsDebug() bool { return l.enabled(hclog.Debug) }

// IsInfo implements hclog.Logger.
func (l *raftLogger) IsInfo() bool { return l.enabled(hclog.Info) }

// IsWarn implements hclog.Logger.
func (l *raftLogger) IsWarn() bool { return l.enabled(hclog.Warn) }

// IsError implements hclog.Logger.
func (l *raftLogger) IsError() bool { return l.enabled(hclog.Error) }

// ImpliedArgs implements hclog.Logger.
func (l *raftLogger) ImpliedArgs() []any { return l.args }

// With implements hclog.Logger.
func (l *raftLogger) With(args ...any) hclog.Logger {
	return &raftLogger{log: l.log.With(args...), alone: l.alone, name: l.name, args: append(l.args[:len(l.args):len(l.args)], args...)}
}

// Name implements hclog.Logger.
func (l *raftLogger) Name() string { return l.name }

// Named implements hclog.Logger.
func (l *raftLogger) Named(name string) hclog.Logger {
	return &raftLogger{log: l.log, alone: l.alone, name: name, args: l.args}
}

// ResetNamed implements hclog.Logger.
func (l *raftLogger) ResetNamed(name string) hclog.Logger { return l.Named(name) }

// SetLevel implements hclog.Logger; the slog handler decides.
func (l *raftLogger) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (l *raftLogger) GetLevel() hclog.Level { return hclog.NoLevel }

// StandardLogger implements hclog.Logger.
func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)
}

// StandardWriter implements hclog.Logger.
func (l *raftLogger) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(o).Writer()
}
