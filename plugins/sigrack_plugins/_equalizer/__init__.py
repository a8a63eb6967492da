"""The parts of the equaliser: text to commands (`text`, `parsing`), commands to exact filters (`commands`, `design`, `iir`,
`graphic`), filters to what the bus goes through (`stages`), and that to taps (`response`)."""
