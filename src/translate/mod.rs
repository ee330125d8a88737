//! CRI values in, Docker values out, and back: pure functions.
//!
//! **Invariant**: nothing here awaits, reads a clock, touches a file or knows the engine's transport; what a function needs
//! to know of the node comes in as an argument. Incoming CRI structs are taken apart without `..`, so that a new field
//! fails the build until someone decides what it means.
