//! The host's door, tested as any engine must keep it ([`suite`]), what only a file on a disk can suffer, and what only a
//! server can.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chain;
mod crash;
mod full_disk;
mod key_value;
#[cfg(feature = "postgres")]
mod pg;
#[cfg(feature = "postgres")]
mod pg_tampering;
mod seal;
mod suite;
mod tampering;

use std::sync::Arc;

use temps_store::HostStore;
use temps_store::sqlite::SqliteStore;

/// An engine with an empty database, and whatever must live as long as it is used.
struct Engine {
    store: Arc<dyn HostStore>,
    _dir: Option<tempfile::TempDir>,
}

async fn sqlite(_promise: &str) -> Option<Engine> {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("temps.db")).unwrap();
    Some(Engine { store, _dir: Some(dir) })
}

#[cfg(feature = "postgres")]
async fn postgres(promise: &str) -> Option<Engine> {
    let server = temps_testkit::postgres::Postgres::shared(promise)?;
    let store = pg::open(server, &server.fresh_database(), "local").await.unwrap();
    Some(Engine { store, _dir: None })
}

/// Makes a test of each promise in [`suite`] for each engine.
macro_rules! keeps {
    ($($promise:ident),+ $(,)?) => {
        keeps! { @engine sqlite: $($promise),+ }
        #[cfg(feature = "postgres")]
        keeps! { @engine postgres: $($promise),+ }
    };
    (@engine $engine:ident: $($promise:ident),+) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    if let Some(engine) = super::$engine(stringify!($promise)).await {
                        super::suite::$promise(engine.store.clone()).await;
                    }
                }
            )+
        }
    };
}

keeps! {
    publishing_twice_with_one_id_is_publishing_once,
    places_grow_and_the_order_is_kept_whatever_is_published,
    publishers_at_the_same_time_lose_nothing,
    the_head_is_announced_after_the_commit,
    events_are_read_in_both_directions_and_by_id,
    a_page_is_bounded_in_bytes_and_one_event_always_fits,
    news_of_deliveries_is_written_together_and_the_cursor_goes_back_only_when_told,
    a_delivery_that_was_settled_is_its_attempts_and_no_open_row,
    deliveries_are_found_by_plugin_by_state_and_in_pages,
    attempts_are_found_by_time_by_event_and_in_pages_and_their_ids_grow,
    retries_come_with_their_events_soonest_first,
    held_deliveries_are_found_by_project_and_released,
    a_delivery_is_made_due_again_whatever_became_of_it_and_dead_letters_all_at_once,
    a_delivery_is_discarded_and_its_attempts_stay,
    the_history_of_a_stretch_of_the_journal_says_what_was_attempted_and_is_open,
    a_pause_is_kept_until_it_is_lifted,
    a_plugin_record_comes_back_as_it_was_written,
    grants_are_given_once_and_taken_back,
    inspections_are_remembered_by_hash,
    the_audit_trail_is_narrowed_and_paged,
    wire_ids_are_made_once_and_lead_back,
    retention_drops_what_is_old_and_says_what_was_not_settled,
    retention_drops_what_is_too_much_and_places_are_never_given_again,
    retention_keeps_what_is_being_retried_up_to_twice_the_size_and_drops_attempts_from_their_old_end,
    every_commit_of_the_trail_has_a_link_and_the_chain_verifies,
    many_writers_at_the_same_time_make_one_chain,
    what_was_there_before_the_chain_is_said_to_be_outside_of_it,
    retention_cuts_whole_links_and_what_is_left_verifies,
    retention_during_a_verification_does_not_look_like_a_stranger,
    another_key_and_heads_of_another_chain_are_found,
    delivery_attempts_are_in_the_chain_and_retention_cuts_them_alone,
    an_entry_comes_back_as_it_was_written_and_its_revision_grows,
    of_many_writers_that_expect_the_same_revision_exactly_one_wins,
    the_quota_holds_while_many_write,
    what_has_ended_is_not_there_and_is_swept_in_small_commits,
    a_list_is_paged_by_prefix_and_bounded_in_bytes,
    a_plugin_sees_and_clears_only_its_own_entries,
    whatever_a_plugin_does_its_storage_is_as_the_model_says,
    a_configuration_comes_back_and_of_two_changes_to_one_revision_one_wins,
}
