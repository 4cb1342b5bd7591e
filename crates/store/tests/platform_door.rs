//! What every engine behind the platform's door promises, on a real file and on a real server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use temps_protocol::{DeploymentInfo, PluginEvent};
use temps_store::{
    DatabaseAddress, DeploymentFilter, DeploymentRecord, NewEnvironmentRecord, NewProjectRecord,
    PlatformStore, PlatformTx, Store, StoreError,
};

/// An empty database, and whatever must live as long as it is used.
struct Database {
    address: DatabaseAddress,
    _dir: Option<tempfile::TempDir>,
}

impl Database {
    async fn open(&self) -> Arc<dyn Store> {
        temps_store::open(&self.address, "local").await.unwrap()
    }
}

fn sqlite(_promise: &str) -> Option<Database> {
    let dir = tempfile::tempdir().unwrap();
    Some(Database { address: DatabaseAddress::Sqlite(dir.path().join("temps.db")), _dir: Some(dir) })
}

#[cfg(feature = "postgres")]
fn postgres(promise: &str) -> Option<Database> {
    let server = temps_testkit::Postgres::shared(promise)?;
    Some(Database { address: server.url(&server.fresh_database()).parse().unwrap(), _dir: None })
}

/// Makes a test of each promise for each engine.
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
                    if let Some(database) = super::$engine(stringify!($promise)) {
                        super::$promise(&database).await;
                    }
                }
            )+
        }
    };
}

keeps! {
    a_change_and_its_event_are_kept_together_also_after_reopening,
    a_refusal_leaves_neither_the_change_nor_its_event,
    removing_a_project_removes_what_belongs_to_it_and_gives_no_id_twice,
    deployments_are_found_by_what_narrows_them_newest_first,
    a_sign_in_code_opens_one_session_while_it_is_fresh,
    a_token_is_found_by_the_hash_of_its_secret_until_it_is_removed,
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_780_000_000_000_000).unwrap()
}

fn event(id: &str) -> PluginEvent {
    let data = serde_json::json!({});
    PluginEvent {
        id: id.into(),
        event_type: "project.created".into(),
        timestamp: now(),
        project_id: None,
        data,
    }
}

fn new_project(slug: &str) -> NewProjectRecord {
    NewProjectRecord {
        name: slug.to_uppercase(),
        slug: slug.into(),
        repo_owner: String::new(),
        repo_name: String::new(),
        main_branch: "main".into(),
        preset: String::new(),
        created_at: now(),
    }
}

fn add_deployment(tx: &dyn PlatformTx, slug: &str, state: &str) -> Result<DeploymentRecord, StoreError> {
    let project = match tx.project_by_slug(slug)? {
        Some(project) => project,
        None => tx.insert_project(&new_project(slug))?,
    };
    let environment = match tx.environment_by_name(project.id, "production")? {
        Some(environment) => environment,
        None => tx.insert_environment(&NewEnvironmentRecord {
            project_id: project.id,
            name: "production".into(),
            slug: "production".into(),
            branch: None,
            is_preview: false,
            created_at: now(),
        })?,
    };
    tx.insert_deployment(DeploymentRecord {
        info: DeploymentInfo {
            id: 0,
            project_id: project.id,
            environment_id: environment.info.id,
            state: state.into(),
            url: Some("http://127.0.0.1:1/".into()),
            branch: None,
            tag: None,
            commit_sha: Some("a1b2c3d".into()),
            commit_message: None,
            commit_author: None,
            created_at: now(),
            started_at: None,
            finished_at: None,
            external_id: None,
        },
        project_slug: slug.into(),
        environment_name: "production".into(),
        error_message: None,
        probe: true,
        ready_at: None,
        updated_at: now(),
    })
}

