// Package mutation has deliberate mistakes in the protocol that moves records. They
// exist only in builds with the tag mutation, one per process, and `make mutants` fails
// for each that the simulation does not find: a simulation that finds none proves nothing.
//
// It is a leaf. Without the tag On is constant, and nothing of it is left in the program.
package mutation

// Name names a mistake.
type Name string

// The mistakes.
const (
	CommitUnwritten Name = "commit_unwritten" // positions are committed when records were read, before they are written
	CommitPastGap   Name = "commit_past_gap"  // a finished batch moves the position past unfinished ones
	NoFence         Name = "no_fence"         // a lane commits after its partition was given up
	IgnorePartial   Name = "ignore_partial"   // records that a sink names as not written count as delivered
	IgnoreUnknown   Name = "ignore_unknown"   // records of which the sink does not know count as delivered
	LettersEarly    Name = "letters_early"    // dead letters count before they are acknowledged
	SwapDrops       Name = "swap_drops"       // the first batch after a swap of the program is dropped
	ClaimLate       Name = "claim_late"       // at_most_once writes without waiting for the commit
	RetryUnknown    Name = "retry_unknown"    // at_most_once tries again what may have been written
	OffsetsOutside  Name = "offsets_outside"  // exactly_once commits positions beside the transaction
	UnsettledEnd    Name = "unsettled_end"    // exactly_once ends a transaction with writes under way
	CutUnanswered   Name = "cut_unanswered"   // a chain is cut with writes under way
	SourceFirst     Name = "source_first"     // the position of a cut is committed before the cut is durable
	IgnoreChain     Name = "ignore_chain"     // a lane writes what its partition's chain has already
	KeepOpen        Name = "keep_open"        // what a lane left in a chained sink is kept for the next one
)

// All lists them.
func All() []Name {
	return []Name{CommitUnwritten, CommitPastGap, NoFence, IgnorePartial, IgnoreUnknown, LettersEarly, SwapDrops, ClaimLate, RetryUnknown, OffsetsOutside, UnsettledEnd, CutUnanswered, SourceFirst, IgnoreChain, KeepOpen}
}
