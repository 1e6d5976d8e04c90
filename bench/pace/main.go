// Command pace sends HTTP requests at a steady pace and tells how long the answers took. A task as JSON on stdin, what
// was seen as JSON on stdout.
//
// Open loop (rate > 0): request n is due at n/rate, whatever the answers do, and its latency counts from then: one that
// has to wait for a free connection, or for this program, has waited. Closed loop (rate 0): each connection sends its
// next request when it has its answer.
//
// One thread that waits in ppoll: Go's own timers (and those of most event loops) fire up to a millisecond late.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand"
	"net"
	"os"
	"runtime/debug"
	"sort"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// Task says what to send. Requests are whole HTTP/1.1 requests, drawn at random by Seed. An answer is right that has
// Status and contains Expect. What is due in the first WarmUp seconds is not measured.
type Task struct {
	Address     string   `json:"address"`
	Requests    []string `json:"requests"`
	Status      int      `json:"status"`
	Expect      string   `json:"expect"`
	Connections int      `json:"connections"`
	Rate        float64  `json:"rate"`
	WarmUp      float64  `json:"warm_up"`
	Seconds     float64  `json:"seconds"`
	Seed        int64    `json:"seed"`
}

// Outcome tells what was seen. Latencies and lags in ms; Rate: right answers a second. Lag: by how much this program was
// late to look at what was due. Wrong: other answers, and none within drainFor, which count with that latency.
type Outcome struct {
	Sent       int     `json:"sent"`
	Wrong      int     `json:"wrong"`
	FirstWrong string  `json:"first_wrong"`
	Rate       float64 `json:"rate"`
	P50        float64 `json:"p50"`
	P99        float64 `json:"p99"`
	P999       float64 `json:"p999"`
	Longest    float64 `json:"longest"`
	LagP99     float64 `json:"lag_p99"`
	LagLongest float64 `json:"lag_longest"`
}

const drainFor = 5 * time.Second

type pollFd struct {
	fd      int32
	events  int16
	revents int16
}

const pollIn = 1

type connection struct {
	received []byte
	due      time.Duration
	waiting  bool
}

type run struct {
	task        Task
	expect      []byte
	requests    [][]byte
	fds         []pollFd
	connections []connection
	free        []int
	due         []time.Duration // handed out, not yet sent
	random      *rand.Rand
	began       time.Time
	latencies   []float64
	lags        []float64
	outcome     Outcome
}

func main() {
	debug.SetGCPercent(-1)
	const setTimerSlack = 29 // else the kernel wakes us up to 50 µs late
	syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
	var task Task
	if err := json.NewDecoder(os.Stdin).Decode(&task); err != nil {
		fail("the task: %v", err)
	}
	r := &run{task: task, expect: []byte(task.Expect), random: rand.New(rand.NewSource(task.Seed))}
	for _, request := range task.Requests {
		r.requests = append(r.requests, []byte(request))
	}
	r.connect()
	if task.Rate > 0 {
		r.open()
	} else {
		r.closed()
	}
	r.summarise()
	if err := json.NewEncoder(os.Stdout).Encode(r.outcome); err != nil {
		fail("the outcome: %v", err)
	}
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "pace: "+format+"\n", values...)
	os.Exit(1)
}

func (r *run) connect() {
	address, err := net.ResolveTCPAddr("tcp4", r.task.Address)
	if err != nil {
		fail("%v", err)
	}
	to := &syscall.SockaddrInet4{Port: address.Port}
	copy(to.Addr[:], address.IP.To4())
	for i := 0; i < r.task.Connections; i++ {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err == nil {
			err = syscall.Connect(fd, to)
		}
		if err == nil {
			err = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		}
		if err == nil {
			err = syscall.SetNonblock(fd, true)
		}
		if err != nil {
			fail("connecting to %s: %v", r.task.Address, err)
		}
		r.fds = append(r.fds, pollFd{fd: int32(fd), events: pollIn})
		r.connections = append(r.connections, connection{received: make([]byte, 0, 1<<14)})
		r.free = append(r.free, i)
	}
	r.began = time.Now()
}

func (r *run) open() {
	gap := float64(time.Second) / r.task.Rate
	total := int((r.task.WarmUp + r.task.Seconds) * r.task.Rate)
	r.latencies, r.lags = make([]float64, 0, total), make([]float64, 0, total)
	end := time.Duration(float64(total) * gap)
	for next := 0; ; {
		now := time.Since(r.began)
		for ; next < total; next++ {
			due := time.Duration(float64(next) * gap)
			if due > now {
				break
			}
			r.due = append(r.due, due)
			if r.measured(due) {
				r.lags = append(r.lags, ms(now-due))
			}
		}
		for len(r.due) > 0 && len(r.free) > 0 {
			r.send(r.due[0])
			r.due = r.due[1:]
		}
		until := time.Duration(float64(next) * gap)
		if next == total {
			until = end + drainFor
			if now >= until || (len(r.due) == 0 && len(r.free) == len(r.fds)) {
				break
			}
		}
		r.receive(until - now)
	}
	for i := range r.connections {
		if r.connections[i].waiting {
			r.unanswered(r.connections[i].due)
		}
	}
	for _, due := range r.due {
		r.unanswered(due)
	}
}