async fn a_change_and_its_event_are_kept_together_also_after_reopening(database: &Database) {
    let store = database.open().await;
    let door: Arc<dyn PlatformStore> = store.clone();
    let project = door
        .change(|tx| {
            tx.publish(&event("one"))?;
            Ok(Ok::<_, ()>(tx.insert_project(&new_project("shop"))?))
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(*store.head().borrow(), 1);
    store.close().await;
    let again = database.open().await;
    assert_eq!(again.project_by_slug("shop").await.unwrap(), Some(project));
    assert!(again.event("one").await.unwrap().is_some());
}

async fn a_refusal_leaves_neither_the_change_nor_its_event(database: &Database) {
    let store = database.open().await;
    let door: Arc<dyn PlatformStore> = store.clone();
    let refused = door
        .change(|tx| {
            tx.insert_project(&new_project("shop"))?;
            tx.publish(&event("one"))?;
            Ok(Err::<(), _>("no"))
        })
        .await
        .unwrap();
    assert_eq!(refused, Err("no"));
    assert_eq!(store.project_by_slug("shop").await.unwrap(), None);
    assert!(store.event("one").await.unwrap().is_none());
    assert_eq!(*store.head().borrow(), 0, "nothing was announced");
}

async fn removing_a_project_removes_what_belongs_to_it_and_gives_no_id_twice(database: &Database) {
    let store = database.open().await;
    let door: Arc<dyn PlatformStore> = store.clone();
    let old =
        door.change(|tx| Ok(Ok::<_, ()>(add_deployment(tx, "shop", "pending")?))).await.unwrap().unwrap();
    let project_id = old.info.project_id;
    door.change(move |tx| Ok(Ok::<_, ()>(tx.delete_project(project_id)?))).await.unwrap().unwrap();
    assert_eq!(store.deployment(old.info.id).await.unwrap(), None);
    assert_eq!(store.environment(old.info.environment_id).await.unwrap(), None);
    let new =
        door.change(|tx| Ok(Ok::<_, ()>(add_deployment(tx, "shop", "pending")?))).await.unwrap().unwrap();
    assert!(new.info.id > old.info.id && new.info.project_id > project_id);
}

async fn deployments_are_found_by_what_narrows_them_newest_first(database: &Database) {
    let store = database.open().await;
    let door: Arc<dyn PlatformStore> = store.clone();
    for (slug, state) in [("shop", "ready"), ("blog", "ready"), ("shop", "failed"), ("shop", "ready")] {
        door.change(move |tx| Ok(Ok::<_, ()>(add_deployment(tx, slug, state)?))).await.unwrap().unwrap();
    }
    let shop = store.project_by_slug("shop").await.unwrap().unwrap();
    let narrow = |state: Option<&str>, before| DeploymentFilter {
        project_id: Some(shop.id),
        state: state.map(str::to_owned),
        before,
        limit: 10,
        ..DeploymentFilter::default()
    };
    let ids =
        |found: Vec<DeploymentRecord>| found.into_iter().map(|record| record.info.id).collect::<Vec<_>>();
    assert_eq!(ids(store.deployments(narrow(None, None)).await.unwrap()), [4, 3, 1]);
    assert_eq!(ids(store.deployments(narrow(Some("ready"), None)).await.unwrap()), [4, 1]);
    assert_eq!(ids(store.deployments(narrow(None, Some(4))).await.unwrap()), [3, 1]);
    assert_eq!(ids(store.probed(0, 10).await.unwrap()), [1, 2, 3, 4]);
    assert_eq!(shop.last_deployment, Some(now()));
}

async fn a_sign_in_code_opens_one_session_while_it_is_fresh(database: &Database) {
    let store = database.open().await;
    let (hour, minute) = (TimeDelta::hours(1), TimeDelta::minutes(1));
    store.add_login_code([1; 32], now() + minute, now()).await.unwrap();
    store.add_login_code([2; 32], now() + minute, now()).await.unwrap();
    let redeem = |code: u8, at| store.redeem_login_code([code; 32], [code + 10; 32], now() + hour, at);
    assert_eq!(redeem(3, now()).await.unwrap(), None, "a code that nobody made");
    let session = redeem(1, now()).await.unwrap();
    assert!(session.is_some());
    assert_eq!(redeem(1, now()).await.unwrap(), None, "a second time");
    assert_eq!(redeem(2, now() + minute).await.unwrap(), None, "too late");
    assert_eq!(store.session([11; 32], now()).await.unwrap(), session);
    assert_eq!(store.session([11; 32], now() + hour).await.unwrap(), None, "the session has ended");
    store.delete_session([11; 32]).await.unwrap();
    assert_eq!(store.session([11; 32], now()).await.unwrap(), None);
}

async fn a_token_is_found_by_the_hash_of_its_secret_until_it_is_removed(database: &Database) {
    let store = database.open().await;
    let token = store.create_token("ci", false, [7; 32], now(), None).await.unwrap().unwrap();
    assert_eq!(
        store.create_token("ci", true, [8; 32], now(), None).await.unwrap(),
        None,
        "the name is taken"
    );
    assert_eq!(store.token_by_hash([7; 32]).await.unwrap(), Some(token.clone()));
    store.touch_token(token.id, now()).await.unwrap();
    assert_eq!(store.tokens(0, 10).await.unwrap()[0].last_used_at, Some(now()));
    assert!(store.delete_token(token.id).await.unwrap().is_some());
    assert_eq!(store.token_by_hash([7; 32]).await.unwrap(), None);
}
