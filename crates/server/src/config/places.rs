//! Where things are: settings, state, sockets, plugins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// Directories and files that the daemon uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The settings' file; it need not exist.
    pub config_file: PathBuf,
    /// The database, the admin token, plugins' data and logs.
    pub state_dir: PathBuf,
    /// Sockets.
    pub run_dir: PathBuf,
    /// Directories whose executables are plugins. The first is where the CLI installs.
    pub plugins_dirs: Vec<PathBuf>,
}

impl Places {
    /// Everything below one directory, as for an ordinary user.
    #[must_use]
    pub fn below(home: &Path) -> Self {
        Self {
            config_file: home.join("temps.toml"),
            state_dir: home.join("state"),
            run_dir: home.join("run"),
            plugins_dirs: vec![home.join("plugins")],
        }
    }

    /// The system's directories, as for root; `~/.temps/plugins` is scanned as well when there is a home.
    #[must_use]
    pub fn of_system(home: Option<&Path>) -> Self {
        let mut plugins_dirs = vec![PathBuf::from("/usr/local/lib/temps/plugins")];
        plugins_dirs.extend(home.map(|home| home.join(".temps/plugins")));
        Self {
            config_file: PathBuf::from("/etc/temps/temps.toml"),
            state_dir: PathBuf::from("/var/lib/temps"),
            run_dir: PathBuf::from("/run/temps"),
            plugins_dirs,
        }
    }

    /// The places for an environment: `TEMPS_HOME` wins for everybody, then the system's for root, then `~/.temps`.
    ///
    /// # Errors
    /// [`ConfigError::NoHome`] when nothing says where.
    pub fn find(env: &BTreeMap<String, String>, root: bool) -> Result<Self, ConfigError> {
        let set = |name: &str| env.get(name).filter(|text| !text.is_empty()).map(PathBuf::from);
        let home = set("HOME");
        match (set("TEMPS_HOME"), home) {
            (Some(temps_home), _) => Ok(Self::below(&std::path::absolute(&temps_home).unwrap_or(temps_home))),
            (None, home) if root => Ok(Self::of_system(home.as_deref())),
            (None, Some(home)) => Ok(Self::below(&home.join(".temps"))),
            (None, None) => Err(ConfigError::NoHome),
        }
    }

    /// The file with the first admin token, for the CLI on the same machine; only its owner may read it.
    #[must_use]
    pub fn admin_token_file(&self) -> PathBuf {
        self.state_dir.join("admin-token")
    }

    /// The database.
    #[must_use]
    pub fn database_file(&self) -> PathBuf {
        self.state_dir.join("temps.db")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn root_gets_the_systems_places_and_still_the_plugins_at_home() {
        let places = Places::find(&env(&[("HOME", "/home/op")]), true).unwrap();
        assert_eq!(places.config_file, Path::new("/etc/temps/temps.toml"));
        assert_eq!(places.state_dir, Path::new("/var/lib/temps"));
        assert_eq!(places.run_dir, Path::new("/run/temps"));
        assert!(places.plugins_dirs.contains(&PathBuf::from("/home/op/.temps/plugins")));
    }

    #[test]
    fn temps_home_wins_also_for_root() {
        let env = env(&[("HOME", "/home/op"), ("TEMPS_HOME", "/srv/t")]);
        assert_eq!(Places::find(&env, true).unwrap(), Places::find(&env, false).unwrap());
        assert_eq!(Places::find(&env, true).unwrap().config_file, Path::new("/srv/t/temps.toml"));
    }

    #[test]
    fn an_ordinary_user_gets_everything_below_home() {
        let places = Places::find(&env(&[("HOME", "/home/me")]), false).unwrap();
        assert_eq!(places.plugins_dirs, [PathBuf::from("/home/me/.temps/plugins")]);
        assert_eq!(Places::find(&env(&[]), false), Err(ConfigError::NoHome));
    }
}
