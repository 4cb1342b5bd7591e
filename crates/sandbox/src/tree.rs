//! The tree of processes as `/proc` shows it: who descends from whom, and ending all of it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use rustix::process::{Pid, PidfdFlags, Signal};

/// Longest line of ancestors that is followed. Deeper trees are made by fork bombs, not by programs.
const MAX_DEPTH: usize = 1024;

/// All living processes below `root`, parents before children, `root` left out. Ended ones that wait to be reaped do not count.
#[must_use]
pub fn descendants(root: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut table = None;
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        for child in children(pid, &mut table) {
            if seen.insert(child) {
                open.push(child);
                found.push(child);
            }
        }
    }
    found.retain(|pid| is_alive(*pid));
    found
}

/// Sends SIGKILL to every process below `root`, `root` left out, and returns how many there were.
///
/// New ones may have appeared meanwhile: call it until it returns 0.
pub fn kill_descendants(root: u32) -> usize {
    let below = descendants(root);
    for pid in &below {
        kill_if_below(root, *pid);
    }
    below.len()
}

/// Whether `pid` is `root` or a living process below it.
#[must_use]
pub fn contains(root: u32, pid: u32) -> bool {
    let mut at = pid;
    for _ in 0..MAX_DEPTH {
        if at == root {
            return true;
        }
        match parent(at) {
            Some(next) if next > 0 => at = next,
            _ => return false,
        }
    }
    false
}

/// The parent of a process; `None` when there is no such process.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid).map(|stat| stat.parent)
}

/// The number by which a process is known in its own, innermost pid namespace.
#[must_use]
pub fn namespace_pid(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// The process below `launcher` that has the number `own` in its own pid namespace; `None` if it has ended already.
#[must_use]
pub fn program_pid(launcher: u32, own: i32) -> Option<u32> {
    let own = u32::try_from(own).ok();
    descendants(launcher).into_iter().find(|pid| namespace_pid(*pid) == own)
}

struct Stat {
    state: char,
    parent: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses: what follows the last one is fixed.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some(Stat { state: fields.next()?.chars().next()?, parent: fields.next()?.parse().ok()? })
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

fn children(pid: u32, table: &mut Option<HashMap<u32, Vec<u32>>>) -> Vec<u32> {
    if let Some(listed) = listed_children(pid) {
        return listed;
    }
    let table = table.get_or_insert_with(parents_of_all);
    table.get(&pid).cloned().unwrap_or_default()
}

/// What the kernel lists as children of all threads of a process; `None` where it keeps no such list, or the process is gone.
fn listed_children(pid: u32) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        match std::fs::read_to_string(task.path().join("children")) {
            Ok(list) => all.extend(list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            // The thread ended meanwhile; its children went to another one.
            Err(_) if !task.path().exists() => {}
            Err(_) => return None,
        }
    }
    Some(all)
}

fn parents_of_all() -> HashMap<u32, Vec<u32>> {
    let mut table: HashMap<u32, Vec<u32>> = HashMap::new();
    let Ok(entries) = std::fs::read_dir(PathBuf::from("/proc")) else { return table };
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some(parent) = parent(pid) {
            table.entry(parent).or_default().push(pid);
        }
    }
    table
}

/// Kills a process unless its number was given to somebody else meanwhile.
fn kill_if_below(root: u32, pid: u32) {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    // The descriptor holds on to one process; that it is still the right one is checked after it was opened.
    let held = rustix::process::pidfd_open(target, PidfdFlags::empty());
    if !contains(root, pid) {
        return;
    }
    // Some containers forbid such descriptors. A number is given away again only after all others were, so that the short
    // way from the check to the signal is safe enough where there is nothing better. A process that is gone needs no signal.
    let _ = match held {
        Ok(held) => rustix::process::pidfd_send_signal(&held, Signal::KILL),
        Err(_) => rustix::process::kill_process(target, Signal::KILL),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn children_and_grandchildren_are_found_by_list_and_by_table_and_then_killed() {
        let mut child = Command::new("sh").args(["-c", "sleep 600 & sleep 600"]).spawn().unwrap();
        let this = std::process::id();
        let below = loop {
            let below = descendants(child.id());
            if below.len() == 2 {
                break below;
            }
            std::thread::yield_now();
        };
        assert!(below.iter().all(|pid| contains(this, *pid) && contains(child.id(), *pid)));
        assert!(!contains(child.id(), this));
        let table = parents_of_all();
        let mut listed = table[&child.id()].clone();
        let mut wanted = below.clone();
        listed.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(listed, wanted);
        while kill_descendants(child.id()) > 0 {
            std::thread::yield_now();
        }
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_process_that_is_gone_has_no_parent() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(parent(pid), None);
        assert!(!contains(std::process::id(), pid));
    }
}
