//! Events: from the journal to each plugin, in order, and again after a crash.
