//! The host's door, tested as any engine must keep it ([`suite`]), and what only a file on a disk can suffer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash;
mod full_disk;
mod suite;

use std::sync::Arc;

use temps_store::HostStore;
use temps_store::sqlite::SqliteStore;

/// An engine with an empty database, and whatever must live as long as it is used.
struct Engine {
    store: Arc<dyn HostStore>,
    _dir: tempfile::TempDir,
}

fn sqlite() -> Engine {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("temps.db")).unwrap();
    Engine { store, _dir: dir }
}

/// Makes a test of each promise in [`suite`] for one engine. A second engine is a second call.
macro_rules! keeps {
    ($engine:ident: $($promise:ident),+ $(,)?) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    let engine = super::$engine();
                    super::suite::$promise(engine.store.clone()).await;
                }
            )+
        }
    };
}

keeps! { sqlite:
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
}
