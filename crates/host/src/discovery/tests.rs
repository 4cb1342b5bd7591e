//! What a scan takes for a plugin, and what `diff` makes of two scans.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::{PermissionsExt, symlink};

fn put(path: &Path, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "#!/bin/sh\n").unwrap();
    set_mode(path, mode);
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn refusal(path: &Path) -> Option<String> {
    look(path).expect("it is a plugin").refusal
}

#[test]
fn executables_and_directories_with_one_are_plugins_and_nothing_else_is() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    put(&at("hello"), 0o755);
    put(&at("notes.txt"), 0o644);
    put(&at(".hidden"), 0o755);
    put(&at("tree/plugin"), 0o755);
    put(&at("plain/readme"), 0o755);
    let scan = scan(&[root.path().to_owned(), at("missing")]);
    let names: Vec<_> = scan.found.keys().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["hello", "tree"]);
    assert!(scan.found.values().all(|found| found.refusal.is_none()));
}

#[test]
fn what_others_may_write_is_refused_with_the_command_that_mends_it() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("hello");
    put(&file, 0o777);
    assert!(refusal(&file).unwrap().contains("chmod go-w"));
    put(&root.path().join("tree/plugin"), 0o755);
    put(&root.path().join("tree/lib/helper.py"), 0o666);
    assert!(refusal(&root.path().join("tree")).unwrap().contains("helper.py"));

    set_mode(&file, 0o755);
    set_mode(root.path(), 0o777);
    let scan = scan(&[root.path().to_owned()]);
    assert!(scan.found[&file].refusal.as_ref().unwrap().contains("chmod go-w"));
}

#[test]
fn a_link_is_followed_only_to_where_nobody_else_can_write() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    put(&outside.path().join("safe/tool"), 0o755);
    put(&outside.path().join("open/tool"), 0o755);
    set_mode(&outside.path().join("open"), 0o777);
    let link = |name: &str, target: &str| {
        let path = root.path().join(name);
        symlink(outside.path().join(target), &path).unwrap();
        path
    };
    assert_eq!(refusal(&link("good", "safe/tool")), None);
    assert!(refusal(&link("bad", "open/tool")).unwrap().contains("leads to"));
}

#[test]
fn links_in_a_tree_stay_inside_or_lead_to_the_system() {
    let root = tempfile::tempdir().unwrap();
    let tree = root.path().join("tree");
    put(&tree.join("plugin"), 0o755);
    put(&root.path().join("secret"), 0o600);
    let with = |target: &str| {
        let link = tree.join("link");
        symlink(target, &link).unwrap();
        let refusal = refusal(&tree);
        std::fs::remove_file(&link).unwrap();
        refusal
    };
    assert_eq!(with("plugin"), None);
    assert!(with("../secret").is_some());
    assert!(with(tree.join("plugin").to_str().unwrap()).unwrap().contains("relative"));
    assert!(with("nowhere").is_some());
    if std::fs::metadata("/bin/sh").unwrap().uid() == 0 {
        assert_eq!(with("/bin/sh"), None);
    }
}

#[test]
fn the_program_of_a_tree_is_no_link_to_somewhere_else() {
    let root = tempfile::tempdir().unwrap();
    let tree = root.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    symlink("/bin/sh", tree.join("plugin")).unwrap();
    assert!(refusal(&tree).unwrap().contains("put the program itself there"));
}

#[test]
fn a_change_deep_in_a_tree_is_seen() {
    let root = tempfile::tempdir().unwrap();
    put(&root.path().join("tree/plugin"), 0o755);
    put(&root.path().join("tree/lib/a.py"), 0o644);
    let before = look(&root.path().join("tree")).unwrap().fingerprint;
    std::fs::write(root.path().join("tree/lib/a.py"), "changed").unwrap();
    assert_ne!(look(&root.path().join("tree")).unwrap().fingerprint, before);
}

fn scan_of(entries: &[(&str, u64, SystemTime)]) -> Scan {
    let found = entries.iter().map(|(path, print, changed_at)| {
        (
            PathBuf::from(path),
            Found { fingerprint: Fingerprint(*print), changed_at: *changed_at, refusal: None },
        )
    });
    Scan { found: found.collect(), unreadable: BTreeSet::new() }
}

