package gateway

import (
	"runtime"
	"sync"

	"linecard.example/internal/wire"
)

// step is what a job does. Their order is the order in which a pool serves them: whoever comes back with a ticket is a client and costs
// a third of an XX; what has begun is finished before more begins.
type step uint8

const (
	stepResume step = iota // answer a resume
	stepFinish             // message 3
	stepBegin              // messages 1 and 2
	stepCount
)

var stepNames = [stepCount]string{"resume", "finish", "begin"}

func (s step) String() string { return stepNames[s] }

// stepOf returns the step that a connection waits for in a stage.
func stepOf(s stage) step {
	switch s {
	case stageResumeJob:
		return stepResume
	case stageFinishJob:
		return stepFinish
	}
	return stepBegin
}

// job is one step of a handshake for the pool: everything with Diffie-Hellman in it.
type job struct {
	h     *handshake
	loop  *loop
	step  step
	frame []byte // a copy

	out    []byte      // frame with message 2
	result wire.Finish // of a resume only the keys
	err    error
}

// run does the step. Pool only. Borrows the handshake's transcript and ticket, which the loop leaves alone meanwhile.
func (j *job) run() {
	r := j.h.responder
	switch j.step {
	case stepResume:
		var keys wire.Keys
		j.out, keys, j.err = wire.AnswerResume(make([]byte, 0, wire.AnswerSize), j.h.transcript, j.frame, &j.h.resume.ticket.PSK, nil)
		j.result.RX, j.result.TX = keys.RX, keys.TX
	case stepFinish:
		j.result, j.err = r.ReadFinish(j.frame)
	default:
		if j.err = r.ReadHello(j.h.transcript, j.frame); j.err == nil {
			j.out, j.err = r.AppendReply(make([]byte, 0, wire.MaxReply))
		}
	}
}

// wipe forgets the keys of a finished handshake.
func (j *job) wipe() {
	if j.step == stepBegin {
		return
	}
	clear(j.result.RX[:])
	clear(j.result.TX[:])
	clear(j.result.Payload)
	j.h.responder = nil
}

// pool is the bounded set of goroutines that do Diffie-Hellman, below the loops in the kernel's eyes where that is possible. Each step has
// a queue of its own. Safe for concurrent use.
type pool struct {
	queues [stepCount]chan *job
	stop   chan struct{}
	wg     sync.WaitGroup
	size   int  // goroutines, once started
	nice   bool // below the loops in the kernel's eyes
}

// newPool returns a pool with queues of that length and no goroutines yet.
func newPool(queue int) *pool {
	p := &pool{stop: make(chan struct{})}
	for i := range p.queues {
		p.queues[i] = make(chan *job, queue)
	}
	return p
}

// start starts the goroutines, 0: as many as make sense here. nice gives them threads of low priority where threads have one.
func (p *pool) start(workers int, nice bool) {
	p.size, p.nice = poolSize(workers), nice && threadNice
	for range p.size {
		p.wg.Add(1)
		go p.work()
	}
}

// poolSize resolves the configured number of workers.
func poolSize(configured int) int {
	cores := runtime.NumCPU()
	switch {
	case configured > 0:
		return configured
	case threadNice:
		return cores
	default:
		return max(cores-1, 1)
	}
}

// submit queues a job; false when the queue of its step is full.
func (p *pool) submit(j *job) bool {
	select {
	case p.queues[j.step] <- j:
		return true
	default:
		return false
	}
}

// full reports whether nothing further can begin, neither by a ticket nor by XX.
func (p *pool) full() bool {
	return len(p.queues[stepBegin]) == cap(p.queues[stepBegin]) && len(p.queues[stepResume]) == cap(p.queues[stepResume])
}

// waiting is the number of queued jobs of a step.
func (p *pool) waiting(s step) int { return len(p.queues[s]) }

func (p *pool) close() {
	close(p.stop)
	p.wg.Wait()
}

func (p *pool) work() {
	defer p.wg.Done()
	if p.nice {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and nobody else gets its low priority
		lowerPriority()
	}
	var done [poolBatch]*job
	for {
		n := 0
		for j := p.next(); j != nil; j = p.more() {
			if !j.h.gone.Load() {
				j.run()
			}
			if !p.nice {
				runtime.Gosched() // the next best thing: loops that are ready go first
			}
			done[n] = j
			if n++; n == poolBatch {
				break
			}
		}
		if n == 0 {
			return
		}
		for _, j := range done[:n] {
			j.loop.post(notice{job: j})
		}
		clear(done[:])
	}
}

// poolBatch is how many jobs a worker does before it hands in what it has done, while more are waiting. Each hand-in wakes a loop;
// a job takes less than 0.1 ms.
const poolBatch = 4

// more returns the job that goes first of those that wait already, nil if there is none.
func (p *pool) more() *job {
	for _, q := range p.queues {
		select {
		case j := <-q:
			return j
		default:
		}
	}
	return nil
}

// next waits for a job, nil at the end.
func (p *pool) next() *job {
	if j := p.more(); j != nil {
		return j
	}
	select {
	case j := <-p.queues[stepResume]:
		return j
	case j := <-p.queues[stepFinish]:
		return j
	case j := <-p.queues[stepBegin]:
		return j
	case <-p.stop:
		return nil
	}
}
