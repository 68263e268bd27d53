//! What the bench's programs share: chance that is the same in every run.

pub mod random;

pub mod zipf;
