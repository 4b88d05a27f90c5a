package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"keystone/pipeline/mutation"
	"keystone/sinks"
)

// withLetters gives the oldest written task that has letters.
func (l *lane) withLetters() *task {
	for n := l.base; n < l.writeSeq; n++ {
		if t := l.at(n); len(t.letters) > 0 {
			return t
		}
	}
	return nil
}

func (l *lane) hasLetters() bool { return l.withLetters() != nil }

// sendLetters writes the dead letters of a task, for as long as it takes.
func (l *lane) sendLetters(t *task) {
	w := l.w
	t.kept = true
	letters := t.deadLetters()
	for {
		w.lettersOut++
		if w.tx != nil {
			w.tx.wrote, l.touched = true, true
		}
		w.unlock()
		err := guard("dead letters", func() error { return w.spec.DeadLetters.Write(l.ctx, letters) })
		w.mu.Lock()
		w.lettersOut--
		w.changed.Broadcast()
		if t.abandoned {
			break
		}
		if mutation.On(mutation.LettersEarly) {
			err = nil
		}
		n := len(letters) // the sink may have added some meanwhile
		rest := t.unacknowledged(t.letters[:n], letters, err)
		t.lettered += n - rest
		t.letters = slices.Delete(t.letters, rest, n)
		letters = letters[:rest]
		if rest == 0 {
			l.fail(nil)
			t.attend()
			l.settle()
			break
		}
		if isPanic(err) {
			w.abortLocked(err)
		}
		if l.dead() {
			break
		}
		l.wait = WaitingDeadLetters
		l.fail(fmt.Errorf("dead letters: %w", err))
		if w.tx != nil {
			w.breakTransaction(l.err) // some may be in it, and nobody knows which
			break
		}
		if l.backoff == nil {
			l.startBackoff()
		}
		if !l.sleep(l.backoff.NextBackOff()) {
			break
		}
	}
	t.kept = false
	t.leave()
}

// unacknowledged moves the letters that were not taken to the front of both
// slices and counts them. The others are counted by their codes.
func (t *task) unacknowledged(sent []letter, letters []DeadLetter, err error) int {
	var partial *sinks.PartialError
	if err != nil && !errors.As(err, &partial) {
		return len(sent)
	}
	n := 0
	for i := range sent {
		if partial != nil && slices.ContainsFunc(partial.Failures, func(f sinks.Failure) bool { return f.Index == i && f.Outcome != sinks.Applied }) {
			sent[n], letters[n] = sent[i], letters[i]
			n++
		} else {
			t.reasons.add(DeadLettered, sent[i].code, 1)
		}
	}
	return n
}

func (t *task) deadLetters() []DeadLetter {
	w := t.lane.w
	now := time.Now()
	out := make([]DeadLetter, len(t.letters))
	for i, x := range t.letters {
		out[i] = DeadLetter{
			Record: t.in.Records[x.src], Route: w.spec.Route.Addr, Topic: t.in.Topic, Partition: t.in.Partition,
			Identity: t.in.Next.Identity, Code: x.code, Error: x.text, At: x.at, Attempts: x.attempts,
			Time: now, Revision: t.plan.revision,
		}
	}
	return out
}