#[test]
fn a_file_is_taken_up_once_it_was_still_for_a_second() {
    let now = Now { instant: Instant::now(), wall: SystemTime::now() };
    let later = |s: f64| Now {
        instant: now.instant + Duration::from_secs_f64(s),
        wall: now.wall + Duration::from_secs_f64(s),
    };
    let path = || PathBuf::from("/p/a");
    let (seen, changes) = diff(&BTreeMap::new(), &scan_of(&[("/p/a", 1, now.wall)]), now);
    assert_eq!(changes, [Change::Appeared(path())]);
    assert!(is_unsettled(&seen));
    let (seen, changes) = diff(&seen, &scan_of(&[("/p/a", 2, later(0.9).wall)]), later(0.9));
    assert_eq!(changes, [], "still being written");
    let (seen, changes) = diff(&seen, &scan_of(&[("/p/a", 2, later(0.9).wall)]), later(1.9));
    assert_eq!(changes, [Change::Take(path(), Fingerprint(2))]);
    let (mut seen, changes) = diff(&seen, &scan_of(&[("/p/a", 2, later(0.9).wall)]), later(60.0));
    assert_eq!(changes, [], "told once");
    tell_again(&mut seen, &path());
    let (_, changes) = diff(&seen, &scan_of(&[("/p/a", 2, later(0.9).wall)]), later(61.0));
    assert_eq!(changes, [Change::Take(path(), Fingerprint(2))]);
}

#[test]
fn an_old_file_is_taken_up_at_first_sight() {
    let now = Now { instant: Instant::now(), wall: SystemTime::now() };
    let (_, changes) = diff(&BTreeMap::new(), &scan_of(&[("/p/a", 1, SystemTime::UNIX_EPOCH)]), now);
    assert!(changes.contains(&Change::Take("/p/a".into(), Fingerprint(1))), "{changes:?}");
}

#[test]
fn a_file_that_is_replaced_is_not_taken_for_removed_and_neither_is_one_in_an_unreadable_directory() {
    let now = Now { instant: Instant::now(), wall: SystemTime::now() };
    let later = |s: u64| Now { instant: now.instant + Duration::from_secs(s), wall: now.wall };
    let (seen, _) = diff(&BTreeMap::new(), &scan_of(&[("/p/a", 1, SystemTime::UNIX_EPOCH)]), now);
    let (missing, changes) = diff(&seen, &scan_of(&[]), later(1));
    assert_eq!(changes, []);
    let (_, changes) = diff(&missing, &scan_of(&[]), later(2));
    assert_eq!(changes, [Change::Gone("/p/a".into())]);

    let blind = Scan { unreadable: BTreeSet::from([PathBuf::from("/p")]), ..Scan::default() };
    let (seen, _) = diff(&missing, &blind, later(9));
    let (_, changes) = diff(&seen, &blind, later(99));
    assert_eq!(changes, []);
}

#[test]
fn what_a_link_leads_to_is_not_watched() {
    let root = tempfile::tempdir().unwrap();
    let (plugins, elsewhere) = (root.path().join("plugins"), root.path().join("elsewhere"));
    for directory in [&plugins.join("tree"), &elsewhere] {
        std::fs::create_dir_all(directory).unwrap();
    }
    symlink(&elsewhere, plugins.join("link")).unwrap();
    let mut watch = Watch::start();
    watch.keep_up(std::slice::from_ref(&plugins));
    let watched = inodes_watched_by_this_process();
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    assert!(watched.contains(&inode(&plugins.join("tree"))), "{watched:?}");
    assert!(!watched.contains(&inode(&elsewhere)), "a link made the host watch {}", elsewhere.display());
}

fn inodes_watched_by_this_process() -> BTreeSet<u64> {
    let infos = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts = infos.filter_map(|info| std::fs::read_to_string(info.path()).ok());
    let inode = |line: &str| {
        let (_, rest) = line.split_once("inotify ")?.1.split_once("ino:")?;
        u64::from_str_radix(rest.split(' ').next()?, 16).ok()
    };
    texts.flat_map(|text| text.lines().filter_map(inode).collect::<Vec<_>>()).collect()
}

proptest! {
    #[test]
    fn every_file_that_comes_to_rest_is_told_in_its_last_shape(
        shapes in prop::collection::vec(prop::option::of(0u64..4), 1..30),
    ) {
        let start = Now { instant: Instant::now(), wall: SystemTime::now() };
        let mut now = start;
        let mut seen = BTreeMap::new();
        let mut told = None;
        let mut last = None;
        let steps = shapes.iter().copied().chain(std::iter::repeat_n(*shapes.last().unwrap(), 6));
        for shape in steps {
            now.instant += Duration::from_millis(400);
            now.wall += Duration::from_millis(400);
            let scan = match shape {
                Some(print) => scan_of(&[("/p/a", print, now.wall)]),
                None => scan_of(&[]),
            };
            last = shape;
            let (next, changes) = diff(&seen, &scan, now);
            seen = next;
            for change in changes {
                match change {
                    Change::Take(_, print) => told = Some(print.0),
                    Change::Gone(_) => told = None,
                    _ => {}
                }
            }
        }
        prop_assert_eq!(told, last);
        prop_assert!(!is_unsettled(&seen));
    }
}
