"""What a job is: what is asked for, its record, and the rules by which its state changes. Values only, no I/O."""
