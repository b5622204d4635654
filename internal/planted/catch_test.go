package planted

// catch says that a test must fail because of a bug, and with which words: those of the promise that was broken. A test that fails
// otherwise, or panics, or never ends, has caught nothing.
type catch struct {
	pkg  string // folder, from the module's root
	test string // a test, or one of its subtests
	says string // regular expression, looked for in what it writes
	long bool   // only when LINECARD_LONG is set: it takes minutes
}

const (
	acksLost     = `messages were acked before the power was cut, and are lost`
	commandsLost = `power cut before sync .* neither after the \d+ acked commands, nor after any`
	commitsLost  = `k\d+ applied \d+ times, answered \d+ times`
	stateLost    = `raft state is missing .* the tables of .* end at \d+, its snapshot is at \d+`
)

// lossy is the test of lossy links. Its crowd looks at the wire, in front of the client's id rule.
const lossy = "TestLinks/all/lossy,_one_process"

// schedules is the simulation's test.
const schedules = "TestSchedules"

// What the simulation's judge says. It stops at the first schedule that fails, and one mistake shows in more than one way.
const (
	simLost    = `lost \d+ acked messages`
	simState   = `does not start: .*raft state is missing`
	simReceipt = `was reported as delivered, and no device has confirmed it`
	simPassed  = `confirmed id \d+, which it never had`
)

// catches is the table. What can be seen from end to end has a test of a whole system beside that of its package.
var catches = map[Bug][]catch{
	AckBeforeSync: {
		{pkg: "offline", test: "TestPowerCutKeepsAcked", says: acksLost},
		{pkg: "internal/simtest", test: schedules, says: simLost},
	},
	NoSync: {
		{pkg: "offline", test: "TestPowerCutKeepsAcked", says: acksLost},
		{pkg: "internal/shard", test: "TestPowerLoss", says: commitsLost},
		{pkg: "offline", test: "TestPowerCutAtEverySync", says: commandsLost},
		{pkg: "router", test: "TestPowerCutAtEverySync", says: commandsLost, long: true},
		{pkg: "internal/simtest", test: schedules, says: simLost + `|was told unknown_account|` + simState},
	},
	NoDedup: {
		{pkg: "offline", test: "TestAdmission", says: `the same again: admitted, want duplicate`},
		{pkg: "offline", test: "TestMetamorphic", says: `, want duplicate`},
		{pkg: "internal/testkit", test: "TestDuplicateSend/inside", says: `0 duplicates, want 1`},
		{pkg: "internal/testkit", test: lossy, says: `crowd\d+: message \d+ of crowd\d+ after \d+`, long: true},
	},
	PushPastCursor: {
		{pkg: "offline", test: "TestDaemon", says: `message \d+ as delivery 1, want 1`},
		{pkg: "internal/testkit", test: "TestAwayThenLogin/inside", says: `bob/1 lost \d+ acked messages`},
		{pkg: "internal/simtest", test: schedules, says: simLost + `|` + simReceipt},
	},
	TruncateBeforeFlush: {
		{pkg: "internal/shard", test: "TestPowerLoss", says: stateLost},
		{pkg: "offline", test: "TestMetamorphicOnRaft", says: stateLost},
		{pkg: "offline", test: "TestPowerCutAtEverySync", says: stateLost},
		{pkg: "router", test: "TestPowerCutAtEverySync", says: stateLost, long: true},
		{pkg: "internal/simtest", test: schedules, says: simState},
	},
	LastIDsAhead: {
		{pkg: "offline", test: "TestMetamorphic", says: `queue \d+/\d+: \d+ entries, .* want|duplicate, want admitted|\d+ pending, want \d+|totals .* want|fold \d: pending \{.*, want \[`},
		{pkg: "offline", test: "TestWrittenAhead", says: `message 2 applied again after the crash: duplicate`},
		{pkg: "offline", test: "TestPowerCutAtEverySync", says: commandsLost},
	},
	OldAck: {
		{pkg: "offline", test: "TestAckOfEarlierEpoch", says: `an ack of an earlier epoch took a message`},
	},
	AttachmentLost: {
		{pkg: "router", test: "TestSoftStateConverges", says: `attached false .* live is`},
		{pkg: "internal/testkit", test: "TestDaemonRestart", says: `lost \d+ acked messages`, long: true},
		{pkg: "internal/simtest", test: schedules, says: simLost},
	},
	LaterIDFirst: {
		{pkg: "gateway/client", test: "TestRandomServer", says: `counts as a duplicate and was never admitted`},
		{pkg: "internal/testkit", test: "TestFullQueueDrains", says: `bob/1 lost \d+ acked messages`},
		{pkg: "internal/simtest", test: schedules, says: simLost},
	},
	OutOfTurn: {
		{pkg: "gateway", test: "TestDeliveryTurns", says: `got "a again" .*, want "b"`},
		{pkg: "internal/testkit", test: lossy, says: `crowd\d+: message \d+ of crowd\d+ after \d+`, long: true},
		{pkg: "internal/simtest", test: schedules, says: simLost + `|` + simReceipt + `|` + simPassed},
	},
	HeadsAhead: {
		{pkg: "offline", test: "TestMetamorphic", says: `queue \d+/\d+: \d+ entries, .* want|totals .* want|admitted, want|queue_full .*, want`},
		{pkg: "offline", test: "TestWrittenAhead", says: `\d+ messages after the crash, want 3`},
		{pkg: "offline", test: "TestPowerCutAtEverySync", says: commandsLost, long: true},
	},
	WriteAheadLost: {
		{pkg: "offline", test: "TestMetamorphic", says: `message record of .* is missing|entry \d+: \{kind:0 .*, want \{kind:1`},
	},
	FlushWithoutMemory: {
		{pkg: "offline", test: "TestMetamorphic", says: `entry \d+: .*, want`},
	},
	RaisedLost: {
		{pkg: "offline", test: "TestMetamorphic", says: `entry \d+: raised false`},
	},
	StaleReads: {
		{pkg: "internal/shard", test: "TestStaleLeaderIsNotVerified", says: `a leader that was deposed, and whose state is old, is verified`},
	},
	UnknownIsFailure: {
		{pkg: "internal/simtest", test: schedules, says: `which was refused for good|was refused for good, and .* has it`},
	},
	NoIDRule: {
		{pkg: "gateway/client", test: "TestIDRule", says: `Text:"?one"?.*, want "other device"`},
		{pkg: "internal/testkit", test: "TestCrash/together", says: `got id \d+ twice`, long: true},
		{pkg: "internal/simtest", test: schedules, says: `got id \d+ twice`},
	},
}
