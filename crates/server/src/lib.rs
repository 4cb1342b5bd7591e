//! The daemon: reference platform, REST, authentication.
