//! The virtual machine itself.

use temps_testkit::Uml;

#[test]
fn a_command_runs_in_a_kernel_of_its_own_with_groups_of_version_2_and_cannot_change_this_machine() {
    let Some(machine) = Uml::shared("the virtual machine") else { return };
    let output = machine.run("cat /sys/fs/cgroup/cgroup.controllers; id -u; touch /usr/x; exit 3");
    assert_eq!(output.status, 3);
    assert!(output.text.contains("memory") && output.text.contains("pids"), "{output:?}");
    assert!(output.text.contains("Read-only file system"), "{output:?}");
    // What one command leaves, the next one finds: it is one machine.
    std::fs::write(machine.directory().join("given"), "hello").unwrap();
    assert_eq!(machine.run("cat /run/shared/given > /tmp/kept").status, 0);
    assert_eq!(machine.run("cat /tmp/kept").text, "hello");
}