func (r *run) closed() {
	end := seconds(r.task.WarmUp + r.task.Seconds)
	for {
		now := time.Since(r.began)
		for now < end && len(r.free) > 0 {
			r.send(now)
		}
		if now >= end+drainFor || (now >= end && len(r.free) == len(r.fds)) {
			break
		}
		r.receive(end + drainFor - now)
	}
	for i := range r.connections {
		if r.connections[i].waiting {
			r.unanswered(r.connections[i].due)
		}
	}
}

func (r *run) send(due time.Duration) {
	i := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	request := r.requests[r.random.Intn(len(r.requests))]
	r.connections[i].due, r.connections[i].waiting = due, true
	if written, err := syscall.Write(int(r.fds[i].fd), request); err != nil || written < len(request) {
		fail("sending: %d of %d bytes, %v", written, len(request), err)
	}
}

// receive waits for answers, at most so long, and takes what has come.
func (r *run) receive(most time.Duration) {
	wait := syscall.NsecToTimespec(int64(max(most, 0)))
	ready, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL,
		uintptr(unsafe.Pointer(&r.fds[0])), uintptr(len(r.fds)), uintptr(unsafe.Pointer(&wait)), 0, 0, 0)
	if errno != 0 {
		if errno == syscall.EINTR {
			return
		}
		fail("waiting: %v", errno)
	}
	for i := 0; ready > 0 && i < len(r.fds); i++ {
		if r.fds[i].revents == 0 {
			continue
		}
		ready--
		c := &r.connections[i]
		read, err := syscall.Read(int(r.fds[i].fd), c.received[len(c.received):cap(c.received)])
		if err == syscall.EAGAIN || err == syscall.EINTR {
			continue
		}
		if err != nil || read <= 0 {
			fail("the server closed a connection (%v)", err)
		}
		c.received = c.received[:len(c.received)+read]
		r.take(i)
	}
}

// take looks whether the answer on a connection has come whole.
func (r *run) take(i int) {
	c := &r.connections[i]
	head := bytes.Index(c.received, []byte("\r\n\r\n"))
	if head < 0 {
		return
	}
	length, at := 0, bytes.Index(bytes.ToLower(c.received[:head]), []byte("content-length: "))
	if at >= 0 {
		line := c.received[at+len("content-length: "):]
		length, _ = strconv.Atoi(string(line[:bytes.IndexByte(line, '\r')]))
	}
	whole := head + 4 + length
	if whole > cap(c.received) {
		fail("an answer of %d bytes is longer than expected", whole)
	}
	if len(c.received) < whole {
		return
	}
	status, _ := strconv.Atoi(string(c.received[9:12]))
	right := status == r.task.Status && bytes.Contains(c.received[head:whole], r.expect)
	if !right && r.outcome.FirstWrong == "" {
		r.outcome.FirstWrong = string(c.received[:whole])
	}
	r.record(c.due, time.Since(r.began)-c.due, right)
	c.received, c.waiting = c.received[:0], false
	r.free = append(r.free, i)
}

func (r *run) unanswered(due time.Duration) {
	if r.outcome.FirstWrong == "" {
		r.outcome.FirstWrong = "no answer"
	}
	r.record(due, time.Since(r.began)-due, false)
}

func (r *run) record(due, latency time.Duration, right bool) {
	if !r.measured(due) {
		return
	}
	r.outcome.Sent++
	if !right {
		r.outcome.Wrong++
	}
	r.latencies = append(r.latencies, ms(latency))
}

func (r *run) measured(due time.Duration) bool {
	return due >= seconds(r.task.WarmUp) && due < seconds(r.task.WarmUp+r.task.Seconds)
}

func (r *run) summarise() {
	sort.Float64s(r.latencies)
	sort.Float64s(r.lags)
	o := &r.outcome
	o.Rate = float64(o.Sent-o.Wrong) / r.task.Seconds
	o.P50, o.P99, o.P999 = percentile(r.latencies, 0.5), percentile(r.latencies, 0.99), percentile(r.latencies, 0.999)
	o.Longest = percentile(r.latencies, 1)
	o.LagP99, o.LagLongest = percentile(r.lags, 0.99), percentile(r.lags, 1)
}

// percentile is the smallest value that at least share of the sorted values do not exceed.
func percentile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return values[max(0, int(math.Ceil(float64(len(values))*share))-1)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
