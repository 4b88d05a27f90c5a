package reconcile

import "time"

// JobRun is how a job runs.
type JobRun struct {
	Generation int64         `json:"generation"`
	Epoch      int64         `json:"epoch"` // the last one that is committed
	Committed  time.Time     `json:"committed,omitzero"`
	Pause      time.Duration `json:"pause_ns"`      // how long the last epoch held up the reads
	LongPause  time.Duration `json:"long_pause_ns"` // the longest since the job started
	Commit     time.Duration `json:"commit_ns"`     // how long the last commit took
	Rows       int64         `json:"rows"`          // written since the job started
	Operators  []JobOperator `json:"operators"`
	// Checkpoint is the last one that was made since the job started; nil if none was tried.
	Checkpoint *JobCheckpoint `json:"checkpoint,omitempty"`
}

// JobCheckpoint is a copy of a job's state.
type JobCheckpoint struct {
	Number   int64         `json:"number"`
	Epoch    int64         `json:"epoch"`
	Time     time.Time     `json:"time,omitzero"`
	Bytes    int64         `json:"bytes"`    // of the state
	Uploaded int64         `json:"uploaded"` // that no earlier checkpoint had
	Took     time.Duration `json:"took_ns"`
	Error    string        `json:"error,omitempty"` // of the last try, which failed
}

// JobOperator is how an operator of a job is doing, since the job started.
type JobOperator struct {
	Name       string     `json:"name"`
	In         int64      `json:"in"`
	Out        int64      `json:"out"`
	Late       int64      `json:"late"`   // came after their windows had been freed
	Failed     int64      `json:"failed"` // could not be evaluated
	Tombstones int64      `json:"tombstones"`
	Memory     int64      `json:"memory_bytes"` // of its state that is in memory
	Watermark  *time.Time `json:"watermark,omitempty"`
	Ended      bool       `json:"ended,omitempty"` // its input has
	Lost       int64      `json:"lost_before_read,omitempty"`
}
