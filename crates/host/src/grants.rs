//! Grants: what an operator (or the default policy) allows one plugin.

use temps_protocol::data::Method;

/// What one plugin may do, ready to be asked on every call. Shared as a watch, so a revocation works at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Data methods that it may call.
    pub methods: Vec<Method>,
    /// Event patterns that it may receive.
    pub events: Vec<String>,
    /// Projects that it may see; `None` for all.
    pub projects: Option<Vec<i32>>,
    /// Paths that it may serve to anonymous callers; a path covers itself and everything below it.
    pub public_paths: Vec<String>,
    /// Hosts that it may reach.
    pub egress: Vec<String>,
}

impl Grants {
    /// Whether the plugin may call `method`.
    #[must_use]
    pub fn allows_method(&self, method: Method) -> bool {
        self.methods.contains(&method)
    }

    /// Whether the plugin may see a project.
    #[must_use]
    pub fn allows_project(&self, project_id: i32) -> bool {
        self.projects.as_ref().is_none_or(|projects| projects.contains(&project_id))
    }

    /// Whether the plugin may receive events of a type.
    #[must_use]
    pub fn allows_event(&self, event_type: &str) -> bool {
        self.events.iter().any(|pattern| temps_protocol::event::pattern_matches(pattern, event_type))
    }

    /// Whether the plugin may answer anonymous callers at `path`.
    #[must_use]
    pub fn allows_public_path(&self, path: &str) -> bool {
        self.public_paths.iter().any(|granted| {
            let granted = granted.trim_end_matches('/');
            path.strip_prefix(granted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}
