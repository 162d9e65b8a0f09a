//! Whole federations of real processes. One module a subject, named after the diagrams; one program, so that it is
//! linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod propagation;
