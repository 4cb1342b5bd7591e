//! The rules of how this project is laid out, as functions from what is there to what is wrong.
//!
//! [`arrows`] judges which crate depends on which, [`sources`] what stands in the files. Both only read; the test in
//! `tests/house.rs` applies them to this checkout, and each rule has a test that shows it refusing something. The
//! crate must not know what any other crate does.

pub mod arrows;
pub mod sources;
