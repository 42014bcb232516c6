"""Everything that is shown of a board: views, reports, proofs and pictures, each a fold of the log."""
