//! Where a process may die between two operations on files.

/// Passed before each operation that changes what is on the disk, and after the last one.
#[cfg(not(test))]
#[inline(always)]
pub fn step() {}

/// In the tests of this crate a process that was told so dies at the step of that number, as by
/// `kill -9`: nothing is unwound and nothing is tidied up.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test tells its child by the environment alone")]
pub fn step() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static STEPS: AtomicU64 = AtomicU64::new(0);
    let step = STEPS.fetch_add(1, Ordering::Relaxed) + 1;
    if std::env::var(DIE_AT).is_ok_and(|at| at == step.to_string()) {
        std::process::abort();
    }
}

/// Tells a process the step at which to die.
#[cfg(test)]
pub const DIE_AT: &str = "HABITUS_TEST_DIE_AT";
