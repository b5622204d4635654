package metrics

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"linecard.example/internal/stanza"
)

// Budget bounds the lines about clients that a daemon logs: for each reason Burst at once and then one for each Every. The zero Budget
// means DefaultBudget.
type Budget struct {
	Burst int
	Every time.Duration
}

// DefaultBudget is at most 17,280 lines a day for a reason.
var DefaultBudget = Budget{Burst: 20, Every: 5 * time.Second}

// Lines writes one line for each thing that went wrong with a client: a connection refused, a session closed, a message refused.
// Strangers cause such lines as fast as they can connect, so each reason has a budget of its own: a flood of one can neither fill a
// disk nor hide another. What is left out is counted, and the count is in the reason's next line, or in a line of its own when no
// next one comes. Safe for concurrent use.
//
// A line names the reason, and the account and device where they are known. It never tells addresses, keys or content.
type Lines = LinesOf[stanza.Reason]

// Reason is one of a closed enumeration, numbered from 0.
type Reason interface {
	~uint8 | ~uint16
	String() string
}

// LinesOf is Lines for a daemon with reasons of its own.
type LinesOf[R Reason] struct {
	log    *slog.Logger
	budget Budget
	other  R          // counts for reasons that are not of the enumeration
	kinds  []lineKind // by reason
}

type lineKind struct {
	mu      sync.Mutex
	level   slog.Level
	tokens  int
	at      time.Time  // of the last token
	left    int        // lines left out since the last one written
	loudest slog.Level // of them
	waiting bool       // a timer will tell of them
}

// routine is what happens to honest clients every day; it is logged at debug level.
var routine = []stanza.Reason{
	stanza.ReasonDisplaced, stanza.ReasonUnlinked, stanza.ReasonDraining, stanza.ReasonIdleTimeout, stanza.ReasonNonceExhausted,
	stanza.ReasonPeerClosed, stanza.ReasonGap, stanza.ReasonStaleDevices, stanza.ReasonRetry,
}

// NewLines returns Lines that write to log; it retains it.
func NewLines(log *slog.Logger, b Budget) *Lines {
	l := NewLinesOf(log, b, slices.Max(stanza.Reasons), func(r stanza.Reason) slog.Level {
		if slices.Contains(routine, r) {
			return slog.LevelDebug
		}
		return slog.LevelInfo
	})
	l.other = stanza.ReasonInternal
	return l
}

// NewLinesOf returns lines for the reasons up to last, each at its level. It retains log.
func NewLinesOf[R Reason](log *slog.Logger, b Budget, last R, level func(R) slog.Level) *LinesOf[R] {
	if b == (Budget{}) {
		b = DefaultBudget
	}
	l, now := &LinesOf[R]{log: log, budget: b, kinds: make([]lineKind, int(last)+1)}, time.Now()
	for i := range l.kinds {
		k := &l.kinds[i]
		k.level, k.tokens, k.at = level(R(i)), b.Burst, now
	}
	return l
}

// Write writes a line, or counts it when the reason's budget is spent. msg is one of a few constants; account and device are 0 where
// nobody knows them. It allocates only when it writes.
func (l *LinesOf[R]) Write(msg string, reason R, account stanza.Account, device stanza.Device) {
	if int(reason) >= len(l.kinds) {
		reason = l.other
	}
	k := &l.kinds[reason]
	if !l.log.Enabled(context.Background(), k.level) {
		return
	}
	if left, ok := l.take(reason, k, k.level); ok {
		l.write(k.level, msg, reason, account, device, left)
	}
}

// WriteWith is Write at a level and with attributes of the caller's, for what an operator can put right by himself. It allocates.
func (l *LinesOf[R]) WriteWith(level slog.Level, msg string, reason R, attrs ...slog.Attr) {
	if int(reason) >= len(l.kinds) {
		reason = l.other
	}
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	left, ok := l.take(reason, &l.kinds[reason], level)
	if !ok {
		return
	}
	all := append([]slog.Attr{slog.String("reason", reason.String())}, attrs...)
	if left > 0 {
		all = append(all, slog.Int("left_out", left))
	}
	l.log.LogAttrs(context.Background(), level, msg, all...)
}

// take takes a token for a line of a level, with the number of lines left out before it.
func (l *LinesOf[R]) take(reason R, k *lineKind, level slog.Level) (left int, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tokens < l.budget.Burst {
		now := time.Now()
		gained := int(now.Sub(k.at) / l.budget.Every)
		k.at = k.at.Add(time.Duration(gained) * l.budget.Every)
		if k.tokens += gained; k.tokens >= l.budget.Burst {
			k.tokens, k.at = l.budget.Burst, now
		}
	} else {
		k.at = time.Now()
	}
	if k.tokens == 0 {
		if k.left++; k.left == 1 || level > k.loudest {
			k.loudest = level
		}
		if !k.waiting {
			k.waiting = true
			time.AfterFunc(2*l.budget.Every, func() { l.tell(reason, k) }) // a next line is likely before: then there is nothing to tell
		}
		return 0, false
	}
	k.tokens--
	left, k.left = k.left, 0
	return left, true
}

// tell writes how many lines were left out, if no line has said so meanwhile.
func (l *LinesOf[R]) tell(reason R, k *lineKind) {
	k.mu.Lock()
	left, level := k.left, k.loudest
	k.left, k.waiting = 0, false
	k.mu.Unlock()
	if left > 0 {
		l.log.LogAttrs(context.Background(), level, "lines left out", slog.String("reason", reason.String()), slog.Int("left_out", left))
	}
}

func (l *LinesOf[R]) write(level slog.Level, msg string, reason R, account stanza.Account, device stanza.Device, left int) {
	attrs := make([]slog.Attr, 0, 4)
	attrs = append(attrs, slog.String("reason", reason.String()))
	if account != 0 {
		attrs = append(attrs, slog.Uint64("account", uint64(account)))
	}
	if device != 0 {
		attrs = append(attrs, slog.Uint64("device", uint64(device)))
	}
	if left > 0 {
		attrs = append(attrs, slog.Int("left_out", left))
	}
	l.log.LogAttrs(context.Background(), level, msg, attrs...)
}
