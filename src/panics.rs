//! Where panics of libraries end that take a file at its word.
//!
//! redb and polars may panic over a page that is damaged. Whoever reads a damaged file is told so
//! instead, and the process goes on.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;

thread_local! {
    /// Whether this thread does guarded work, whose panics are told as errors.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Where the last guarded panic was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic that came to an end.
pub struct Panic {
    payload: Box<dyn Any + Send>,
    is_outside: bool,
}

/// Does work that may panic, of which nothing is printed. What a panic leaves half done is the
/// caller's to let go of.
///
/// # Errors
/// The panic, if there was one.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_INSIDE.get() {
                return loud(info);
            }
            let place = info.location().map(ToString::to_string);
            PLACE.set(place.unwrap_or_default());
        }));
    });
    // A panic that another thread hands on leaves none.
    PLACE.take();
    let before = IS_INSIDE.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    let is_outside = !IS_INSIDE.replace(before);
    done.map_err(|payload| Panic { payload, is_outside })
}

/// Calls back from such work. A panic of the call is its own, and is printed.
pub fn outside<T>(call: impl FnOnce() -> T) -> T {
    IS_INSIDE.set(false);
    let called = call();
    IS_INSIDE.set(true);
    called
}

impl Panic {
    /// Goes on with a panic that was not the work's own but of a call [`outside`].
    #[must_use]
    pub fn or_resume(self) -> Panic {
        if self.is_outside { resume_unwind(self.payload) } else { self }
    }

    /// What it said, in a line, and where.
    pub fn told(&self) -> String {
        let text = self.payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| self.payload.downcast_ref::<String>().map(String::as_str));
        let text = text.and_then(|text| text.lines().next()).unwrap_or("for no reason given");
        let place = PLACE.take();
        // Where a registry of packages lies on the machine that built this is nobody's business.
        let package = place.split_once("registry/src/").and_then(|(_, rest)| rest.split_once('/'));
        format!("{text} ({})", package.map_or(place.as_str(), |(_, package)| package))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_and_a_callers_goes_on() {
        let told = caught(|| panic!("a page\nof nonsense")).map_err(|panic| panic.told());
        let told: String = told.map(|()| String::new()).unwrap_or_else(|told| told);
        assert!(told.starts_with("a page (src") || told.contains("panics.rs"), "{told}");
        let work = || caught(|| outside(|| panic!("mine"))).map_err(Panic::or_resume);
        assert!(catch_unwind(|| drop::<Result<(), Panic>>(work())).is_err());
        assert!(!IS_INSIDE.get());
        let outer = caught(|| {
            assert!(caught(|| panic!("inner")).is_err());
            assert!(IS_INSIDE.get());
        });
        assert!(outer.is_ok() && !IS_INSIDE.get());
    }
}
