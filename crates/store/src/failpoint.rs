//! Places between publishing an event and settling it at which a test can end the process, or skip what comes next.
//!
//! `TEMPS_FAILPOINTS=journal.insert=abort@3,commit.after=abort@1` ends the process when it reaches the first point for the third
//! time, or the second for the first time. Only a build with the feature `failpoints` has them: without it, [`failpoint!`]
//! is nothing at all, and the variable is just a name in the environment.
//!
//! [`failpoint!`]: crate::failpoint!

/// Marks a point. `failpoint!("name")` is where the process may end, `failpoint!("name", if condition)` where it may when the
/// condition holds. `failpoint!("name", expression)` also runs the expression when the point's order is `skip`: a deliberate
/// mistake, for tests of tests.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        let _ = $crate::failpoint::reached($name);
    };
    ($name:literal, if $when:expr) => {
        if $when {
            let _ = $crate::failpoint::reached($name);
        }
    };
    ($name:literal, $instead:expr) => {
        if $crate::failpoint::reached($name) == $crate::failpoint::Now::Skip {
            $instead
        }
    };
}

/// Marks a point. This build has none.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {};
    ($name:literal, if $when:expr) => {};
    ($name:literal, $instead:expr) => {};
}

#[cfg(feature = "failpoints")]
pub use armed::{Now, reached};

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::HashMap;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The environment variable that says what is to happen where.
    const VARIABLE: &str = "TEMPS_FAILPOINTS";

    /// What is to happen at a point now.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Now {
        /// Nothing.
        GoOn,
        /// What comes next is left out.
        Skip,
    }

    #[derive(Debug)]
    struct Order {
        abort: bool,
        /// The visit at which it is carried out, counted from 1.
        at: u64,
        visits: AtomicU64,
    }

    /// Counts a visit to a point, and carries out its order. Aborting leaves no time to write, flush or answer anything, like
    /// `kill -9`.
    pub fn reached(name: &str) -> Now {
        static ORDERS: OnceLock<HashMap<String, Order>> = OnceLock::new();
        let orders = ORDERS.get_or_init(|| {
            let text = std::env::var(VARIABLE).unwrap_or_default();
            parse(&text).unwrap_or_else(|error| {
                tracing::error!("{VARIABLE}: {error}");
                std::process::abort()
            })
        });
        let Some(order) = orders.get(name) else { return Now::GoOn };
        if order.visits.fetch_add(1, Ordering::SeqCst) + 1 != order.at {
            return Now::GoOn;
        }
        if order.abort {
            tracing::warn!(failpoint = name, "aborting, as ordered");
            std::process::abort();
        }
        Now::Skip
    }

    fn parse(text: &str) -> Result<HashMap<String, Order>, String> {
        text.split(',').filter(|one| !one.is_empty()).map(parse_one).collect()
    }

    fn parse_one(text: &str) -> Result<(String, Order), String> {
        let wrong = || format!("{text:?} is not like journal.insert=abort@3 or journal.insert=skip@3");
        let (name, order) = text.split_once('=').ok_or_else(wrong)?;
        let (word, at) = order.split_once('@').unwrap_or((order, "1"));
        let abort = match word {
            "abort" => true,
            "skip" => false,
            _ => return Err(wrong()),
        };
        let at = at.parse().ok().filter(|at| *at > 0).ok_or_else(wrong)?;
        Ok((name.to_owned(), Order { abort, at, visits: AtomicU64::new(0) }))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn orders_are_read_and_slips_are_refused() {
            let orders = parse("journal.insert=abort@3,commit.after=skip").unwrap();
            assert!(orders["journal.insert"].abort && orders["journal.insert"].at == 3);
            assert!(!orders["commit.after"].abort && orders["commit.after"].at == 1);
            assert!(parse("").unwrap().is_empty());
            for wrong in ["journal.insert", "a=panic", "a=abort@0", "a=abort@x"] {
                assert!(parse(wrong).is_err(), "{wrong}");
            }
        }
    }
}
