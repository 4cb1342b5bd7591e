//! The platform of a test: answers from a script, and a record of what was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use temps_protocol::{ChannelError, ErrorCode};

use super::storage::Storage;

type Answer = Box<dyn Fn(&Value) -> Option<Result<Value, ChannelError>> + Send>;

/// The platform that a plugin talks to in a test. It knows nothing until it is told, and keeps what the plugin stores. Cheap to
/// clone.
#[derive(Clone, Default)]
pub struct TestPlatform {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Answer>,
    projects: HashMap<i64, Value>,
    asked: Vec<(String, Value)>,
    storage: Storage,
}

impl TestPlatform {
    /// Answers `method` by calling `answer` with the parameters. `None` leaves the question unanswered.
    pub fn answer(
        &self,
        method: &str,
        answer: impl Fn(&Value) -> Option<Result<Value, ChannelError>> + Send + 'static,
    ) {
        self.state().answers.insert(method.to_owned(), Box::new(answer));
    }

    /// Lets `get_project` and `list_projects` answer with this project, too.
    pub fn knows_project(&self, id: i32, name: &str) {
        let project = json!({
            "id": id, "name": name, "slug": name, "created_at": "2026-06-06T12:00:00Z", "updated_at": "2026-06-06T12:00:00Z",
        });
        self.state().projects.insert(i64::from(id), project);
    }

    /// Everything that the plugin asked so far: method and parameters.
    #[must_use]
    pub fn asked(&self) -> Vec<(String, Value)> {
        self.state().asked.clone()
    }

    /// The value that the plugin keeps under a key of its storage.
    #[must_use]
    pub fn stored(&self, key: &str) -> Option<Value> {
        self.state().storage.value(key)
    }

    /// The answer to a question, which is recorded. `None` means that none is sent.
    pub(super) fn ask(&self, method: &str, params: &Value) -> Option<Result<Value, ChannelError>> {
        let mut state = self.state();
        state.asked.push((method.to_owned(), params.clone()));
        if let Some(answer) = state.answers.get(method) {
            return answer(params);
        }
        if let Some(answer) = state.storage.ask(method, params) {
            return Some(answer);
        }
        let error = |code, message: &str| Err(ChannelError::new(code, message));
        Some(match method {
            "get_project" => match params.get("project_id").and_then(Value::as_i64) {
                Some(id) => state
                    .projects
                    .get(&id)
                    .cloned()
                    .map_or_else(|| error(ErrorCode::NotFound, "no such project"), Ok),
                None => error(ErrorCode::InvalidParams, "project_id must be an integer"),
            },
            "list_projects" => Ok(Value::Array(state.projects.values().cloned().collect())),
            _ => error(ErrorCode::MethodNotFound, "the test gave no answer for this method"),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for TestPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestPlatform").field("asked", &self.state().asked).finish_non_exhaustive()
    }
}
